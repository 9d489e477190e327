//! A response of each kind, from servers with limits that are easy to exceed.

use std::{fmt::Write as _, future::Future, sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use vaultsync_protocol::Timestamp;
use vaultsync_server::{Clock as _, Limits, SystemClock};
use vaultsync_testkit::{
    Answer, Backend, ManualClock, RawClient, Setup, TestServer, operation, push_of, send,
};

const USER: &str = "ada";

/// Longest time that a response may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A response, and the request that it answers.
#[derive(Debug, Serialize)]
pub(super) struct Response {
    what: String,
    /// In lower case, as the document has it.
    method: String,
    /// As the document has it: without a query, and with `{vault}`.
    path: String,
    status: u16,
    /// What the body is, if the document does not say: a line of a stream, or the data of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'static str>,
    body: Value,
}

/// Responses, in the order of the requests.
#[derive(Debug, Default)]
struct Responses(Vec<Response>);

/// Sends all requests, and returns the responses.
pub(super) async fn produce() -> Vec<Response> {
    let mut responses = Responses::default();
    responses.usual().await;
    responses.small_pages().await;
    responses.streams().await;
    responses.history().await;
    responses.events().await;
    responses.refused_before_the_body().await;
    responses.refused_bodies().await;
    responses.rates_and_readiness().await;
    responses.quotas().await;
    responses.erasures().await;
    responses.removed_tombstones().await;
    responses.0
}

fn as_user(server: &TestServer, method: Method, path: &str) -> RequestBuilder {
    server.request(method, path).bearer_auth(server.token(USER))
}

async fn server_with(limits: Limits) -> TestServer {
    let limits = Limits { rate_limit: 0, ..limits };
    TestServer::start_with(Setup { limits, ..Setup::on(Backend::Sqlite) }).await
}

impl Responses {
    fn add(&mut self, what: &str, method: &str, path: &str, answer: &Answer) {
        self.0.push(Response {
            what: what.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            status: answer.status,
            component: None,
            body: answer.json(),
        });
    }

    /// Keeps a part of a streaming response.
    fn add_part(&mut self, component: &'static str, path: &str, body: Value) {
        self.0.push(Response {
            what: component.to_owned(),
            method: "get".to_owned(),
            path: path.to_owned(),
            status: 200,
            component: Some(component),
            body,
        });
    }

    /// Keeps a response, which must have this status.
    #[track_caller]
    fn keep(
        &mut self,
        what: &str,
        request: (&Method, &str),
        status: u16,
        answer: &Answer,
    ) -> Value {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let (method, path) = request;
        let path = path.split('?').next().unwrap_or_default();
        let path = match path.strip_prefix("/api/sync/vaults/") {
            None => path.to_owned(),
            Some(rest) => match rest.split_once('/') {
                None => "/api/sync/vaults/{vault}".to_owned(),
                Some((_, route)) => format!("/api/sync/vaults/{{vault}}/{route}"),
            },
        };
        self.add(what, &method.as_str().to_lowercase(), &path, answer);
        answer.json()
    }

    /// Sends a request without a body as the user.
    async fn call(
        &mut self,
        server: &TestServer,
        (method, path): (Method, &str),
        status: u16,
    ) -> Value {
        let answer = send(as_user(server, method.clone(), path)).await;
        self.keep(path, (&method, path), status, &answer)
    }

    async fn get(&mut self, server: &TestServer, path: &str, status: u16) -> Value {
        self.call(server, (Method::GET, path), status).await
    }

    /// Sends a body by POST as the user.
    async fn post(&mut self, server: &TestServer, path: &str, body: &Value, status: u16) -> Value {
        let request = as_user(server, Method::POST, path).body(body.to_string());
        let answer = send(request).await;
        let shown: String = body.to_string().chars().take(100).collect();
        self.keep(&shown, (&Method::POST, path), status, &answer)
    }

    async fn push(
        &mut self,
        server: &TestServer,
        operations: impl IntoIterator<Item = Value>,
        status: u16,
    ) -> Value {
        self.post(server, "/api/sync/push", &push_of(operations), status).await
    }

    async fn usual(&mut self) {
        let server = server_with(Limits { vaults_per_user_max: 1, ..Limits::default() }).await;
        for path in ["/api/sync/info", "/healthz", "/readyz", "/api/sync/vaults"] {
            self.get(&server, path, 200).await;
        }
        // An empty vault.
        let pages = ["/api/sync/pull", "/api/sync/manifest", "/api/sync/usage"];
        for path in pages {
            self.get(&server, path, 200).await;
        }
        let read = json!({ "recordIds": ["b", "none", "a"] });
        self.post(&server, "/api/sync/records", &read, 200).await;
        self.push(&server, [], 200).await;

        let first = [
            operation("a", None, b"1"),
            operation("b", None, b"22"),
            operation("\u{e9}\"", None, b""),
        ];
        let applied = self.push(&server, first.clone(), 200).await;
        assert_eq!(applied["headBefore"], json!(null));
        let retried = self.push(&server, first, 200).await;
        assert!(retried.get("head").is_none(), "{retried}");
        let applied = self.push(&server, [operation("a", Some(1), b"3")], 200).await;
        assert!(applied["headBefore"].is_string(), "{applied}");
        let refused = self.push(&server, [operation("a", Some(1), b"4")], 409).await;
        assert_eq!(refused["conflicts"][0]["currentVersion"], 2);
        for path in pages {
            self.get(&server, path, 200).await;
        }
        self.get(&server, "/api/sync/manifest?limit=1", 200).await;
        let page = self.get(&server, "/api/sync/pull?limit=1", 200).await;
        assert_eq!(page["hasMore"], true);
        let body = json!({ "cursor": page["nextCursor"], "epoch": page["epoch"] });
        self.post(&server, "/api/sync/pull", &body, 200).await;
        self.post(&server, "/api/sync/records", &read, 200).await;
        self.get(&server, "/api/sync/vaults", 200).await;

        let mut push = push_of([operation("none", Some(7), b"5")]);
        push["epoch"] = page["epoch"].clone();
        push["guards"] =
            json!([{ "recordId": "a", "version": 9 }, { "recordId": "no", "version": 1 }]);
        let refused = self.post(&server, "/api/sync/push", &push, 409).await;
        assert_eq!(refused["conflicts"][0]["guard"], true);
        assert_eq!(refused["conflicts"][2]["updated_at"], json!(null));
        push["epoch"] = json!("other");
        self.post(&server, "/api/sync/push", &push, 410).await;
        self.get(&server, "/api/sync/pull?epoch=other", 410).await;
        let epoch = page["epoch"].as_str().expect("an epoch");
        let ahead = format!("/api/sync/pull?epoch={epoch}&cursor=9999-01-01T00:00:00Z");
        assert_eq!(self.get(&server, &ahead, 410).await["code"], "cursor_ahead");

        let push = push_of([operation("a", None, b"1")]);
        self.post(&server, "/api/sync/vaults/notes/push", &push, 200).await;
        for route in ["pull", "manifest", "usage"] {
            self.get(&server, &format!("/api/sync/vaults/notes/{route}"), 200).await;
        }
        self.get(&server, "/api/sync/vaults/Notes/usage", 400).await;
        self.get(&server, "/api/sync/vaults", 200).await;
        let refused = self.post(&server, "/api/sync/vaults/keys/push", &push, 507).await;
        assert_eq!(refused["code"], "too_many_vaults");
    }

    async fn small_pages(&mut self) {
        let server = server_with(Limits { page_bytes_max: 20, ..Limits::default() }).await;
        self.push(&server, [operation("a", None, &[1; 15]), operation("b", None, &[1; 15])], 200)
            .await;
        let again = [operation("a", None, b"2"), operation("b", None, b"2")];
        let refused = self.push(&server, again, 409).await;
        assert_eq!(refused["hasMore"], true);
        let read = json!({ "recordIds": ["a", "none", "b"] });
        let found = self.post(&server, "/api/sync/records", &read, 200).await;
        assert_eq!(found["hasMore"], true);
        let page = self.get(&server, "/api/sync/pull", 200).await;
        assert_eq!(page["hasMore"], true);
    }

    async fn streams(&mut self) {
        let server = TestServer::start(Backend::Sqlite).await;
        let pull = "/api/sync/pull";
        for records in [&[][..], &[operation("a", None, b"1"), operation("b", None, b"")]] {
            self.push(&server, records.to_owned(), 200).await;
            let stream =
                as_user(&server, Method::GET, pull).header("accept", "application/x-ndjson");
            let text = send(stream).await.text;
            let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            for (number, line) in lines.enumerate() {
                self.add_part(if number == 0 { "StreamStart" } else { "StreamLine" }, pull, line);
            }
            assert_eq!(text.lines().count(), records.len() + 2, "{text}");
        }
        for path in ["/api/sync/export", "/api/sync/vaults/notes/export"] {
            self.export_of(&server, path).await;
        }
    }

    async fn history(&mut self) {
        let server =
            server_with(Limits { history_min_age_seconds: Duration::ZERO, ..Limits::default() })
                .await;
        let applied =
            self.push(&server, [operation("a", None, b"1"), operation("b", None, b"1")], 200).await;
        self.push(&server, [operation("a", Some(1), b""), operation("c", None, b"1")], 200).await;
        self.push(&server, [operation("a", Some(2), b"3")], 200).await;
        let at = applied["head"].as_str().expect("a head");
        let query = |query: &str| format!("/api/sync/history?{query}");
        let versions = self.get(&server, &query("recordId=a&limit=1"), 200).await;
        assert_eq!(
            (&versions["versions"][0]["version"], &versions["next"]),
            (&json!(2), &json!(2))
        );
        for version in 1..=4 {
            let found =
                self.get(&server, &query(&format!("recordId=a&version={version}")), 200).await;
            assert_eq!(found["record"].is_null(), version == 4, "{found}");
        }
        let states = self.get(&server, &query(&format!("at={at}&limit=2")), 200).await;
        assert_eq!(states["entries"][0]["version"], 1);
        let states = self.get(&server, &query(&format!("at={at}&after=b")), 200).await;
        assert_eq!(states["entries"][0]["version"], 0);
        self.get(&server, "/api/sync/vaults/notes/history?recordId=a", 200).await;
        self.get(&server, &query("recordId=a&epoch=other"), 410).await;
        self.get(&server, &query(""), 400).await;
        let lines = self.export_of(&server, "/api/sync/export?history=true").await;
        assert_eq!(lines, 1 + 3 + 2 + 1);
        self.get(&server, "/api/sync/export?history=1", 400).await;
    }

    async fn export_of(&mut self, server: &TestServer, path: &str) -> usize {
        let text = send(as_user(server, Method::GET, path)).await.text;
        for (number, line) in text.lines().enumerate() {
            let component = if number == 0 { "ExportStart" } else { "ExportLine" };
            self.add_part(component, path, serde_json::from_str(line).expect("JSON"));
        }
        text.lines().count()
    }

    async fn events(&mut self) {
        let server = TestServer::start(Backend::Sqlite).await;
        server.push(USER, &push_of([operation("a", None, b"1")])).await;
        let paths =
            ["/api/sync/events", "/api/sync/vaults/notes/events", "/api/sync/events?vaults=notes"];
        for path in paths {
            let mut stream =
                as_user(&server, Method::GET, path).send().await.expect("a stream of events");
            let push = path.split('?').next().expect("a path").replace("events", "push");
            let push = as_user(&server, Method::POST, &push);
            send(push.body(push_of([operation("b", None, b"1")]).to_string())).await;
            let mut read = String::new();
            let data = loop {
                if let Some((_, rest)) = read.split_once("event: head\ndata: ")
                    && let Some((data, _)) = rest.split_once("\n\n")
                {
                    break serde_json::from_str(data).expect("JSON");
                }
                let chunk = timeout(SOON, stream.chunk()).await.expect("an event arrives");
                let chunk = chunk.expect("the connection does not break").expect("more");
                read += std::str::from_utf8(&chunk).expect("UTF-8");
            };
            self.add_part("EventData", path, data);
        }
    }

    async fn refused_before_the_body(&mut self) {
        let mut setup = Setup::on(Backend::Sqlite);
        setup.cors_origins = vec!["https://app.example"];
        setup.docs_url = Some("https://docs.example/protocol".to_owned());
        let server = TestServer::start_with(setup).await;
        let now = SystemClock::start().now();
        let hour = Duration::from_secs(3600);
        let token =
            |millis: i64| server.key.mint(USER, now.plus_millis(millis), hour).expect("a token");
        let pull = "/api/sync/pull";
        for (token, code) in [
            ("x".to_owned(), "unauthorized"),
            (token(-7_200_000), "token_expired"),
            (token(3_600_000), "token_iat_in_the_future"),
        ] {
            let answer = send(server.request(Method::GET, pull).bearer_auth(token)).await;
            assert_eq!(self.keep(code, (&Method::GET, pull), 401, &answer)["code"], code);
        }
        let preflight =
            server.request(Method::OPTIONS, pull).header("origin", "https://other.example");
        let answer = send(preflight.header("access-control-request-method", "GET")).await;
        self.keep("a preflight", (&Method::OPTIONS, pull), 403, &answer);
        self.get(&server, "/api/sync/nothing", 404).await;
        self.call(&server, (Method::PATCH, pull), 405).await;
        let answer =
            send(as_user(&server, Method::GET, pull).header("x-long", "x".repeat(40_000))).await;
        self.keep("long headers", (&Method::GET, pull), 431, &answer);
        self.get(&server, "/api/sync/pull?limit=0&cursor=now", 400).await;
        self.get(&server, "/api/sync/manifest?limit=0", 400).await;
        self.call(&server, (Method::DELETE, "/api/sync/vault"), 400).await;
        self.call(&server, (Method::DELETE, "/api/sync/account?confirm=bob"), 400).await;
    }

    async fn refused_bodies(&mut self) {
        const PUSH: &str = "/api/sync/push";
        let soon = Duration::from_millis(300);
        let limits = Limits {
            body_bytes_max: 3 * 1024 * 1024,
            body_seconds: soon,
            memory_bytes_per_user_max: 4 * 1024 * 1024,
            ..Limits::default()
        };
        let server = server_with(limits).await;
        let request = (&Method::POST, PUSH);
        let push = || as_user(&server, Method::POST, PUSH);
        let answer = send(push().body("{")).await;
        self.keep("half of an object", request, 400, &answer);
        self.post(&server, PUSH, &json!({ "operations": [{}], "epoch": 1 }), 400).await;
        for path in ["/api/sync/pull", "/api/sync/records"] {
            self.post(&server, path, &json!([]), 400).await;
        }
        let answer = send(push().header("content-type", "text/html").body("x")).await;
        self.keep("HTML", request, 415, &answer);
        let answer = send(push().body(" ".repeat(4 * 1024 * 1024))).await;
        self.keep("a long body", request, 413, &answer);
        let mut head = format!("POST {PUSH} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n");
        write!(head, "Authorization: Bearer {}\r\n\r\n{{", server.token(USER)).expect("a text");
        let mut slow = RawClient::connect(&server).await;
        slow.send(head).await;
        let answer = timeout(SOON, slow.answer()).await.expect("a response");
        self.keep("half a body", request, 408, &answer);
    }

    async fn rates_and_readiness(&mut self) {
        let limits = Limits { rate_limit: 1, ..Limits::default() };
        let server = TestServer::start_with(Setup { limits, ..Setup::on(Backend::Sqlite) }).await;
        let pull = "/api/sync/pull";
        let answer = until(429, || server.pull(USER, "")).await;
        self.keep("too many requests", (&Method::GET, pull), 429, &answer);

        let server = TestServer::start(Backend::Sqlite).await;
        let _task = server.app.tasks().spawn("broken", || async { panic!("on purpose") });
        let ready = "/readyz";
        let answer = until(503, || send(server.request(Method::GET, ready))).await;
        let body = self.keep("not ready", (&Method::GET, ready), 503, &answer);
        assert_eq!(body["reasons"].as_array().map(Vec::len), Some(1));
    }

    async fn quotas(&mut self) {
        let server = server_with(Limits { quota_records: 1, ..Limits::default() }).await;
        let push = [operation("a", None, b"1"), operation("b", None, b"1")];
        let refused = self.push(&server, push, 507).await;
        assert_eq!(refused["quota"], json!({ "records": 1, "bytes": null }));
    }

    async fn erasures(&mut self) {
        let server = TestServer::start(Backend::Sqlite).await;
        self.push(&server, [operation("a", None, b"1")], 200).await;
        let page = self.get(&server, "/api/sync/pull", 200).await;
        let epoch = page["epoch"].as_str().expect("an epoch");
        let erase = |confirm: &str| format!("/api/sync/vault?confirm={confirm}");
        self.call(&server, (Method::DELETE, &erase("other")), 410).await;
        self.call(&server, (Method::DELETE, &erase(epoch)), 200).await;
        self.call(&server, (Method::DELETE, "/api/sync/vaults/notes?confirm=e"), 410).await;
        for path in ["/api/sync/pull", "/api/sync/manifest"] {
            let erased = self.get(&server, &format!("{path}?epoch={epoch}"), 410).await;
            assert_eq!(erased["code"], "vault_erased", "{path}");
        }
        let read = json!({ "recordIds": ["a"], "epoch": epoch });
        self.post(&server, "/api/sync/records", &read, 410).await;
        let mut push = push_of([operation("a", None, b"1")]);
        push["epoch"] = json!(epoch);
        self.post(&server, "/api/sync/push", &push, 410).await;
        self.call(&server, (Method::DELETE, "/api/sync/account?confirm=ada"), 200).await;
    }

    async fn removed_tombstones(&mut self) {
        const DAY: Duration = Duration::from_hours(24);
        let clock = Arc::new(ManualClock::at(SystemClock::start().now()));
        let mut setup = Setup::on(Backend::Sqlite);
        setup.clock = Some(clock.clone());
        setup.limits = Limits {
            tombstone_days: 1,
            history_days: 1,
            gc_interval_seconds: Duration::from_millis(50),
            ..setup.limits
        };
        let server = TestServer::start_with(setup).await;
        let token = |user: &str, now: Timestamp| server.key.mint(user, now, DAY).expect("a token");
        let call = async |user: &str, method: Method, path: &str, body: Value| {
            let request = server.request(method, path).bearer_auth(token(user, clock.now()));
            send(request.body(body.to_string())).await
        };
        let (push, pull) = ("/api/sync/push", "/api/sync/pull");
        let one = |base, ciphertext: &[u8]| push_of([operation("a", base, ciphertext)]);
        call(USER, Method::POST, push, one(None, b"1")).await;
        let since = call(USER, Method::GET, pull, json!(null)).await.json()["head"].clone();
        call(USER, Method::POST, push, one(Some(1), b"")).await;
        clock.advance(3 * DAY);
        let body = json!({ "cursor": since, "since": since });
        let answer = until(410, || call(USER, Method::POST, pull, body.clone())).await;
        self.keep("a pull that is late", (&Method::POST, pull), 410, &answer);
        let mut body = one(None, b"2");
        body["since"] = since;
        let answer = call(USER, Method::POST, push, body).await;
        self.keep("a push that is late", (&Method::POST, push), 410, &answer);
    }
}

/// Sends the request until the response has this status.
async fn until<F: Future<Output = Answer>>(status: u16, request: impl Fn() -> F) -> Answer {
    let answers = async {
        loop {
            let answer = request().await;
            if answer.status == status {
                return answer;
            }
        }
    };
    timeout(SOON, answers).await.expect("the status comes in time")
}
