//! An issuer's web server, whose responses tests set.
//!
//! Not here: keys and tokens (`forge`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// Path of the keys.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// Path of the discovery document.
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// An HTTP server on a free port of this machine. It answers 404 at every path that has no response set.
pub struct JwksServer {
    server: MockServer,
    script: Script,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<Paths>>);

#[derive(Default)]
struct Paths {
    answers: HashMap<String, ResponseTemplate>,
    requests: HashMap<String, usize>,
    delay: Duration,
}

impl Script {
    fn with<T>(&self, work: impl FnOnce(&mut Paths) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Respond for Script {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.with(|paths| {
            let path = request.url.path();
            *paths.requests.entry(path.to_owned()).or_default() += 1;
            let answer = paths.answers.get(path).cloned();
            answer.unwrap_or_else(|| ResponseTemplate::new(404)).set_delay(paths.delay)
        })
    }
}

impl JwksServer {
    /// Starts a server that publishes these keys.
    pub async fn start(keys: &[Value]) -> Self {
        let server = MockServer::start().await;
        let script = Script::default();
        Mock::given(any()).respond_with(script.clone()).mount(&server).await;
        let this = Self { server, script };
        this.show(keys);
        this
    }

    /// Its URL without a trailing slash, which is also the name of the issuer.
    pub fn issuer(&self) -> String {
        self.server.uri()
    }

    /// The URL of the keys.
    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS_PATH}", self.issuer())
    }

    /// Publishes these keys from now on.
    pub fn show(&self, keys: &[Value]) {
        self.answer(200, json!({ "keys": keys }).to_string());
    }

    /// Answers this instead of the keys from now on.
    pub fn answer(&self, status: u16, body: impl Into<Vec<u8>>) {
        self.answer_at(JWKS_PATH, status, body);
    }

    /// Answers this at `path` from now on.
    pub fn answer_at(&self, path: &str, status: u16, body: impl Into<Vec<u8>>) {
        let answer = ResponseTemplate::new(status).set_body_raw(body.into(), "application/json");
        self.script.with(|paths| paths.answers.insert(path.to_owned(), answer));
    }

    /// Redirects requests for the keys to `location` from now on.
    pub fn redirect(&self, location: &str) {
        let answer = ResponseTemplate::new(302).insert_header("location", location);
        self.script.with(|paths| paths.answers.insert(JWKS_PATH.to_owned(), answer));
    }

    /// Delays every response by this time from now on.
    pub fn delay(&self, delay: Duration) {
        self.script.with(|paths| paths.delay = delay);
    }

    /// Number of requests for the keys.
    pub fn requests(&self) -> usize {
        self.requests_at(JWKS_PATH)
    }

    /// Number of requests for `path`.
    pub fn requests_at(&self, path: &str) -> usize {
        self.script.with(|paths| paths.requests.get(path).copied().unwrap_or_default())
    }
}
