//! Invalid requests: each gets its status and code, in the common form, and nothing is written.
//!
//! Not here: sign-in (`sign_in`), rates (`limits`) and slow clients (`deadlines`).

mod bodies;
mod headers;
mod history;
mod media;
mod paths;
mod pull_bodies;
mod queries;
mod raw;
mod record_ids;
mod sizes;
mod wire;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, operation, push_of, send};

/// The user whose vault must not change.
const USER: &str = "ada";

/// A server with a vault that no invalid request may change.
struct Target {
    server: TestServer,
    before: String,
}

/// The expected response to an invalid request.
#[derive(Clone, Copy)]
struct Want<'a> {
    status: u16,
    code: &'a str,
    /// The paths of its `issues`, in order; empty if the response has no `issues`.
    issues: &'a [&'a str],
}

const fn want(status: u16, code: &'static str) -> Want<'static> {
    Want { status, code, issues: &[] }
}

impl Target {
    async fn start(backend: Backend) -> Self {
        Self::start_with(Setup::on(backend)).await
    }

    async fn start_with(setup: Setup) -> Self {
        let server = TestServer::start_with(setup).await;
        let records = push_of([operation("a", None, b"1"), operation("b", None, b"2")]);
        assert_eq!(server.push(USER, &records).await.status, 200);
        let before = server.pull(USER, "").await.text;
        Self { server, before }
    }

    /// A request by the user.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.server.request(method, path).bearer_auth(self.server.token(USER))
    }

    /// A push by the user, without its body.
    fn push(&self) -> RequestBuilder {
        self.request(Method::POST, "/api/sync/push")
    }

    /// Sends a request and checks that it is refused as expected and changes nothing.
    async fn check(&self, what: &str, request: RequestBuilder, want: Want<'_>) -> Answer {
        let answer = send(request).await;
        check_refusal(what, &answer, want);
        self.check_unchanged(what).await;
        answer
    }

    async fn check_unchanged(&self, what: &str) {
        assert_eq!(self.server.pull(USER, "").await.text, self.before, "{what} changed the vault");
    }
}

#[track_caller]
fn check_refusal(what: &str, answer: &Answer, want: Want<'_>) {
    let what = what.get(..200).unwrap_or(what);
    assert_eq!(answer.status, want.status, "{what}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/json", "{what}");
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    let body = answer.json();
    assert_eq!(body["code"], want.code, "{what}: {body}");
    assert_eq!(body["requestId"], answer.header("x-request-id"), "{what}");
    assert_ne!(body["requestId"], "", "{what}");
    check_sentence(what, &body["error"]);
    check_issues(what, &body, want.issues);
    let known = ["code", "error", "issues", "requestId"];
    for member in body.as_object().expect("an object").keys() {
        assert!(known.contains(&member.as_str()), "{what}: {member}");
    }
}

fn check_sentence(what: &str, error: &Value) {
    let error = error.as_str().unwrap_or_default();
    let is_sentence = error.starts_with(|first: char| first.is_ascii_uppercase())
        && error.ends_with('.')
        && error.contains(' ')
        && error.len() <= 300;
    assert!(is_sentence || error == "Unauthorized", "{what}: {error:?} is not a sentence");
}

fn check_issues(what: &str, body: &Value, paths: &[&str]) {
    if paths.is_empty() {
        assert_eq!(body.get("issues"), None, "{what}");
        return;
    }
    let issues = body["issues"].as_array().unwrap_or_else(|| panic!("{what}: {body}"));
    let found: Vec<&str> = issues.iter().filter_map(|issue| issue["path"].as_str()).collect();
    assert_eq!(found, paths, "{what}: {body}");
    for issue in issues {
        let members: Vec<&String> = issue.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["message", "path"], "{what}");
        let message = issue["message"].as_str().unwrap_or_default();
        assert!(message.contains("must"), "{what}: {message:?} does not say what to do");
    }
}
