//! Content types and encodings.

use vaultsync_testkit::{Backend, backends};

use crate::{Target, want};

backends!(
    another_content_type_is_unsupported,
    a_compressed_body_is_unsupported,
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
    for encoding in ["gzip", "br", "deflate", "zstd", "x-gzip", "gzip, gzip", "nonsense"] {
        let request = target
            .push()
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(GOOD);
        target.check(encoding, request, want(415, "unsupported_media_type")).await;
    }
}

async fn the_content_type_is_checked_before_the_body(backend: Backend) {
    let target = Target::start(backend).await;
    let request = target.push().header("content-type", "text/html").body("<p>");
    target.check("HTML", request, want(415, "unsupported_media_type")).await;
}
