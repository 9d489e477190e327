//! Unknown paths and unsupported methods.

use reqwest::Method;
use vaultsync_testkit::{Backend, backends};

use crate::{Target, Want, check_refusal, raw, want};

backends!(
    an_unknown_path_is_not_found,
    dots_in_a_path_are_not_resolved,
    the_name_of_a_vault_follows_its_rule,
    an_unsupported_method_gets_a_405_with_allow,
    an_unsupported_method_is_refused_before_sign_in,
    a_head_gets_the_headers_of_a_get,
    the_body_of_a_get_is_ignored,
);

async fn an_unknown_path_is_not_found(backend: Backend) {
    let target = Target::start(backend).await;
    for path in [
        "/",
        "/favicon.ico",
        "/robots.txt",
        "/.env",
        "/api",
        "/api/",
        "/api/sync",
        "/api/sync/",
        "/api/sync/push/",
        "/api/sync/pull/",
        "/api/sync/pull/x",
        "/api/sync/vaults/",
        "/api/sync/vaults/notes/",
        "/api/sync/vaults/notes/vault",
        "/api/sync/vaults/notes/account",
        "/api/sync/vaults/notes/info",
        "/api/sync/vaults/notes/vaults",
        "/api/sync/vaults/notes/pull/",
        "/api/sync/vaults/a/b/pull",
        "/api/sync/vaults/a/vaults/b/pull",
        "/api/sync/pulls",
        "/api/sync/events/",
        "/api/sync/Pull",
        "/API/SYNC/PULL",
        "/api/v1/sync/pull",
        "/api/sync/pull;x=1",
        "/api/sync/pull%00",
        "/api/sync/pull%20",
        "/api/sync/pull%2F",
        "/api/sync/%70ull",
        "/api%2Fsync%2Fpull",
        "/api/sync//pull",
        "//api/sync/pull",
        "/api//sync/pull",
        "/healthz/",
        "/readyz/x",
        "/openapi.json/",
        "/openapi.yaml",
        "/metrics",
        "/docs/none",
        "/docs/index.html/x",
        "/docs/%FF",
        "/docs/%00",
        "/docs/..%2f..%2fCargo.toml",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            if path.starts_with("/docs/") && method != Method::GET {
                continue;
            }
            let what = format!("{method} {path}");
            let request = target.request(method, path);
            target.check(&what, request, want(404, "not_found")).await;
        }
    }
}

async fn the_name_of_a_vault_follows_its_rule(backend: Backend) {
    let target = Target::start(backend).await;
    let (long, many) = ("a".repeat(65), "a".repeat(5000));
    for name in [
        "Notes",
        "-a",
        "_a",
        ".a",
        ".",
        "..",
        "a%20b",
        "a+b",
        "a%00",
        "a%2Fb",
        "",
        "a,b",
        "a;b",
        "a:b",
        "%C3%A4",
        "%FF",
        "%",
        "a%",
        "a~",
        "default%0A",
        "%6Eotes",
        "%6eotes",
        "note%73",
        "a%2Eb",
        "a%5Fb",
        "*",
        "{vault}",
        "$",
        "@",
        long.as_str(),
        many.as_str(),
    ] {
        let want = Want { status: 400, code: "invalid_request", issues: &["vault"] };
        for route in ["pull", "events", "manifest", "history", "usage", "export"] {
            let path = format!("/api/sync/vaults/{name}/{route}");
            if ["/../", "/./"].iter().any(|dots| path.contains(dots)) {
                // Clients resolve these themselves.
                continue;
            }
            let request = target.request(Method::GET, &path);
            target.check(&path, request, want).await;
        }
    }
}

