//! Headers: too many, too large, the request id, and the token.

use reqwest::Method;
use vaultsync_testkit::{Backend, backends, send};

use crate::{Target, want};

backends!(
    headers_above_the_limit_get_a_431,
    headers_beyond_the_read_buffer_get_a_bare_431,
    a_client_can_choose_the_request_id,
    an_unsuitable_request_id_is_replaced,
    a_request_without_a_valid_token_is_refused,
    a_token_outside_the_authorization_header_is_ignored,
);

async fn headers_above_the_limit_get_a_431(backend: Backend) {
    let target = Target::start(backend).await;
    let max = target.server_header_bytes_max().await;
    for (method, path) in [
        (Method::GET, "/api/sync/pull"),
        (Method::POST, "/api/sync/push"),
        (Method::GET, "/api/sync/info"),
    ] {
        for length in [max, max + 10_000, max * 3] {
            let what = format!("{method} {path} with a header of {length} bytes");
            let request =
                target.request(method.clone(), path).header("x-large", "x".repeat(length));
            target.check(&what, request, want(431, "headers_too_large")).await;
        }
        let what = format!("{method} {path} with a long query");
        let request = target.request(method.clone(), &format!("{path}?x={}", "x".repeat(max)));
        target.check(&what, request, want(431, "headers_too_large")).await;
        let mut request = target.request(method, path);
        for n in 0..60 {
            request = request.header(format!("x-{n}"), "x".repeat(max / 50));
        }
        target.check("many headers", request, want(431, "headers_too_large")).await;
    }
}

async fn headers_beyond_the_read_buffer_get_a_bare_431(backend: Backend) {
    let target = Target::start(backend).await;
    let max = target.server_header_bytes_max().await;
    let request = target.request(Method::GET, "/api/sync/pull");
    let answer = send(request.header("x-large", "x".repeat(max * 8))).await;
    assert_eq!((answer.status, answer.text.as_str()), (431, ""));
    let mut request = target.request(Method::GET, "/api/sync/pull");
    for n in 0..200 {
        request = request.header(format!("x-{n}"), "x");
    }
    let answer = send(request).await;
    assert_eq!((answer.status, answer.text.as_str()), (431, ""));
    target.check_unchanged("headers").await;
}

async fn a_client_can_choose_the_request_id(backend: Backend) {
    let target = Target::start(backend).await;
    let longest = "x".repeat(64);
    for id in
        ["a", "0", "-", "9f8b-42", "A.b_C-9", "019c1f0e-6f2a-7cc3-98c4-dc0c0c07398f", &longest]
    {
        let good = target.request(Method::GET, "/api/sync/pull").header("x-request-id", id);
        assert_eq!(send(good).await.header("x-request-id"), id);
        let bad = target.request(Method::GET, "/api/sync/pull?limit=0").header("x-request-id", id);
        assert_eq!(send(bad).await.json()["requestId"], id);
    }
}

async fn an_unsuitable_request_id_is_replaced(backend: Backend) {
    let target = Target::start(backend).await;
    let too_long = "x".repeat(65);
    let mut seen = Vec::new();
    for id in ["", " ", "a b", "a/b", "a\"b", "a,b", "<b>", "{}", "ä", "a\tb", "%00", &too_long] {
        let request = target.request(Method::GET, "/nowhere").header("x-request-id", id);
        let answer = target.check(id, request, want(404, "not_found")).await;
        let new = answer.header("x-request-id").to_owned();
        assert_ne!(new, id);
        assert_eq!((new.len(), new.as_bytes()[14]), (36, b'7'), "a UUID of version 7: {new}");
        assert!(!seen.contains(&new), "{new} twice");
        seen.push(new);
    }
}

async fn a_request_without_a_valid_token_is_refused(backend: Backend) {
    let target = Target::start(backend).await;
    let token = target.server.token(crate::USER);
    let good = r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;
    let realm = r#"Bearer realm="sync""#;
    let invalid = r#"Bearer realm="sync", error="invalid_token""#;
    for (value, challenge) in [
        (None, realm),
        (Some(String::new()), realm),
        (Some("Bearer".to_owned()), invalid),
        (Some("Bearer ".to_owned()), invalid),
        (Some("Bearer garbage".to_owned()), invalid),
        (Some("Bearer a.b.c".to_owned()), invalid),
        (Some(format!("Bearer {token}x")), invalid),
        (Some(format!("Bearer {token},{token}")), invalid),
        (Some(format!("Bearer {token} {token}")), invalid),
        (Some(token.clone()), realm),
        (Some(format!("Basic {token}")), realm),
        (Some("Basic YWRhOmFkYQ==".to_owned()), realm),
    ] {
        for (method, path) in
            [(Method::GET, "/api/sync/pull?limit=0"), (Method::POST, "/api/sync/push")]
        {
            let what = format!("{method} {path} with {value:?}");
            let mut request = target.server.request(method, path);
            if let Some(value) = &value {
                request = request.header("authorization", value);
            }
            if path.ends_with("push") {
                request = request.body(good);
            }
            let answer = target.check(&what, request, want(401, "unauthorized")).await;
            assert_eq!(answer.json()["error"], "Unauthorized", "{what}");
            assert_eq!(answer.header("www-authenticate"), challenge, "{what}");
        }
    }
}

async fn a_token_outside_the_authorization_header_is_ignored(backend: Backend) {
    let target = Target::start(backend).await;
    let token = target.server.token(crate::USER);
    for name in ["access_token", "token", "authorization", "__session"] {
        let path = format!("/api/sync/pull?{name}={token}");
        let request = target.server.request(Method::GET, &path);
        target.check(&path, request, want(401, "unauthorized")).await;
        let request = target.server.request(Method::GET, "/api/sync/pull");
        let request = request.header("cookie", format!("{name}={token}"));
        target.check(name, request, want(401, "unauthorized")).await;
    }
}

impl Target {
    async fn server_header_bytes_max(&self) -> usize {
        let info = send(self.server.request(Method::GET, "/api/sync/info")).await.json();
        let max = info["limits"]["headerBytesMax"].as_u64().expect("a limit");
        usize::try_from(max).expect("a small limit")
    }
}
