//! A corpus of over 200 invalid requests. Each is sent on its own connection, followed by a valid
//! request.
//!
//! The cases are data: `wire.json` has raw requests, `pushes.json` bodies, `pulls.json` queries. Not
//! here: refusals because of the caller, the rate or slowness.

mod case;

use std::time::Duration;

use vaultsync_testkit::{Answer, Backend, RawClient, Setup, TestServer, operation, push_of};

use crate::case::Case;

/// The user whose vault must not change.
const USER: &str = "ada";

/// Id of the valid request after each invalid one, which identifies its response.
const NEXT_ID: &str = "the-next-one";

#[tokio::test]
async fn each_bad_request_is_refused_and_affects_nothing_else() {
    let cases = case::all();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let server = server_with_short_deadlines().await;
    let records = push_of([operation("a", None, b"1")]);
    assert_eq!(server.push(USER, &records).await.status, 200);
    let before = server.pull(USER, "").await.text;

    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let answers = exchange(&server, &case.bytes(&server.token(USER))).await;
        let mut found = check_case(case, &answers).err();
        if server.pull(USER, "").await.text != before {
            found = Some("the vault has changed".to_owned());
        }
        let good = push_of([operation(&format!("r{number}"), None, b"1")]);
        if server.push("grace", &good).await.status != 200 {
            found = Some("a valid push afterwards is refused".to_owned());
        }
        wrong.extend(found.map(|what| format!("{}: {what}", case.name)));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A server that soon stops waiting for missing bytes.
async fn server_with_short_deadlines() -> TestServer {
    let mut setup = Setup::on(Backend::Sqlite);
    let soon = Duration::from_millis(300);
    setup.limits.first_byte_seconds = soon;
    setup.limits.header_seconds = soon;
    setup.limits.idle_seconds = soon;
    setup.limits.body_seconds = soon;
    TestServer::start_with(setup).await
}

/// Sends an invalid request and a valid one together, and reads all responses.
async fn exchange(server: &TestServer, bad: &[u8]) -> Vec<Answer> {
    let next = format!(
        "GET /api/sync/info HTTP/1.1\r\nHost: x\r\nX-Request-Id: {NEXT_ID}\r\n\
         Connection: close\r\n\r\n"
    );
    let mut client = RawClient::connect(server).await;
    // The server may respond and close before it has read everything.
    let _ = client.try_send([bad, next.as_bytes()].concat()).await;
    let mut answers = Vec::new();
    while let Some(answer) = client.try_answer().await {
        answers.push(answer);
    }
    answers
}

/// Checks the responses to a case.
fn check_case(case: &Case, answers: &[Answer]) -> Result<(), String> {
    let [answer, rest @ ..] = answers else { return Err("no response".to_owned()) };
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    if answer.status != case.status {
        return Err(format!("{statuses:?} instead of {}: {}", case.status, answer.text));
    }
    let is_next =
        |answer: &Answer| answer.status == 200 && answer.header("x-request-id") == NEXT_ID;
    match rest {
        [] if !case.next => {}
        [next] if case.next && is_next(next) => {}
        _ => return Err(format!("responses {statuses:?}")),
    }
    case.check_body(answer)
}
