//! Which path leads where. One file for each route.

mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod pull;
pub(crate) mod push;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower::util::{MapResponseLayer, option_layer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};
use vaultsync_protocol::Issues;

pub use self::docs::openapi;
use crate::{
    address::{Peer, client_address},
    app::App,
    error::ApiError,
    observe,
};

/// Everything the public address serves.
pub fn router(app: App) -> Router {
    let routes = Router::new()
        .route("/api/sync/push", post(push::push))
        .route("/api/sync/pull", get(pull::pull))
        .route(
            "/api/sync/events",
            get(events::events).head(events::no_stream).fallback(events::no_stream),
        )
        .route("/api/sync/info", get(info::info))
        .route("/readyz", get(health::readyz))
        .route("/openapi.json", get(docs::document))
        .route("/docs", get(docs::to_page))
        .route("/docs/", get(docs::index))
        .route("/docs/{*file}", get(docs::file));
    // Free for everybody: it costs nothing, and a load balancer that is told 429 takes a node out.
    let free = Router::new()
        .route("/healthz", get(health::healthz))
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed });
    let charged =
        with_fallbacks(routes).layer(middleware::from_fn_with_state(app.clone(), within_bounds));
    with_layers(charged.merge(free), app)
}

/// Answers where there is no route, and where a route does not take the method.
pub(crate) fn with_fallbacks(router: Router<App>) -> Router<App> {
    router
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
}

/// What stands around every route. As one layer to axum, which takes some allocations a request for each:
/// eight of them took 5 % more of a pull that finds nothing.
pub(crate) fn with_layers(routes: Router<App>, app: App) -> Router {
    let layers = (
        MapResponseLayer::new(with_security_headers),
        option_layer(cors(&app.cors_origins)),
        middleware::from_fn_with_state(app.clone(), observe::observe),
        CatchPanicLayer::custom(panicked),
    );
    routes.layer(layers).with_state(app)
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

/// Headers that tell a browser to keep nothing, guess nothing and run nothing.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// Adds those that are not there: the API's page sets a policy of its own.
fn with_security_headers(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::Parts;

    const ORIGIN: &str = "https://app.example";

    async fn get_from(router: &Router, path: &str) -> (Response, serde_json::Value) {
        let request = Request::get(path).header("origin", ORIGIN).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap();
        (Response::from_parts(parts, Body::empty()), json)
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_request_and_says_nothing_of_the_inside() {
        async fn panics() -> Response {
            panic!("a secret of the inside")
        }
        let folder = tempfile::tempdir().unwrap();
        let two =
            Router::new().route("/panics", get(panics)).route("/healthz", get(health::healthz));
        let cors_origins = vec![HeaderValue::from_static(ORIGIN)];
        let app = App::new(Parts { cors_origins, ..Parts::in_folder(folder.path()) });
        let router = with_layers(two, app);
        for _ in 0..3 {
            let (response, json) = get_from(&router, "/panics").await;
            assert_eq!(response.status().as_u16(), 500);
            assert_eq!(json["code"], "internal");
            assert_eq!(json["requestId"], response.headers()["x-request-id"].to_str().unwrap());
            assert!(!json.to_string().contains("secret"), "{json}");
            let headers = response.headers();
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["access-control-allow-origin"], ORIGIN);
            let (response, _) = get_from(&router, "/healthz").await;
            assert_eq!(response.status().as_u16(), 200);
        }
    }
}
