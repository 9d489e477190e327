//! One bad request, and what it must be answered.

use serde::Deserialize;
use serde_json::Value;
use vaultsync_testkit::Answer;

/// A push that would be written if it were taken for a request.
const BODY: &str =
    r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;

/// A case as its file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The status of its answer.
    pub(crate) status: u16,
    /// The code; none where what reads HTTP answers with a bare status.
    code: Option<String>,
    /// The paths of its issues.
    #[serde(default, rename = "where")]
    places: Vec<String>,
    /// Whether it is plain where the request ends, so that the one behind it is answered.
    #[serde(default)]
    pub(crate) next: bool,
    /// The whole request, in which some words stand for what a file cannot hold.
    #[serde(default)]
    raw: String,
    /// The body of a push.
    body: Option<String>,
    /// The query of a pull.
    query: Option<String>,
}

/// All cases.
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
    /// The request as it goes over the wire.
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

    /// Whether a failure says what it must, and nothing else.
    pub(crate) fn check_body(&self, answer: &Answer) -> Result<(), String> {
        let Some(code) = &self.code else {
            let bare = answer.text.is_empty();
            return bare.then_some(()).ok_or_else(|| format!("a body: {}", answer.text));
        };
        let body: Value =
            serde_json::from_str(&answer.text).map_err(|error| format!("no JSON: {error}"))?;
        let id = answer.header("x-request-id");
        let sentence = body["error"].as_str().unwrap_or_default();
        let issues = body["issues"].as_array().map(Vec::as_slice).unwrap_or_default();
        let places: Vec<&str> = issues.iter().filter_map(|issue| issue["path"].as_str()).collect();
        let whole = body["code"] == **code
            && answer.header("content-type") == "application/json"
            && !id.is_empty()
            && body["requestId"] == id
            && !sentence.is_empty()
            && places == self.places;
        whole.then_some(()).ok_or_else(|| answer.text.clone())
    }
}
