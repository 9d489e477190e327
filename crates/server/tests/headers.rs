//! Security headers and CORS.

use reqwest::Method;
use serde_json::json;
use vaultsync_server::Limits;
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, backends, operation, push_of, send};

// The other tests do not reach the store.
backends!(
    every_response_forbids_browsers_to_store_or_run_it,
    a_page_can_read_failures_too,
    a_response_declares_its_content_type,
);

const APP: &str = "https://app.example";

async fn server_with_cors() -> TestServer {
    let cors_origins = vec![APP, "http://localhost:5173"];
    TestServer::start_with(Setup { cors_origins, ..Setup::on(Backend::Sqlite) }).await
}

fn get(server: &TestServer, path: &str) -> reqwest::RequestBuilder {
    server.request(Method::GET, path)
}

fn preflight(server: &TestServer, origin: &str, method: &str) -> reqwest::RequestBuilder {
    server
        .request(Method::OPTIONS, "/api/sync/push")
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,content-type")
}

/// The names in a list header, in lower case and sorted.
fn header_list(answer: &Answer, name: &str) -> Vec<String> {
    let mut names: Vec<_> = answer
        .headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str().expect("text").split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn assert_security_headers(answer: &Answer) {
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none';"));
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert!(!answer.headers.contains_key("server"));
    assert!(!answer.headers.contains_key("set-cookie"));
}

#[track_caller]
fn assert_no_cors(answer: &Answer) {
    let mut names = answer.headers.keys().map(reqwest::header::HeaderName::as_str);
    assert!(names.all(|name| name != "access-control-allow-origin"), "{answer:?}");
}

#[track_caller]
fn assert_cors_for(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), origin, "{answer:?}");
    assert!(header_list(answer, "vary").contains(&"origin".to_owned()), "{answer:?}");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
}

async fn conflict(server: &TestServer) -> Answer {
    assert_eq!(server.push("ada", &push_of([operation("a", None, b"one")])).await.status, 200);
    let conflict = server.push("ada", &push_of([operation("a", None, b"two")])).await;
    assert_eq!(conflict.status, 409);
    conflict
}

async fn every_response_forbids_browsers_to_store_or_run_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    assert_security_headers(&conflict(&server).await);
    assert_security_headers(&server.pull("ada", "").await);
    assert_security_headers(&server.pull("ada", "?limit=nonsense").await);
    for (path, status) in [
        ("/api/sync/pull", 401),
        ("/api/sync/push", 405),
        ("/api/sync/info", 200),
        ("/nothing", 404),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/openapi.json", 200),
        ("/docs/", 200),
        ("/docs/swagger-ui.css", 200),
        ("/docs/nothing.js", 404),
        ("/docs/%ff%fe", 404),
        ("/docs/..%2f..%2fCargo.toml", 404),
    ] {
        let answer = send(get(&server, path)).await;
        assert_eq!(answer.status, status, "{path}");
        assert_security_headers(&answer);
        assert_ne!(answer.header("x-request-id"), "", "{path}");
        if status >= 400 {
            assert_ne!(answer.json()["code"], serde_json::Value::Null, "{path}");
        }
    }
}

#[tokio::test]
async fn a_busy_server_sends_security_headers_too() {
    let limits = Limits { rate_limit: 0, memory_bytes_max: 1024, ..Limits::default() };
    let server = TestServer::start_with(Setup { limits, ..Setup::on(Backend::Sqlite) }).await;
    let busy = server.push("ada", &push_of([operation("a", None, &[7; 5000])])).await;
    assert_eq!(busy.status, 503);
    assert_security_headers(&busy);
}

#[tokio::test]
async fn no_page_can_call_without_configured_origins() {
    let server = TestServer::start(Backend::Sqlite).await;
    let answer = send(get(&server, "/api/sync/info").header("origin", APP)).await;
    assert_eq!(answer.status, 200);
    assert_no_cors(&answer);
    let preflight = send(preflight(&server, APP, "POST")).await;
    assert_eq!((preflight.status, &preflight.json()["code"]), (405, &"method_not_allowed".into()));
    assert_eq!(preflight.header("allow"), "POST");
    assert_names_the_setting(&preflight, APP);
    assert_no_cors(&preflight);
    assert_security_headers(&preflight);
    let no_preflight = send(server.request(Method::OPTIONS, "/api/sync/push")).await;
    assert_eq!(no_preflight.status, 405);
    assert!(!no_preflight.text.contains("cors_origins"), "{no_preflight:?}");
}

/// The response names the origin, and the setting that would allow it.
#[track_caller]
fn assert_names_the_setting(answer: &Answer, origin: &str) {
    let error = answer.json()["error"].as_str().expect("a message").to_owned();
    assert!(error.contains(&format!("{origin:?}")), "{error}");
    assert!(error.contains("cors_origins (VAULTSYNC_CORS_ORIGINS)"), "{error}");
}

