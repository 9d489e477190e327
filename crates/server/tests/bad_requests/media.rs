//! Content types and encodings.

use reqwest::Method;
use vaultsync_testkit::{Backend, TestServer, backends, send};

use crate::{Target, want};

backends!(
    another_content_type_is_unsupported,
    a_compressed_body_is_unsupported,
    identity_is_no_encoding,
    the_content_type_is_checked_before_the_body,
);

const GOOD: &str =
    r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;

async fn another_content_type_is_unsupported(backend: Backend) {
    let target = Target::start(backend).await;
    for content_type in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/html",
        "text/plainx",
        "text",
        "application/xml",
        "application/octet-stream",
        "application/cbor",
        "application/vnd.api+json",
        "application/json-patch+json",
        "application/jsonp",
        "json",
        "*/*",
        ";",
        "application/xml; application/json",
    ] {
        let request = target.push().header("content-type", content_type).body(GOOD);
        target.check(content_type, request, want(415, "unsupported_media_type")).await;
    }
}

async fn a_compressed_body_is_unsupported(backend: Backend) {
    let target = Target::start(backend).await;
    for encoding in [
        "gzip",
        "br",
        "deflate",
        "zstd",
        "x-gzip",
        "gzip, gzip",
        "nonsense",
        "identity, gzip",
        "gzip,identity",
        "identity;q=1",
    ] {
        let request = target
            .push()
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(GOOD);
        target.check(encoding, request, want(415, "unsupported_media_type")).await;
    }
}

async fn identity_is_no_encoding(backend: Backend) {
    let server = TestServer::start(backend).await;
    for encodings in
        [&["identity"][..], &["Identity"], &["identity, identity"], &[""], &["identity"; 2]]
    {
        let mut request = server.request(Method::POST, "/api/sync/push");
        for encoding in encodings {
            request = request.header("content-encoding", *encoding);
        }
        let request = request.header("content-type", "application/json").body(GOOD);
        let answer = send(request.bearer_auth(server.token("ada"))).await;
        assert_eq!(answer.status, 200, "{encodings:?}: {answer:?}");
    }
}

async fn the_content_type_is_checked_before_the_body(backend: Backend) {
    let target = Target::start(backend).await;
    let request = target.push().header("content-type", "text/html").body("<p>");
    target.check("HTML", request, want(415, "unsupported_media_type")).await;
}