async fn dots_in_a_path_are_not_resolved(backend: Backend) {
    let target = Target::start(backend).await;
    let token = target.server.token(crate::USER);
    for path in [
        "/api/sync/../sync/pull",
        "/api/sync/./pull",
        "/./api/sync/pull",
        "/../api/sync/pull",
        "/api/sync/%2e/pull",
        "/api/sync/%2e%2e/sync/pull",
        "/api/sync/x/..%2Fpull",
        "/api/sync/pull/..",
        "/api/sync/pull/.",
        "/docs/../api/sync/pull",
        "/docs/%2e%2e/api/sync/pull",
        "/docs/../../../../etc/passwd",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/..",
        "/%2e%2e/%2e%2e/etc/passwd",
    ] {
        let request = raw::get(path, &token);
        let answers = raw::exchange(target.server.address, request.as_bytes()).await;
        assert_eq!(answers.len(), 1, "{path}: {answers:?}");
        check_refusal(path, &answers[0], want(404, "not_found"));
    }
    target.check_unchanged("dots").await;
}

async fn an_unsupported_method_gets_a_405_with_allow(backend: Backend) {
    let target = Target::start(backend).await;
    let all = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get"];
    for (path, allowed) in [
        ("/api/sync/push", &["POST"][..]),
        ("/api/sync/pull", &["GET", "HEAD", "POST"]),
        ("/api/sync/records", &["POST"]),
        ("/api/sync/manifest", &["GET", "HEAD"]),
        ("/api/sync/history", &["GET", "HEAD"]),
        ("/api/sync/usage", &["GET", "HEAD"]),
        ("/api/sync/export", &["GET", "HEAD"]),
        ("/api/sync/vault", &["DELETE"]),
        ("/api/sync/vaults/notes", &["DELETE"]),
        ("/api/sync/account", &["DELETE"]),
        ("/api/sync/info", &["GET", "HEAD"]),
        ("/api/sync/events", &["GET"]),
        ("/healthz", &["GET", "HEAD"]),
        ("/readyz", &["GET", "HEAD"]),
        ("/openapi.json", &["GET", "HEAD"]),
        ("/docs", &["GET", "HEAD"]),
        ("/docs/", &["GET", "HEAD"]),
        ("/docs/index.html", &["GET", "HEAD"]),
    ] {
        for method in all.into_iter().filter(|method| !allowed.contains(method)) {
            let what = format!("{method} {path}");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let is_head = method == Method::HEAD;
            let request = target.request(method, path);
            if is_head {
                let answer = vaultsync_testkit::send(request).await;
                assert_eq!((answer.status, answer.text.as_str()), (405, ""), "{what}");
                assert_eq!(answer.header("allow"), allowed.join(","), "{what}");
                continue;
            }
            let answer = target.check(&what, request, want(405, "method_not_allowed")).await;
            assert_eq!(answer.header("allow"), allowed.join(","), "{what}");
        }
    }
}

async fn an_unsupported_method_is_refused_before_sign_in(backend: Backend) {
    let target = Target::start(backend).await;
    let request = target.server.request(Method::PUT, "/api/sync/push").body("x");
    target.check("PUT", request, want(405, "method_not_allowed")).await;
}

async fn a_head_gets_the_headers_of_a_get(backend: Backend) {
    let target = Target::start(backend).await;
    for path in [
        "/api/sync/pull",
        "/api/sync/pull?limit=1",
        "/api/sync/manifest",
        "/api/sync/history?recordId=a&version=1",
        "/api/sync/usage",
        "/api/sync/info",
        "/healthz",
        "/readyz",
    ] {
        let get = vaultsync_testkit::send(target.request(Method::GET, path)).await;
        let head = vaultsync_testkit::send(target.request(Method::HEAD, path)).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path}: {name}");
        }
    }
    let refused = target.request(Method::HEAD, "/api/sync/pull?limit=0");
    let refused = vaultsync_testkit::send(refused).await;
    assert_eq!((refused.status, refused.text.as_str()), (400, ""));
    assert_ne!(refused.header("x-request-id"), "");
}

async fn the_body_of_a_get_is_ignored(backend: Backend) {
    let target = Target::start(backend).await;
    let request = target.request(Method::GET, "/api/sync/pull").body(r#"{"limit":0}"#);
    let answer = vaultsync_testkit::send(request).await;
    assert_eq!((answer.status, &answer.text), (200, &target.before));
}
