//! What clients and proxies in Node make of the server: linters and generators read its OpenAPI document,
//! generated clients sync, the package of types and schemas agrees with it, and a proxy that compresses passes its
//! events on.

mod api_package;
mod project;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;
use vaultsync_testkit::{Backend, TestServer, operation, push_of, send};

use project::{node, package_program, run};

/// The committed document, which a test of `openapi` compares with the served one.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// Long enough on a busy machine for anything that happens at once, and less than the time after which
/// an event stream sends a comment although nothing has happened.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_document_passes_the_linters_of_redocly_and_spectral() {
    run(node("lint.mjs").arg(DOCUMENT), "the document has no problem");
}

#[tokio::test]
async fn generated_clients_type_check_strictly_and_sync() {
    let generated = project::folder().join("generated");
    let mut types = package_program("openapi-typescript");
    types.arg(DOCUMENT).arg("--output").arg(generated.join("openapi-typescript.ts"));
    run(&mut types, "openapi-typescript makes types");
    let mut client = package_program("openapi-ts");
    client.args(["--input", DOCUMENT, "--client", "@hey-api/client-fetch", "--output"]);
    run(client.arg(generated.join("hey-api")), "hey-api makes a client");
    run(package_program("tsc").args(["--project", "."]), "TypeScript accepts both programs");

    let server = TestServer::start(Backend::Sqlite).await;
    for program in ["with-openapi-typescript", "with-hey-api"] {
        let mut command = node(&format!("built/{program}.js"));
        command.env("VAULTSYNC_URL", server.url(""));
        command.env("VAULTSYNC_TOKEN", server.token(program));
        let synced = tokio::task::spawn_blocking(move || run(&mut command, "the program syncs"));
        let synced: Value = serde_json::from_slice(&synced.await.expect("no panic").stdout)
            .expect("the program prints JSON");
        let expected = json!({
            "first": { "applied": true, "version": 1 },
            "conflict": { "applied": false, "version": 1 },
            "merged": { "applied": true, "version": 2 },
            "pulled": [[program, 2], [format!("{program}-2"), 1]],
        });
        assert_eq!(synced, expected, "{program}");
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the proxy in front of a server, and returns its URL.
fn start_proxy(server: &TestServer) -> (Running, String) {
    let mut command = node("compressing-proxy.mjs");
    command.arg(server.url("")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut proxy = Running(command.spawn().expect("Node starts"));
    let stdout = proxy.0.stdout.take().expect("the output of the proxy");
    let mut port = String::new();
    BufReader::new(stdout).read_line(&mut port).expect("the port of the proxy");
    (proxy, format!("http://127.0.0.1:{}", port.trim()))
}

/// Reads the stream until it contains `text`. Fails the test if that is not soon.
async fn read_until(stream: &mut Response, text: &str) {
    let mut read = String::new();
    while !read.contains(text) {
        let chunk = timeout(SOON, stream.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("{text:?} arrives soon after {read:?}"));
        let chunk = chunk.expect("the connection does not break").expect("the stream goes on");
        read += &String::from_utf8(chunk.into()).expect("the stream is not compressed");
    }
}

#[tokio::test]
async fn events_pass_a_proxy_that_compresses_at_once() {
    let server = TestServer::start(Backend::Sqlite).await;
    let (_proxy, url) = start_proxy(&server);
    let client = reqwest::Client::new();
    let request = |path: &str| {
        let request = client.request(Method::GET, format!("{url}{path}"));
        request.bearer_auth(server.token("ada")).header("accept-encoding", "gzip")
    };
    // The vault is empty: only the comment brings the headers along.
    let opened = timeout(SOON, request("/api/sync/events").send()).await;
    let mut stream = opened.expect("the headers arrive at once").expect("a response");
    assert_eq!(stream.status().as_u16(), 200);
    assert!(!stream.headers().contains_key("content-encoding"), "{:?}", stream.headers());
    read_until(&mut stream, ":\n\n").await;
    for record in ["a", "b", "c"] {
        let push = push_of([operation(record, None, &[7; 2000])]);
        assert_eq!(server.push("ada", &push).await.status, 200);
        read_until(&mut stream, "event: head\ndata: {\"head\":\"").await;
    }
    // Otherwise the test would show nothing.
    let page = request("/api/sync/pull").send().await.expect("a response");
    assert_eq!(page.headers()["content-encoding"], "gzip", "the proxy compresses other responses");
    let direct = send(server.request(Method::GET, "/api/sync/info")).await;
    assert_eq!(direct.header("cache-control"), "no-store", "other responses may be compressed");
}
