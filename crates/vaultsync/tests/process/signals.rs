//! Signals: early ones, a drain delay, and those that do not stop the server.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Server, serve_command, token, vaultsync};

/// A client that opens a connection for each request.
fn client() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
}

async fn readiness(server: &Server) -> (u16, Value) {
    let response = client().get(format!("{}/readyz", server.url)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Whether the process handles SIGTERM.
fn handles_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit 0 is signal 1.
    caught.is_some_and(|mask| mask & (1 << 14) != 0)
}

#[test]
fn a_signal_during_the_start_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("settings.toml");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    // The settings never arrive.
    let mut child = vaultsync()
        .args(["serve", "--config"])
        .arg(&pipe)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !handles_sigterm(child.id()) {
        std::thread::yield_now();
    }
    let sent = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn during_the_drain_delay_the_server_is_not_ready_and_serves_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--drain-delay-seconds", "3600"]);
    let token = token(folder.path(), "ada");
    assert_eq!(readiness(&server).await.0, 200);
    server.signal("TERM");
    let reasons = loop {
        let (status, body) = readiness(&server).await;
        if status == 503 {
            break body["reasons"].clone();
        }
    };
    assert_eq!(reasons, serde_json::json!(["the server is stopping"]));
    for path in ["/healthz", "/api/sync/pull", "/api/sync/info"] {
        let request = client().get(format!("{}{path}", server.url)).bearer_auth(&token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["connection"], "close", "{path}");
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1), "a second signal ends the process at once");
}

#[test]
fn the_server_stops_when_the_drain_delay_has_passed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--drain-delay-seconds", "1"]);
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn a_hangup_does_not_stop_a_server_without_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = folder.path().join("data");
    let mut command = serve_command(&data, &[]);
    let mut server = Server::spawn(command.stderr(fs::File::create(&log).unwrap()));
    server.signal("HUP");
    while !fs::read_to_string(&log).unwrap().contains("SIGHUP is ignored") {
        assert_eq!(readiness(&server).await.0, 200);
    }
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
