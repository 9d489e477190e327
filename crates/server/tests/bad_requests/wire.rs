//! Requests that are not quite HTTP.
//!
//! The HTTP library responds to requests that it cannot parse with a bare status. What matters is that
//! nothing is written, and that no byte of one request is parsed as part of another one.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vaultsync_testkit::{Backend, Setup, backends};

use crate::{Target, USER, check_refusal, raw, want};

backends!(
    malformed_http_gets_a_bare_400,
    an_ambiguous_length_is_refused,
    a_malformed_chunk_is_refused,
    a_length_with_chunks_smuggles_no_request,
    a_body_is_never_parsed_as_a_request,
    a_missing_body_is_a_timeout,
    bare_line_feeds_http_1_0_and_absolute_urls_are_understood,
    requests_on_one_connection_are_answered_in_order,
    pipelined_pushes_are_applied_in_order,
    a_bad_token_is_refused_before_the_100_continue,
    an_acceptable_body_gets_a_100_continue,
);

/// A push that would be written if it were parsed as a request.
const BODY: &str =
    r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;

/// A server that soon stops waiting for missing bytes.
async fn server_with_short_deadlines(backend: Backend) -> Target {
    let mut setup = Setup::on(backend);
    let soon = Duration::from_millis(300);
    setup.limits.first_byte_seconds = soon;
    setup.limits.header_seconds = soon;
    setup.limits.idle_seconds = soon;
    setup.limits.body_seconds = soon;
    Target::start_with(setup).await
}

/// Sends `text` with `TOKEN`, `BODY` and `LEN` filled in, and checks that the responses have these
/// statuses and that the vault is unchanged.
async fn check(target: &Target, text: &str, statuses: &[u16]) {
    let request = text
        .replace("TOKEN", &target.server.token(USER))
        .replace("LEN", &BODY.len().to_string())
        .replace("BODY", BODY);
    let answers = raw::exchange(target.server.address, request.as_bytes()).await;
    let found: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(found, statuses, "{text:.300}: {answers:?}");
    target.check_unchanged(text).await;
}

async fn malformed_http_gets_a_bare_400(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    for text in [
        "garbage\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}\u{1}\r\n\r\n",
        "GET\r\n\r\n",
        "GET /api/sync/pull\r\n\r\n",
        "GET /api/sync/pull \r\n\r\n",
        "GET /api/sync/pull HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /api/sync/pull HTTP/1.2\r\nHost: x\r\n\r\n",
        "GET /api/sync/pull HTTP/1\r\nHost: x\r\n\r\n",
        "GET /api/sync/pull http/1.1\r\nHost: x\r\n\r\n",
        "GET  /api/sync/pull HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/sync/pull  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/sync pull HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/sync/pull\u{7f} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET api/sync/pull HTTP/1.1\r\nHost: x\r\n\r\n",
        " GET /api/sync/pull HTTP/1.1\r\nHost: x\r\n\r\n",
        "G{}T /api/sync/pull HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/sync/pull HTTP/1.1\r\nHost x\r\n\r\n",
        "GET /api/sync/pull HTTP/1.1\r\n: x\r\n\r\n",
        "GET /api/sync/pull HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /api/sync/pull HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n",
        "GET /api/sync/pull HTTP/1.1\r\nHost: x\r\nx: \0\r\n\r\n",
        "GET /api/sync/pull HTTP/1.1\r\nHost: x\rx: y\r\n\r\n",
    ] {
        let answers = raw::exchange(target.server.address, text.as_bytes()).await;
        assert_eq!(answers.len(), 1, "{text:?}: {answers:?}");
        assert_eq!((answers[0].status, answers[0].text.as_str()), (400, ""), "{text:?}");
    }
    target.check_unchanged("garbage").await;
}

async fn an_ambiguous_length_is_refused(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    let push = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n";
    for framing in [
        "Content-Length: LEN\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: LEN\r\n",
        "Content-Length: LEN, 5\r\n",
        "Content-Length: +LEN\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 1e1\r\n",
        "Content-Length: LEN.0\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ] {
        check(&target, &format!("{push}{framing}\r\nBODY"), &[400]).await;
    }
}

async fn a_malformed_chunk_is_refused(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    let push = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    for body in [
        "zz\r\nBODY\r\n0\r\n\r\n",
        "-5\r\nBODY\r\n0\r\n\r\n",
        "\r\nBODY\r\n0\r\n\r\n",
        "0x5\r\nBODY\r\n0\r\n\r\n",
        "5\r\nBODY\r\n0\r\n\r\n",
        "ffffffffffffffffffff\r\nBODY\r\n0\r\n\r\n",
        "2\r\n{}xx0\r\n\r\n",
    ] {
        check(&target, &format!("{push}{body}"), &[400]).await;
    }
}

async fn a_length_with_chunks_smuggles_no_request(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    // By RFC 9112, section 6.3, the chunks count and the connection closes. A server that used the
    // length would parse the bytes after it as part of the body, or as a request.
    let smuggled = "GET /api/sync/info HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n";
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    for framing in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: Chunked\r\nContent-Length: garbage\r\n\r\n",
    ] {
        check(&target, &format!("{head}{framing}{chunks}{smuggled}"), &[400]).await;
    }
}

