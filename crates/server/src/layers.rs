//! What surrounds the routes of both addresses: fallbacks, observation, CORS, security headers, and
//! the handling of panics.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, header},
    middleware,
    response::{IntoResponse, Response},
};
use tower::util::{MapResponseLayer, option_layer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};
use vaultsync_tasks::panic_message;

use crate::{app::App, error::ApiError, observe};

/// Adds the responses for paths without a route and for methods that a route does not support.
pub(crate) fn with_fallbacks(routes: Router<App>) -> Router<App> {
    with_method_fallback(routes.fallback(|| async { ApiError::NotFound }))
}

/// Adds the response for methods that a route does not support.
pub(crate) fn with_method_fallback(routes: Router<App>) -> Router<App> {
    routes.method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
}

/// Adds the layers around every route.
///
/// They are one layer to axum, which allocates several times a request for each: eight layers took
/// 5 % more time for a pull that finds nothing.
pub(crate) fn with_layers(routes: Router<App>, app: App) -> Router {
    let layers = (
        MapResponseLayer::new(with_security_headers),
        middleware::from_fn_with_state(app.clone(), observe::observe),
        // Within `observe`, so that preflights are logged and have a request id too.
        option_layer(cors(app.origins.listed())),
        CatchPanicLayer::custom(panic_response),
    );
    routes.layer(layers).with_state(app)
}

/// The response of a request whose handler panicked. No other request is affected.
#[expect(clippy::needless_pass_by_value, reason = "the layer passes the panic by value")]
fn panic_response(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic_message(&*panic);
    ApiError::Internal(format!("panic: {message}")).into_response()
}

/// CORS for the configured origins only, and without credentials.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let exposed =
        ["retry-after", "ratelimit", "ratelimit-policy", "www-authenticate", "x-request-id"];
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().cloned()))
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            // Whatever a listed page wants to send. Tracing libraries add headers of their own to every
            // request (`traceparent`, `baggage`, `sentry-trace` and others), and a header that is not
            // allowed would fail the request. A list would keep nothing out: the page is trusted, and
            // other clients send any header.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed.map(HeaderName::from_static))
            .max_age(std::time::Duration::from_secs(3600)),
    )
}

/// Headers that forbid a browser to store, sniff or run a response.
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

/// Adds the security headers that are missing: the API page sets a policy of its own.
fn with_security_headers(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Request, routing::get};
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
    async fn a_panic_fails_only_its_own_request_and_is_not_revealed() {
        async fn panics() -> Response {
            panic!("an internal secret")
        }
        async fn works() -> &'static str {
            "{}"
        }
        let folder = tempfile::tempdir().unwrap();
        let two = Router::new().route("/panics", get(panics)).route("/works", get(works));
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
            let (response, _) = get_from(&router, "/works").await;
            assert_eq!(response.status().as_u16(), 200);
        }
    }

    #[tokio::test]
    async fn a_request_whose_log_line_panics_gets_its_response() {
        struct Panics;
        impl std::io::Write for Panics {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                panic!("the log")
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let works = Router::new().route("/works", get(|| async { "{}" }));
        let router = with_layers(works, App::new(Parts::in_folder(folder.path())));
        let subscriber = tracing_subscriber::fmt().with_writer(|| Panics).finish();
        let _scope = tracing::subscriber::set_default(subscriber);
        let (response, _) = get_from(&router, "/works").await;
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.headers().contains_key("x-request-id"));
    }
}
