//! Metrics and logs: they show what happens, and reveal no token, record, ciphertext or user.

use std::{
    io,
    sync::{Mutex, Once},
};

use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use vaultsync_server::{Limits, admin_router};
use vaultsync_testkit::forge::base64url;
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, backends, operation, push_of, send};

backends!(
    metrics_count_requests_and_reveal_no_secrets,
    invented_paths_and_methods_add_no_metrics,
    only_the_admin_address_serves_metrics_and_nothing_else,
    logs_reveal_no_secrets,
    a_refused_push_is_logged_with_its_request_and_record_hashes,
    a_failed_sign_in_is_logged_with_its_reason,
    a_failed_sign_in_is_logged_with_what_was_expected_and_what_came,
    a_server_error_is_logged_with_a_cause_that_the_client_does_not_get,
);

/// The log of this process, of all its tests.
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().expect("no panic while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Captures the log of this process from now on, at every level.
fn capture_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(|| Log)
            .init();
    });
}

fn logged() -> String {
    String::from_utf8(LOGGED.lock().expect("no panic while logging").clone()).expect("UTF-8")
}

/// The log lines of a request.
fn logged_for(request_id: &str) -> Vec<Value> {
    let lines = logged();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["span"]["id"] == request_id).collect()
}

/// A server with an admin address, and the URL of that address.
async fn server_with_admin(backend: Backend, limits: Limits) -> (TestServer, String) {
    capture_log();
    let limits = Limits { rate_limit: 0, ..limits };
    let server = TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let router = admin_router(server.app.clone());
    tokio::spawn(vaultsync_server::serve(server.app.clone(), listener, router));
    (server, format!("http://{address}"))
}

