//! Start and stop.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestDatabase, backends};

use crate::support::{Server, run, token, vaultsync};

// The other tests do not depend on the database, or they need the SQLite file.
backends!(stopping_the_server_answers_a_waiting_pull);

/// The commands in the banner.
fn commands(server: &Server) -> Vec<&str> {
    server.banner.lines().filter(|line| line.starts_with("curl ")).collect()
}

fn bash(line: &str) -> Value {
    let (code, out, err) = run(Command::new("bash").args(["-c", line]));
    assert_eq!(code, Some(0), "{line}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn the_commands_of_the_banner_work_as_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("made/at/start"), &[]);
    let [push, pull] = commands(&server)[..] else { panic!("{}", server.banner) };
    let pushed = bash(push);
    let results = json!([{"recordId": "hello", "version": 1}]);
    assert_eq!((&pushed["success"], &pushed["results"]), (&json!(true), &results));
    let retried = json!({"success": true, "results": results});
    assert_eq!(bash(push), retried, "pasting it twice is a retry");
    let page = bash(pull);
    assert_eq!(page["records"][0]["recordId"], "hello");
    assert_eq!(page["records"][0]["ciphertext"], "aGVsbG8=");
}

#[test]
fn data_survives_a_restart_in_a_private_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start(&data, &[]);
    bash(commands(&server)[0]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let restarted = Server::start(&data, &[]);
    assert_eq!(bash(commands(&restarted)[1])["records"][0]["version"], 1);
    #[cfg(unix)]
    for (file, mode) in
        [("", 0o700), ("local-issuer.key", 0o600), ("log.key", 0o600), ("vaultsync.sqlite3", 0o600)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
}

#[test]
fn both_signals_exit_with_0() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path(), &[]);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_server_serves_even_if_the_banner_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = vaultsync()
        .args(["serve", "--admin-listen", "off", "--listen", &address.to_string(), "--data-dir"])
        .arg(folder.path())
        .stdout(full)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "the server exited");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(bash(&format!("curl -sS http://{address}/healthz")), json!({"status": "ok"}));
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn stopping_the_server_answers_a_waiting_pull(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let database = TestDatabase::new(backend);
    let mut server = Server::start_on(&database, folder.path(), &[]);
    let token = token(folder.path(), "ada");
    let client = reqwest::Client::new();
    // The first pull is answered when the server is up. The second one waits.
    let pull = |wait: u8| {
        client.get(format!("{}/api/sync/pull?wait={wait}", server.url)).bearer_auth(&token).send()
    };
    pull(0).await.unwrap();
    let waiting = tokio::spawn(pull(55));
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("TERM");
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["records"], json!([]));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_server_on_one_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start(folder.path(), &[]);
    let database = format!("sqlite:{}", folder.path().join("vaultsync.sqlite3").display());
    let elsewhere = folder.path().join("elsewhere");
    let (code, out, err) = run(vaultsync()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--database"])
        .arg(&database)
        .arg("--data-dir")
        .arg(&elsewhere));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("vaultsync.sqlite3 is in use by another `vaultsync serve`"), "{err}");
    assert_eq!(bash(commands(&first)[0])["success"], true, "the first server still works");
}

#[test]
fn an_address_in_use_is_reported_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, admin, setting) in
        [(address.as_str(), "off", "`listen`"), ("127.0.0.1:0", &address, "`admin_listen`")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (code, _, err) = run(vaultsync()
            .args(["serve", "--listen", listen, "--admin-listen", admin, "--data-dir"])
            .arg(folder.path()));
        assert_eq!(code, Some(1));
        assert!(err.contains(&address) && err.contains(setting), "{err}");
    }
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a database, and long enough to be taken for one".repeat(99))
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let (code, _, err) = run(vaultsync()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--data-dir"])
        .arg(folder.path())
        .args(["--database", &format!("sqlite:{}", path.display())]));
    assert_eq!(code, Some(1));
    assert!(err.contains("notes.txt is not a Vaultsync database"), "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_token_signs_in_only_at_the_server_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let status = async |token: &str| {
        let request = reqwest::Client::new().get(format!("{}/api/sync/pull", server.url));
        request.bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&token(folder.path(), "ada")).await, 200);
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(status(&token(elsewhere.path(), "ada")).await, 401, "the key of another server");
}

#[test]
fn the_banner_has_a_token_only_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = vaultsync()
        .args(["serve", "--listen", "0.0.0.0:0", "--admin-listen", "off", "--local-issuer"])
        .arg("--data-dir")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut out: Vec<String> = lines.by_ref().take(1).collect();
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    out.extend(lines);
    let out = out.join("\n");
    assert!(out.contains("is listening on http://0.0.0.0:") && out.contains("sign-in"), "{out}");
    assert!(!out.contains("eyJ") && !out.contains("curl"), "{out}");
}

#[test]
fn the_database_is_verified_while_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    bash(commands(&server)[0]);
    let verify = || run(vaultsync().args(["verify", "--data-dir"]).arg(folder.path()));
    let (code, out, err) = verify();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.ends_with("vaultsync.sqlite3: no damage found\n"), "{out}");
    drop(server);
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, _, err) = run(vaultsync().args(["verify", "--data-dir"]).arg(elsewhere.path()));
    assert_eq!(code, Some(1));
    assert!(err.contains("vaultsync.sqlite3: No such file"), "{err}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_that_is_deleted_takes_no_pushes_and_the_server_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    bash(commands(&server)[0]);
    let token = token(folder.path(), "demo");
    for suffix in ["", "-wal", "-shm", ".lock"] {
        std::fs::remove_file(folder.path().join(format!("vaultsync.sqlite3{suffix}"))).unwrap();
    }
    let client = reqwest::Client::new();
    let body = r#"{"operations":[{"recordId":"b","baseVersion":null,"ciphertext":"AAAA","deleted":false}]}"#;
    let push = client.post(format!("{}/api/sync/push", server.url)).bearer_auth(&token).body(body);
    let response = push.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    let code = &response.json::<Value>().await.unwrap()["code"];
    assert!(["outcome_unknown", "unavailable"].contains(&code.as_str().unwrap()), "{code}");
    let ready = client.get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: Value = ready.json().await.unwrap();
    let expected = json!(["the database file was deleted or replaced: pushes are refused"]);
    assert_eq!(ready["reasons"], expected);
    let pull = client.get(format!("{}/api/sync/pull", server.url)).bearer_auth(&token);
    let page: Value = pull.send().await.unwrap().json().await.unwrap();
    assert_eq!(page["records"][0]["recordId"], "hello", "{page}");
}
