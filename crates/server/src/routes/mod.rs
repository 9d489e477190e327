//! Which path leads where. One file for each route.

mod docs;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod pull;
pub(crate) mod push;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    set_header::SetResponseHeaderLayer,
};

pub use self::docs::openapi;
use crate::{
    address::{Peer, client_address},
    answer::ApiError,
    app::App,
    observe,
};

/// Everything the public address serves.
pub fn router(app: App) -> Router {
    let sync = Router::new()
        .route("/api/sync/push", post(push::push))
        .route("/api/sync/pull", get(pull::pull))
        .route("/api/sync/info", get(info::info))
        .route_layer(middleware::from_fn_with_state(app.clone(), within_rate_and_size));
    let router = Router::new()
        .merge(sync)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/openapi.json", get(docs::document))
        .route("/docs", get(docs::to_page))
        .route("/docs/", get(docs::index))
        .route("/docs/{*file}", get(docs::file))
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app.clone(), observe::observe));
    let router = match cors(&app.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    with_security_headers(router).with_state(app)
}

/// Charges the address before anything else is done for it.
async fn within_rate_and_size(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(peer) = request.extensions().get::<Peer>() {
        let address = client_address(*peer, request.headers(), &app.trusted_proxies);
        app.rates.charge_address(address).map_err(ApiError::TooMany)?;
    }
    let bytes_max = app.limits.header_bytes_max;
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // Four bytes for the colon, the blank and the line's end, as they stand on the wire.
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    if line + request.headers().iter().map(field).sum::<usize>() > bytes_max {
        return Err(ApiError::HeadersTooLarge { bytes_max });
    }
    Ok(next.run(request).await)
}

/// A panic fails the request it happened in and no other.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    ApiError::Internal(format!("panic: {what}")).into_response()
}

/// Only the origins named, and never with cookies.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let exposed = ["retry-after", "ratelimit", "ratelimit-policy", "x-request-id"];
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().cloned()))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, observe::REQUEST_ID])
            .expose_headers(exposed.map(HeaderName::from_static))
            .max_age(std::time::Duration::from_secs(3600)),
    )
}

/// Headers that tell a browser to keep nothing, guess nothing and run nothing. The API's page sets
/// a policy of its own.
fn with_security_headers(router: Router<App>) -> Router<App> {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ))
}
