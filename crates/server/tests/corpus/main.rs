//! Two hundred bad requests by name, each on a connection of its own with a good request behind it.
//!
//! The cases are data: `wire.json` has requests byte by byte, `pushes.json` bodies, `pulls.json`
//! queries. Not here: what is refused for who sends it, how often or how slowly.

mod case;

use std::time::Duration;

use vaultsync_testkit::{Answer, Backend, RawClient, Setup, TestServer, operation, push_of};

use crate::case::Case;

/// The user whose vault must stay as it is.
const USER: &str = "ada";

/// What the good request behind each bad one is called, so that its answer is known from others.
const NEXT: &str = "the-one-behind";

#[tokio::test]
async fn each_bad_request_is_refused_alone_and_harms_nothing() {
    let cases = case::all();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let server = impatient().await;
    let records = push_of([operation("a", None, b"1")]);
    assert_eq!(server.push(USER, &records).await.status, 200);
    let before = server.pull(USER, "").await.text;

    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let answers = exchange(&server, &case.bytes(&server.token(USER))).await;
        let mut found = judge(case, &answers).err();
        if server.pull(USER, "").await.text != before {
            found = Some("the vault has changed".to_owned());
        }
        let good = push_of([operation(&format!("r{number}"), None, b"1")]);
        if server.push("grace", &good).await.status != 200 {
            found = Some("a good push afterwards is refused".to_owned());
        }
        wrong.extend(found.map(|what| format!("{}: {what}", case.name)));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// A server that soon gives up on what does not come.
async fn impatient() -> TestServer {
    let mut setup = Setup::on(Backend::Sqlite);
    let soon = Duration::from_millis(300);
    setup.limits.first_byte_timeout = soon;
    setup.limits.header_timeout = soon;
    setup.limits.idle_timeout = soon;
    setup.limits.body_timeout = soon;
    TestServer::start_with(setup).await
}

/// Sends a bad request and a good one behind it in one go, and reads all answers.
async fn exchange(server: &TestServer, bad: &[u8]) -> Vec<Answer> {
    let behind = format!(
        "GET /api/sync/info HTTP/1.1\r\nHost: x\r\nX-Request-Id: {NEXT}\r\n\
         Connection: close\r\n\r\n"
    );
    let mut client = RawClient::connect(server).await;
    // The server may have answered and closed before it has read everything.
    let _ = client.try_send([bad, behind.as_bytes()].concat()).await;
    let mut answers = Vec::new();
    while let Some(answer) = client.try_answer().await {
        answers.push(answer);
    }
    answers
}

/// Whether a case was answered as it should be.
fn judge(case: &Case, answers: &[Answer]) -> Result<(), String> {
    let [answer, behind @ ..] = answers else { return Err("no answer".to_owned()) };
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    if answer.status != case.status {
        return Err(format!("{statuses:?} instead of {}: {}", case.status, answer.text));
    }
    let named = |answer: &Answer| answer.status == 200 && answer.header("x-request-id") == NEXT;
    match behind {
        [] if !case.next => {}
        [next] if case.next && named(next) => {}
        _ => return Err(format!("answered {statuses:?}")),
    }
    case.check_body(answer)
}
