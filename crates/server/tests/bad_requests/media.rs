//! Content types and encodings.

use crate::{Target, want};

const GOOD: &str =
    r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;

#[tokio::test]
async fn another_content_type_is_unsupported() {
    let target = Target::start().await;
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

#[tokio::test]
async fn a_compressed_body_is_unsupported() {
    let target = Target::start().await;
    for encoding in ["gzip", "br", "deflate", "zstd", "x-gzip", "gzip, gzip", "nonsense"] {
        let request = target
            .push()
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(GOOD);
        target.check(encoding, request, want(415, "unsupported_media_type")).await;
    }
}

#[tokio::test]
async fn a_content_type_is_judged_before_the_body_is() {
    let target = Target::start().await;
    let request = target.push().header("content-type", "text/html").body("<p>");
    target.check("HTML", request, want(415, "unsupported_media_type")).await;
}
