//! One invalid request and its expected response.

use serde::Deserialize;
use serde_json::Value;
use vaultsync_testkit::Answer;

/// A push that would be written if it were parsed as a request.
const BODY: &str =
    r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;

/// A case, as its file contains it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The status of the response.
    pub(crate) status: u16,
    /// The code of the response; `None` if the HTTP library responds with a bare status.
    code: Option<String>,
    /// The paths of the response's issues.
    #[serde(default)]
    issues: Vec<String>,
    /// Whether the end of the request is unambiguous, so that the next request gets a response.
    #[serde(default)]
    pub(crate) next: bool,
    /// The whole request. [`Case::bytes`] replaces some words in it.
    #[serde(default)]
    raw: String,
    /// The body of a push.
    body: Option<String>,
    /// The query of a pull.
    query: Option<String>,
}

/// The cases of all files.
pub(crate) fn all() -> Vec<Case> {
    let wire = include_str!("wire.json");
    let mut cases = read(wire);
    for mut case in
        [include_str!("pushes.json"), include_str!("pulls.json")].map(read).into_iter().flatten()
    {
        case.next = true;
        cases.push(case);
    }
    cases
}

fn read(file: &str) -> Vec<Case> {
    serde_json::from_str(file).expect("a list of cases")
}

impl Case {
    /// The request as sent on the wire.
    pub(crate) fn bytes(&self, token: &str) -> Vec<u8> {
        let signed = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
        if let Some(body) = &self.body {
            let length = body.len();
            let head = format!("POST /api/sync/push HTTP/1.1\r\n{signed}Content-Length: {length}");
            return format!("{head}\r\n\r\n{body}").into_bytes();
        }
        if let Some(query) = &self.query {
            return format!("GET /api/sync/pull?{query} HTTP/1.1\r\n{signed}\r\n").into_bytes();
        }
        let fields = (0..120).map(|n| format!("X-{n}: x\r\n")).collect::<Vec<_>>().concat();
        self.raw
            .replace("TOKEN", token)
            .replace("LEN", &BODY.len().to_string())
            .replace("BODY", BODY)
            .replace("LONG40", &"x".repeat(40_000))
            .replace("LONG", &"x".repeat(70_000))
            .replace("FIELDS", &fields)
            .into_bytes()
    }

    /// Checks that the body of a failure has the expected content and nothing else.
    pub(crate) fn check_body(&self, answer: &Answer) -> Result<(), String> {
        let Some(code) = &self.code else {
            let is_bare = answer.text.is_empty();
            return is_bare
                .then_some(())
                .ok_or_else(|| format!("unexpected body: {}", answer.text));
        };
        let body: Value = serde_json::from_str(&answer.text)
            .map_err(|error| format!("the body is not JSON: {error}"))?;
        let id = answer.header("x-request-id");
        let message = body["error"].as_str().unwrap_or_default();
        let issues = body["issues"].as_array().map(Vec::as_slice).unwrap_or_default();
        let issues: Vec<&str> = issues.iter().filter_map(|issue| issue["path"].as_str()).collect();
        let matches = body["code"] == **code
            && answer.header("content-type") == "application/json"
            && !id.is_empty()
            && body["requestId"] == id
            && !message.is_empty()
            && issues == self.issues;
        matches.then_some(()).ok_or_else(|| answer.text.clone())
    }
}
