//! The routes of the public address, one file each.
//!
//! `routes!` declares a route once, for the router and for the OpenAPI document. To add a route,
//! write its handler in a file of its own and add it to [`api`].
//!
//! Not here: what surrounds every route (`layers`).

mod docs;
mod events;
mod health;
mod info;
mod pull;
mod push;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Version, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use utoipa::openapi::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt as _},
    routes,
};
use vaultsync_protocol::Issues;

use crate::{
    address::{Peer, client_address},
    app::App,
    error::ApiError,
    layers,
    openapi::base,
};

/// Routes that are charged to the address.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(push::push))
        .routes(routes!(pull::pull))
        .routes(routes!(events::events).map(events::refuse_other_methods))
        .routes(routes!(info::info))
        .routes(routes!(health::readyz))
}

/// Routes that are always answered. They cost nothing, and a load balancer that gets a 429 takes the
/// node out.
fn liveness() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(health::healthz))
}

/// The router of the public address.
pub fn router(app: App) -> Router {
    let served = Router::from(api()).merge(docs::router(&openapi()));
    let served =
        layers::with_fallbacks(served).layer(from_fn_with_state(app.clone(), within_bounds));
    let liveness = layers::with_method_fallback(liveness().into());
    layers::with_layers(served.merge(liveness), app)
}

/// The OpenAPI 3.1 document of the public address.
pub fn openapi() -> OpenApi {
    let mut document = base();
    for routes in [api(), liveness()] {
        document.merge(routes.into_openapi());
    }
    document
}

/// Charges the address before anything else is done for it, and lets pass what is within bounds.
async fn within_bounds(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(peer) = request.extensions().get::<Peer>() {
        let address = client_address(*peer, request.headers(), &app.trusted_proxies);
        app.rates.charge_address(address).map_err(ApiError::RateLimited)?;
    }
    let bytes_max = app.limits.header_bytes_max;
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // Four bytes for the colon, the blank and the line's end, as they stand on the wire.
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    if line + request.headers().iter().map(field).sum::<usize>() > bytes_max {
        return Err(ApiError::HeadersTooLarge { bytes_max });
    }
    check_host(&request)?;
    Ok(next.run(request).await)
}

/// RFC 9112, section 3.2: a request that names no host, or two, is refused. What stands in front
/// may have gone by the other one.
fn check_host(request: &Request) -> Result<(), ApiError> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let may_be_missing = request.version() < Version::HTTP_11;
    if hosts == 1 || (hosts == 0 && may_be_missing) {
        return Ok(());
    }
    let mut issues = Issues::default();
    issues.add("host", "must be sent once");
    Err(ApiError::InvalidRequest(issues.into_vec()))
}