#[tokio::test]
async fn a_page_of_a_configured_origin_can_call() {
    let server = server_with_cors().await;
    for origin in [APP, "http://localhost:5173"] {
        for method in ["GET", "POST"] {
            let preflight = send(preflight(&server, origin, method)).await;
            assert_eq!(preflight.status, 200, "without a token: {preflight:?}");
            assert_cors_for(&preflight, origin);
            let allowed = header_list(&preflight, "access-control-allow-headers");
            assert!(allowed.contains(&"authorization".to_owned()), "{allowed:?}");
            assert!(allowed.contains(&"content-type".to_owned()), "{allowed:?}");
            assert!(!allowed.contains(&"*".to_owned()));
            let methods = header_list(&preflight, "access-control-allow-methods");
            assert_eq!(methods, ["delete", "get", "post"]);
            assert_ne!(preflight.header("access-control-max-age"), "");
        }
        let answer = send(get(&server, "/api/sync/info").header("origin", origin)).await;
        assert_eq!(answer.status, 200);
        assert_cors_for(&answer, origin);
        let exposed = header_list(&answer, "access-control-expose-headers");
        for name in
            ["retry-after", "ratelimit", "ratelimit-policy", "www-authenticate", "x-request-id"]
        {
            assert!(exposed.contains(&name.to_owned()), "{exposed:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_a_configured_origin_can_send_the_headers_of_tracing_libraries() {
    let server = server_with_cors().await;
    for names in [
        "authorization,baggage,content-type,sentry-trace",
        "authorization,traceparent,tracestate",
        "authorization,x-datadog-parent-id,x-datadog-trace-id",
        "x-request-id",
    ] {
        let request = server.request(Method::OPTIONS, "/api/sync/push").header("origin", APP);
        let request = request.header("access-control-request-method", "POST");
        let preflight = send(request.header("access-control-request-headers", names)).await;
        assert_eq!(preflight.status, 200, "{names}");
        assert_cors_for(&preflight, APP);
        let wanted: Vec<_> = names.split(',').collect();
        assert_eq!(header_list(&preflight, "access-control-allow-headers"), wanted);
        assert_ne!(preflight.header("x-request-id"), "");
    }
    let push = server.request(Method::POST, "/api/sync/push").bearer_auth(server.token("ada"));
    let push = push
        .header("origin", APP)
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("baggage", "sentry-environment=production")
        .json(&push_of([operation("a", None, b"one")]));
    assert_eq!(send(push).await.status, 200);
}

async fn a_page_can_read_failures_too(backend: Backend) {
    let limits = Limits { rate_limit: 1, ..Limits::default() };
    let cors_origins = vec![APP];
    let server = TestServer::start_with(Setup { limits, cors_origins, ..Setup::on(backend) }).await;
    let refused = send(get(&server, "/api/sync/pull").header("origin", APP)).await;
    assert_eq!(refused.status, 401);
    assert_cors_for(&refused, APP);
    assert_cors_for(&send(get(&server, "/nothing").header("origin", APP)).await, APP);

    let token = server.token("ada");
    let push = |ciphertext: &[u8]| {
        let request = server.request(Method::POST, "/api/sync/push").bearer_auth(&token);
        send(request.header("origin", APP).json(&push_of([operation("a", None, ciphertext)])))
    };
    assert_eq!(push(b"one").await.status, 200);
    let conflict = push(b"two").await;
    assert_eq!(conflict.status, 409);
    assert_cors_for(&conflict, APP);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = push(b"two").await;
        assert_cors_for(&answer, APP);
        statuses.push(answer.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn pages_of_other_origins_cannot_call() {
    let server = server_with_cors().await;
    for origin in [
        "null",
        "https://evil.example",
        "https://app.example.evil.example",
        "https://evil-app.example",
        "http://app.example",
        "https://app.example:8443",
        "https://APP.example",
        "https://app.example/",
        "https://app.example https://evil.example",
        "*",
        "",
    ] {
        let preflight = send(preflight(&server, origin, "POST")).await;
        assert_eq!((preflight.status, &preflight.json()["code"]), (403, &"forbidden".into()));
        assert_names_the_setting(&preflight, origin);
        assert_no_cors(&preflight);
        assert_security_headers(&preflight);
        assert_ne!(preflight.header("x-request-id"), "");
        let answer = send(get(&server, "/api/sync/info").header("origin", origin)).await;
        assert_eq!(answer.status, 200);
        assert_no_cors(&answer);
        assert!(header_list(&answer, "vary").contains(&"origin".to_owned()), "{answer:?}");
    }
    let no_page = send(get(&server, "/api/sync/info")).await;
    assert_no_cors(&no_page);
    assert!(
        header_list(&no_page, "vary").contains(&"origin".to_owned()),
        "caches must store responses by origin"
    );
}

async fn a_response_declares_its_content_type(backend: Backend) {
    let server = TestServer::start(backend).await;
    let page = server.pull("ada", "").await;
    assert_eq!(page.header("content-type"), "application/json");
    assert_eq!(page.json()["records"], json!([]));
    let docs = send(get(&server, "/docs/")).await;
    assert!(docs.header("content-type").starts_with("text/html"), "{docs:?}");
    let redirect = send(get(&server, "/docs")).await;
    assert!(redirect.text.contains("<html"), "/docs redirects to /docs/");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let redirect = client.build().expect("a client").get(server.url("/docs"));
    let redirect = send(redirect).await;
    assert_eq!((redirect.status, redirect.header("location")), (308, "docs/"), "relative");
}