async fn a_body_is_never_parsed_as_a_request(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    let inner = "GET /api/sync/info HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = inner.len();
    for (head, statuses) in [
        (
            "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer garbage\r\n",
            &[401][..],
        ),
        ("POST /api/sync/push HTTP/1.1\r\nHost: x\r\n", &[401]),
        ("POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n", &[400]),
        ("POST /nowhere HTTP/1.1\r\nHost: x\r\n", &[404]),
        ("PUT /api/sync/push HTTP/1.1\r\nHost: x\r\n", &[405]),
        ("GET /api/sync/pull HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n", &[200]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n", &[200]),
    ] {
        check(&target, &format!("{head}Content-Length: {length}\r\n\r\n{inner}"), statuses).await;
        let chunked =
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n");
        check(&target, &format!("{head}{chunked}"), statuses).await;
    }
}

async fn a_missing_body_is_a_timeout(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    let token = target.server.token(USER);
    let head = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ";
    let short = format!("{head}{token}\r\nContent-Length: 500\r\n\r\n{BODY}");
    let answers = raw::exchange(target.server.address, short.as_bytes()).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    check_refusal("a short body", &answers[0], want(408, "request_timeout"));
    target.check_unchanged("a short body").await;
}

async fn bare_line_feeds_http_1_0_and_absolute_urls_are_understood(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    for (text, statuses) in [
        ("GET /api/sync/info HTTP/1.1\nHost: x\nConnection: close\n\n", &[200][..]),
        ("GET /api/sync/pull HTTP/1.1\nHost: x\nAuthorization: Bearer TOKEN\n\n", &[200]),
        ("\r\n\r\nGET /api/sync/info HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
        ("GET /api/sync/info HTTP/1.0\r\n\r\n", &[200]),
        ("GET /api/sync/pull HTTP/1.0\r\nAuthorization: Bearer TOKEN\r\n\r\n", &[200]),
        (
            "POST /api/sync/push HTTP/1.0\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 2\r\n\r\n{}",
            &[400],
        ),
        (
            "POST /api/sync/push HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            &[400],
        ),
        ("GET /api/sync/info HTTP/1.1\r\n\r\n", &[400]),
        ("GET /api/sync/info HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", &[400]),
        ("GET http://elsewhere.example/api/sync/info HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
        ("GET http://elsewhere.example/api/sync/pull HTTP/1.1\r\nHost: x\r\n\r\n", &[401]),
        ("GET http://elsewhere.example HTTP/1.1\r\nHost: x\r\n\r\n", &[404]),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", &[404]),
        ("CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", &[404]),
        // The preface of HTTP/2. A client that speaks only HTTP/2 could not read a response.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
        (
            "GET /api/sync/info HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            &[200],
        ),
        ("GET /api/sync/info#x HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
        ("GET /api/sync/info?%zz&=&?? HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
    ] {
        check(&target, text, statuses).await;
    }
}

async fn requests_on_one_connection_are_answered_in_order(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    let info = "GET /api/sync/info HTTP/1.1\r\nHost: x\r\n\r\n";
    let pull = "GET /api/sync/pull HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\r\n";
    let none = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
    let bad_push = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n\
                    Content-Length: 2\r\n\r\n{}";
    let refused = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nContent-Length: LEN\r\n\r\nBODY";
    check(&target, &format!("{info}{pull}{none}{bad_push}{info}"), &[200, 200, 404, 400, 200])
        .await;
    check(&target, &format!("{none}{refused}{none}"), &[404, 401, 404]).await;
    check(&target, &format!("{info}garbage\r\n\r\n{info}"), &[200, 400]).await;
    let close = info.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    check(&target, &format!("{close}{info}"), &[200]).await;
    let many = none.repeat(50);
    check(&target, &many, &[404; 50]).await;
}

async fn pipelined_pushes_are_applied_in_order(backend: Backend) {
    let target = server_with_short_deadlines(backend).await;
    let token = target.server.token("bob");
    let push = |base: &str, ciphertext: &str, connection: &str| {
        let body = format!(
            r#"{{"operations":[{{"recordId":"n","baseVersion":{base},"ciphertext":"{ciphertext}","deleted":false}}]}}"#
        );
        let length = body.len();
        format!(
            "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Connection: {connection}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let all = [
        push("null", "AQ==", "keep-alive"),
        push("1", "Ag==", "keep-alive"),
        push("1", "Aw==", "keep-alive"),
        push("2", "BA==", "close"),
    ]
    .concat();
    let answers = raw::exchange(target.server.address, all.as_bytes()).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 409, 200], "{answers:?}");
    let page = target.server.pull("bob", "").await.json();
    assert_eq!(
        (&page["records"][0]["version"], &page["records"][0]["ciphertext"]),
        (&3.into(), &"BA==".into())
    );
    target.check_unchanged("pushes of another user").await;
}

async fn a_bad_token_is_refused_before_the_100_continue(backend: Backend) {
    let target = Target::start(backend).await;
    let request = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer garbage\r\n\
                   Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n";
    // No byte of the body is sent, and the server closes instead of waiting for it.
    let answers = raw::exchange(target.server.address, request.as_bytes()).await;
    assert_eq!(answers.len(), 1, "no 100: {answers:?}");
    check_refusal("a garbage token", &answers[0], want(401, "unauthorized"));
    let request = request.replace("garbage", &target.server.token(USER));
    let request = request.replace("1000000", "99000000");
    let answers = raw::exchange(target.server.address, request.as_bytes()).await;
    assert_eq!(answers.len(), 1, "no 100: {answers:?}");
    check_refusal("an announced length", &answers[0], want(413, "payload_too_large"));
    target.check_unchanged("an expectation").await;
}

async fn an_acceptable_body_gets_a_100_continue(backend: Backend) {
    let target = Target::start(backend).await;
    let mut stream = tokio::net::TcpStream::connect(target.server.address).await.expect("connects");
    let head = format!(
        "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        target.server.token("bob"),
        BODY.len(),
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.expect("an answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(BODY.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