async fn scrape(admin: &str) -> String {
    let answer = send(reqwest::Client::new().get(format!("{admin}/metrics"))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    answer.text
}

/// The value of a metric with its labels; 0 if it does not exist yet.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Sends requests of many kinds, with secrets that must not be revealed.
async fn traffic(server: &TestServer) -> Vec<Answer> {
    let token = server.token("ada-the-user");
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let forged = format!("{signed}.AAAA{}", &signature[4..]);
    let get = |path: &str| server.request(Method::GET, path);
    let push = |ciphertext: &[u8]| {
        let push = push_of([operation("secret-record-id", None, ciphertext)]);
        send(server.request(Method::POST, "/api/sync/push").bearer_auth(&token).json(&push))
    };
    let mut answers = vec![
        push(b"secret ciphertext").await,
        push(b"secret ciphertext that conflicts").await,
        send(get("/api/sync/pull").bearer_auth(&token)).await,
    ];
    let cursor = answers[2].json()["nextCursor"].as_str().expect("a cursor").to_owned();
    let path = format!("/api/sync/pull?cursor={cursor}&secret-query=1");
    answers.push(send(get(&path).bearer_auth(&token)).await);
    answers.push(send(get("/api/sync/pull").bearer_auth(forged)).await);
    answers.push(send(get("/api/sync/pull")).await);
    answers.push(send(get("/secret-path/of-a-caller")).await);
    answers.push(send(get("/docs/secret-file")).await);
    answers.push(send(get("/api/sync/push")).await);
    let odd = Method::from_bytes(b"SECRETMETHOD").expect("a method");
    answers.push(send(server.request(odd, "/api/sync/pull")).await);
    let broken = server.request(Method::POST, "/api/sync/push").bearer_auth(&token);
    answers.push(send(broken.body(r#"{"operations":[{"recordId":"secret-record-id","#)).await);
    let invalid = r#"{"operations":[{"recordId":"secret-record-id","baseVersion":-1}]}"#;
    let broken = server.request(Method::POST, "/api/sync/push").bearer_auth(&token);
    answers.push(send(broken.body(invalid)).await);
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 409, 200, 200, 401, 401, 404, 404, 405, 405, 400, 400]);
    answers
}

/// Checks that `text` contains no secret of [`traffic`].
#[track_caller]
fn assert_reveals_nothing(what: &str, text: &str, server: &TestServer, answers: &[Answer]) {
    let token = server.token("ada-the-user");
    let cursor = answers[2].json()["nextCursor"].as_str().expect("a cursor").to_owned();
    // The header of a token is no secret, unlike its claims and its signature.
    let claims = token.split('.').nth(1).expect("claims");
    let ciphertext = base64_of_ciphertext(&answers[2]);
    for secret in [
        "secret-record-id",
        "secret ciphertext",
        ciphertext.as_str(),
        &claims[..20],
        "Bearer ",
        "ada-the-user",
        "secret-path",
        "secret-file",
        "secret-query",
        "SECRETMETHOD",
        cursor.as_str(),
    ] {
        if let Some(at) = text.find(secret) {
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!("{what} reveal {secret}: {}", text[line..].lines().next().unwrap_or_default());
        }
    }
}

fn base64_of_ciphertext(pulled: &Answer) -> String {
    pulled.json()["records"][0]["ciphertext"].as_str().expect("a ciphertext").to_owned()
}

async fn metrics_count_requests_and_reveal_no_secrets(backend: Backend) {
    let (server, admin) = server_with_admin(backend, Limits::default()).await;
    let before = scrape(&admin).await;
    let answers = traffic(&server).await;
    let after = scrape(&admin).await;
    assert_reveals_nothing("the metrics", &after, &server, &answers);

    let of_the_process: &[&str] = if cfg!(target_os = "linux") {
        &[
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
        ]
    } else {
        &[]
    };
    let of_the_store = match backend {
        Backend::Sqlite => ["vaultsync_store_queue_pushes", "vaultsync_store_commit_pushes"],
        Backend::Postgres => ["vaultsync_store_connections", "vaultsync_store_connections_idle"],
    };
    for name in [
        "vaultsync_http_requests_total",
        "vaultsync_http_request_seconds",
        "vaultsync_records_pushed_total",
        "vaultsync_records_pulled_total",
        "vaultsync_conflicts_total",
        "vaultsync_sign_in_failures_total",
        "vaultsync_connections_open",
        "vaultsync_memory_reserved_bytes",
    ]
    .into_iter()
    .chain(of_the_store)
    .chain(of_the_process.iter().copied())
    {
        let help = format!("# HELP {name} ");
        assert!(after.contains(&help), "{name} is described");
        let typed = after.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")));
        assert!(typed, "{name} has a type");
        let sample = after.lines().any(|line| line.starts_with(name));
        assert!(sample, "{name} has a value");
    }

    // Other tests of this process push and pull too, so the numbers may be higher.
    let grew = |name: &str| value(&after, name) - value(&before, name);
    assert!(grew("vaultsync_records_pushed_total") >= 1.0);
    assert!(grew("vaultsync_records_pulled_total") >= 1.0);
    assert!(grew("vaultsync_conflicts_total") >= 1.0);
    for reason in ["token-invalid-signature", "session-token-missing"] {
        let name = format!("vaultsync_sign_in_failures_total{{reason=\"{reason}\"}}");
        assert!(grew(&name) >= 1.0, "{name}\n{after}");
    }
    for (route, method, status) in [
        ("/api/sync/push", "POST", 200),
        ("/api/sync/push", "POST", 409),
        ("/api/sync/push", "POST", 400),
        ("/api/sync/push", "GET", 405),
        ("/api/sync/pull", "GET", 401),
        ("/api/sync/pull", "other", 405),
        ("/docs/{*file}", "GET", 404),
        ("none", "GET", 404),
    ] {
        let name = format!(
            "vaultsync_http_requests_total{{route=\"{route}\",method=\"{method}\",\
             status=\"{status}\"}}"
        );
        assert!(grew(&name) >= 1.0, "{name}\n{after}");
    }
    assert!(value(&after, "vaultsync_connections_open") >= 1.0);
}

// On one backend only, so that no other test of this process opens streams.
#[tokio::test]
async fn an_event_stream_is_counted_while_open_and_measured_at_its_headers() {
    const OPEN: &str = "vaultsync_event_streams";
    const PUBLISHED: &str = "vaultsync_events_published_total";
    const MEASURED: &str =
        "vaultsync_http_request_seconds_count{route=\"/api/sync/events\",method=\"GET\"}";
    let (server, admin) = server_with_admin(Backend::Sqlite, Limits::default()).await;
    let push = push_of([operation("a", None, b"1")]);
    assert_eq!(server.push("ada", &push).await.status, 200);
    let before = scrape(&admin).await;
    let request = server.request(Method::GET, "/api/sync/events").bearer_auth(server.token("ada"));
    let mut stream = request.send().await.expect("an answer");
    // The first event may arrive after the comment that the stream begins with.
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("event: head") {
        read.extend(stream.chunk().await.expect("an open stream").expect("an event"));
    }

    let during = scrape(&admin).await;
    let more = |name| value(&during, name) - value(&before, name);
    let is_one = |number: f64| (number - 1.0).abs() < f64::EPSILON;
    assert!(is_one(value(&during, OPEN)));
    assert!(is_one(more(PUBLISHED)));
    assert!(is_one(more(MEASURED)), "while the stream is open");
    for name in [OPEN, PUBLISHED] {
        assert!(during.contains(&format!("# HELP {name} ")), "{name} is described");
    }
    drop(stream);
    let closed = async { while value(&scrape(&admin).await, OPEN) != 0.0 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("it is closed");
}

#[tokio::test]
async fn failed_sign_ins_are_counted_by_reason() {
    const COUNTED: &str = "vaultsync_sign_in_failures_total{reason=\"token-invalid\"}";
    let (server, admin) = server_with_admin(Backend::Sqlite, Limits::default()).await;
    // Metrics are shared by all tests of this process. No other one is refused for this reason.
    for _ in 0..3 {
        let request = server.request(Method::GET, "/api/sync/pull").bearer_auth("no.to.ken");
        assert_eq!(send(request).await.status, 401);
    }
    let metrics = scrape(&admin).await;
    assert!((value(&metrics, COUNTED) - 3.0).abs() < f64::EPSILON, "{metrics}");
    assert!(!metrics.contains("no.to.ken"), "the token is not in the metrics");
}

async fn invented_paths_and_methods_add_no_metrics(backend: Backend) {
    let (server, admin) = server_with_admin(backend, Limits::default()).await;
    let series = |metrics: &str| metrics.lines().filter(|line| line.contains("none")).count();
    let send_invented = async |number: u32| {
        let method = Method::from_bytes(format!("METHOD{number}").as_bytes()).expect("a method");
        for method in [method, Method::GET, Method::DELETE] {
            send(server.request(method, &format!("/made-up/{number}?and={number}"))).await;
        }
    };
    send_invented(0).await;
    let before = series(&scrape(&admin).await);
    for number in 1..50 {
        send_invented(number).await;
    }
    assert_eq!(series(&scrape(&admin).await), before);
}

async fn only_the_admin_address_serves_metrics_and_nothing_else(backend: Backend) {
    let (server, admin) = server_with_admin(backend, Limits::default()).await;
    let public = send(server.request(Method::GET, "/metrics")).await;
    assert_eq!((public.status, &public.json()["code"]), (404, &"not_found".into()));
    let client = reqwest::Client::new();
    let pull = send(client.get(format!("{admin}/api/sync/pull"))).await;
    assert_eq!((pull.status, &pull.json()["code"]), (404, &"not_found".into()));
    let post = send(client.post(format!("{admin}/metrics"))).await;
    assert_eq!((post.status, &post.json()["code"]), (405, &"method_not_allowed".into()));
}

async fn logs_reveal_no_secrets(backend: Backend) {
    let (server, _) = server_with_admin(backend, Limits::default()).await;
    let answers = traffic(&server).await;
    assert!(logged().contains("push refused"), "the log is captured");
    assert_reveals_nothing("the logs", &logged(), &server, &answers);
}

async fn a_refused_push_is_logged_with_its_request_and_record_hashes(backend: Backend) {
    let (server, _) = server_with_admin(backend, Limits::default()).await;
    let answers = traffic(&server).await;
    let lines = logged_for(answers[1].header("x-request-id"));
    let refused = lines.iter().find(|line| line["fields"]["message"] == "push refused");
    let fields = &refused.unwrap_or_else(|| panic!("{lines:?}"))["fields"];
    assert_eq!(fields["conflicts"], 1);
    let hash = fields["records"].as_str().expect("hashes");
    assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    let response = lines.iter().find(|line| line["fields"]["message"] == "request handled");
    assert_eq!(response.expect("a line for the response")["fields"]["status"], 409);
}

async fn a_failed_sign_in_is_logged_with_its_reason(backend: Backend) {
    let (server, _) = server_with_admin(backend, Limits::default()).await;
    let answers = traffic(&server).await;
    let lines = logged_for(answers[4].header("x-request-id"));
    let response = lines.iter().find(|line| line["fields"]["message"] == "request handled");
    let fields = &response.unwrap_or_else(|| panic!("{lines:?}"))["fields"];
    assert_eq!(
        (&fields["status"], &fields["cause"]),
        (&401.into(), &"token-invalid-signature".into())
    );
}

async fn a_failed_sign_in_is_logged_with_what_was_expected_and_what_came(backend: Backend) {
    let (server, _) = server_with_admin(backend, Limits::default()).await;
    let token = server.token("ada-the-user");
    let parts: Vec<&str> = token.split('.').collect();
    let claims = r#"{"iss":"https://id.example/\n","sub":"ada-the-user"}"#;
    let foreign = format!("{}.{}.{}", parts[0], base64url(claims.as_bytes()), parts[2]);
    let long = format!("{}.{token}", "a".repeat(9000));
    for (token, cause, detail) in [
        (
            &foreign,
            "token-invalid-issuer",
            r#"iss of the token is "https://id.example/\n", and this server accepts "https://local.vaultsync.invalid""#,
        ),
        (&long, "token-too-long", "bytes, and token_bytes_max is 8192"),
    ] {
        let request = server.request(Method::GET, "/api/sync/pull").bearer_auth(token);
        let answer = send(request).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &"unauthorized".into()));
        assert!(!answer.text.contains("id.example") && !answer.text.contains("8192"), "{answer:?}");
        let lines = logged_for(answer.header("x-request-id"));
        let response = lines.iter().find(|line| line["fields"]["message"] == "request handled");
        let fields = &response.unwrap_or_else(|| panic!("{lines:?}"))["fields"];
        assert_eq!(fields["cause"], cause);
        let logged = fields["detail"].as_str().expect("a detail");
        assert!(logged.contains(detail), "{logged}");
    }
}

async fn a_server_error_is_logged_with_a_cause_that_the_client_does_not_get(backend: Backend) {
    let (server, _) =
        server_with_admin(backend, Limits { memory_bytes_max: 1024, ..Limits::default() }).await;
    let busy = server.push("ada", &push_of([operation("a", None, &[7; 5000])])).await;
    assert_eq!(busy.status, 503);
    let lines = logged_for(busy.header("x-request-id"));
    let response = lines.iter().find(|line| line["fields"]["message"] == "request handled");
    let response = response.unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(response["level"], "ERROR");
    let cause = response["fields"]["cause"].as_str().expect("a cause");
    assert_ne!(cause, "");
    assert!(!busy.text.contains(cause), "{}", busy.text);
}
