//! Admission: the checks that a request passes before sign-in and before its body is read.
//!
//! The order is the rates of the address, the size of the headers, `Host`, and overload. Sign-in and
//! the rates of the user follow in `extract`.

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Version, header},
    middleware::Next,
    response::Response,
};
use vaultsync_protocol::Issues;

use crate::{
    address::{ClientAddress, Peer, client_address},
    app::App,
    error::ApiError,
    request_body,
    response::body_bytes,
};

/// Middleware that admits a request or refuses it, and charges the response to its address.
pub(crate) async fn admit(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let address = request
        .extensions()
        .get::<Peer>()
        .map(|peer| client_address(*peer, request.headers(), &app.trusted_proxies));
    if let Some(address) = address {
        app.rates.charge_address(address).map_err(ApiError::RateLimited)?;
        request.extensions_mut().insert(ClientAddress(address));
    }
    check(&app, &request)?;
    if let Err(overloaded) = refuse_if_overloaded(&app) {
        // Boxed, because most requests do not need it and its future is large.
        Box::pin(request_body::discard(request, &app.limits)).await;
        return Err(overloaded);
    }
    let response = next.run(request).await;
    if let Some(address) = address {
        app.rates.debit_address(address, body_bytes(&response));
    }
    Ok(response)
}

/// Middleware for readiness checks: as [`admit`], but neither a rate nor overload refuses them. A load
/// balancer would take the node out, and its load would overload the other nodes.
pub(crate) async fn admit_probe(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check(&app, &request)?;
    Ok(next.run(request).await)
}

/// Fails if the server is overloaded. Call it again after a wait and before expensive work.
pub(crate) fn refuse_if_overloaded(app: &App) -> Result<(), ApiError> {
    if app.overload.is_overloaded(app.clock.uptime()) {
        return Err(ApiError::Busy("the server is overloaded".to_owned()));
    }
    Ok(())
}

fn check(app: &App, request: &Request) -> Result<(), ApiError> {
    check_header_size(request, app.limits.header_bytes_max)?;
    check_host(request)
}

fn check_header_size(request: &Request, bytes_max: usize) -> Result<(), ApiError> {
    let target = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // On the wire each field has four more bytes: colon, space and line end.
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    if target + request.headers().iter().map(field).sum::<usize>() > bytes_max {
        return Err(ApiError::HeadersTooLarge { bytes_max });
    }
    Ok(())
}

/// RFC 9112, section 3.2: refuses a request without `Host`, or with two. A proxy in front may have
/// routed by the other one.
fn check_host(request: &Request) -> Result<(), ApiError> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let is_optional = request.version() < Version::HTTP_11;
    if hosts == 1 || (hosts == 0 && is_optional) {
        return Ok(());
    }
    let mut issues = Issues::default();
    issues.add("host", "must be sent exactly once");
    Err(ApiError::InvalidRequest(issues.into_vec()))
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use axum::{Router, body::Body, http::Method};
    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Limits, Parts};

    /// The router of an overloaded server, and the folder of its database.
    fn overloaded(limits: Limits) -> (Router, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(Parts { limits, ..Parts::in_folder(folder.path()) });
        app.overload.force();
        (crate::router(app), folder)
    }

    fn request(method: Method, path: &str) -> Request {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "test")
            .body(Body::empty())
            .unwrap()
    }

    async fn send(router: &Router, request: Request) -> (Response, Value) {
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap();
        (Response::from_parts(parts, Body::empty()), json)
    }

    #[tokio::test]
    async fn overload_refuses_every_route_except_the_health_checks() {
        let (router, _folder) = overloaded(Limits::default());
        for (method, path) in [
            (Method::POST, "/api/sync/push"),
            (Method::GET, "/api/sync/pull"),
            (Method::GET, "/api/sync/events"),
            (Method::GET, "/api/sync/info"),
            (Method::GET, "/openapi.json"),
            (Method::GET, "/docs/"),
            (Method::GET, "/nowhere"),
        ] {
            let (response, json) = send(&router, request(method, path)).await;
            assert_eq!(response.status().as_u16(), 503, "{path}");
            assert_eq!(response.headers()["retry-after"], "1", "{path}");
            assert_eq!(json["code"], "unavailable", "{path}");
            assert_eq!(json["reasons"], Value::Null, "{path}");
        }
        let (response, _) = send(&router, request(Method::GET, "/healthz")).await;
        assert_eq!(response.status().as_u16(), 200);
        // This server is not ready because it has no issuer, and that is what it reports.
        let (_, json) = send(&router, request(Method::GET, "/readyz")).await;
        assert_eq!(json["reasons"].as_array().map(Vec::len), Some(1), "{json}");
    }

    #[tokio::test]
    async fn the_rate_of_the_address_comes_before_overload() {
        let (router, _folder) = overloaded(Limits { rate_limit_address: 1, ..Limits::default() });
        let mut statuses = Vec::new();
        for _ in 0..20 {
            let mut request = request(Method::GET, "/api/sync/pull");
            request.extensions_mut().insert(Peer(([192, 0, 2, 1], 1).into()));
            statuses.push(send(&router, request).await.0.status().as_u16());
        }
        assert_eq!((statuses[0], statuses.contains(&429)), (503, true), "{statuses:?}");
    }

    #[tokio::test]
    async fn a_readiness_check_is_charged_to_no_rate() {
        let folder = tempfile::tempdir().unwrap();
        let limits =
            Limits { rate_limit_address: 1, rate_limit_address_bytes: 1, ..Limits::default() };
        let router = crate::router(App::new(Parts { limits, ..Parts::in_folder(folder.path()) }));
        let from_one_address = |path: &str| {
            let mut request = request(Method::GET, path);
            request.extensions_mut().insert(Peer(([192, 0, 2, 1], 1).into()));
            request
        };
        for _ in 0..20 {
            send(&router, from_one_address("/api/sync/info")).await;
            // It is not ready because it has no issuer.
            let (response, _) = send(&router, from_one_address("/readyz")).await;
            assert_eq!(response.status().as_u16(), 503);
        }
        let (response, _) = send(&router, from_one_address("/api/sync/info")).await;
        assert_eq!(response.status().as_u16(), 429);
    }

    #[tokio::test]
    async fn the_body_of_a_refused_request_is_read_only_if_it_is_short() {
        let (router, _folder) = overloaded(Limits::default());
        for (length, is_read) in [("5", true), ("65536", true), ("65537", false)] {
            let was_read = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&was_read);
            let body = stream::once(async move {
                flag.store(true, Ordering::Relaxed);
                Ok::<_, Infallible>("hello")
            });
            let mut request = request(Method::POST, "/api/sync/push");
            request.headers_mut().insert(header::CONTENT_LENGTH, length.parse().unwrap());
            *request.body_mut() = Body::from_stream(body);
            assert_eq!(send(&router, request).await.0.status().as_u16(), 503);
            assert_eq!(was_read.load(Ordering::Relaxed), is_read, "{length} bytes");
        }
    }
}
