//! Requests that are too large.

use serde_json::json;
use vaultsync_testkit::{Backend, Setup, backends, operation, push_of};

use crate::{Target, Want, check_refusal, raw, want};

backends!(
    a_body_may_reach_the_limit_but_not_exceed_it,
    a_body_is_at_most_16_mebibytes_by_default,
    a_chunked_body_is_measured_as_it_arrives,
    an_announced_length_above_the_limit_is_refused_at_once,
    a_ciphertext_is_at_most_a_mebibyte,
);

const MIB: usize = 1024 * 1024;

fn with_bodies_of(backend: Backend, body_bytes_max: usize) -> Setup {
    let mut setup = Setup::on(backend);
    setup.limits.body_bytes_max = body_bytes_max;
    setup
}

/// A valid push, padded to that many bytes.
fn padded(length: usize) -> String {
    let mut body = push_of([operation("n", None, b"hi")]);
    body["x"] = json!("");
    let bare = body.to_string().len();
    body["x"] = json!("x".repeat(length - bare));
    body.to_string()
}

async fn a_body_may_reach_the_limit_but_not_exceed_it(backend: Backend) {
    let target = Target::start_with(with_bodies_of(backend, 2000)).await;
    for length in [2001, 3000, 100_000] {
        let what = format!("{length} bytes");
        let request = target.push().body(padded(length));
        target.check(&what, request, want(413, "payload_too_large")).await;
    }
    let answer = vaultsync_testkit::send(target.push().body(padded(2000))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn a_body_is_at_most_16_mebibytes_by_default(backend: Backend) {
    let target = Target::start(backend).await;
    let request = target.push().body(padded(16 * MIB + 1));
    target.check("one byte too many", request, want(413, "payload_too_large")).await;
    let answer = vaultsync_testkit::send(target.push().body(padded(16 * MIB))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn a_chunked_body_is_measured_as_it_arrives(backend: Backend) {
    let target = Target::start_with(with_bodies_of(backend, 2000)).await;
    let token = target.server.token(crate::USER);
    for (length, chunk) in [(2001, 2001), (2001, 1000), (2400, 7), (100_000, 1999)] {
        let what = format!("{length} bytes in chunks of {chunk}");
        let body = padded(length);
        let request = raw::chunked_push(&token, body.as_bytes(), chunk);
        let answers = raw::exchange(target.server.address, &request).await;
        assert_eq!(answers.len(), 1, "{what}: {answers:?}");
        check_refusal(&what, &answers[0], want(413, "payload_too_large"));
        target.check_unchanged(&what).await;
    }
    let request = raw::chunked_push(&token, padded(2000).as_bytes(), 7);
    let answers = raw::exchange(target.server.address, &request).await;
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
}

async fn an_announced_length_above_the_limit_is_refused_at_once(backend: Backend) {
    let target = Target::start(backend).await;
    let token = target.server.token(crate::USER);
    for length in [16 * MIB as u64 + 1, 1 << 40, u64::MAX - 2] {
        let request = format!(
            "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\n\r\n{{"
        );
        let what = format!("{length} bytes");
        let answers = raw::exchange(target.server.address, request.as_bytes()).await;
        assert_eq!(answers.len(), 1, "{what}: {answers:?}");
        check_refusal(&what, &answers[0], want(413, "payload_too_large"));
        target.check_unchanged(&what).await;
    }
}

async fn a_ciphertext_is_at_most_a_mebibyte(backend: Backend) {
    let target = Target::start(backend).await;
    let batch = push_of([
        operation("n", None, b"hi"),
        operation("large", None, &vec![7; MIB + 1]),
        operation("larger", None, &vec![7; 3 * MIB]),
    ]);
    let want = Want {
        status: 400,
        code: "invalid_request",
        issues: &["operations[1].ciphertext", "operations[2].ciphertext"],
    };
    target
        .check("ciphertexts that are too long", target.push().body(batch.to_string()), want)
        .await;
}
