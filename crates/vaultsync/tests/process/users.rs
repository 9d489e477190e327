//! `vaultsync user` and `vaultsync gc`, beside a running server and without one.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestDatabase, operation, push_of};

use crate::support::{Server, run, token, vaultsync};

/// A database of each kind, and the settings that name it.
fn databases() -> Vec<(tempfile::TempDir, Option<TestDatabase>)> {
    let folder = || tempfile::tempdir().unwrap();
    vec![(folder(), None), (folder(), Some(TestDatabase::new(Backend::Postgres)))]
}

fn settings(folder: &Path, database: Option<&TestDatabase>) -> Vec<String> {
    let mut flags = vec!["--data-dir".to_owned(), folder.to_str().unwrap().to_owned()];
    if let Some(database) = database {
        flags.extend(["--database".to_owned(), database.url()]);
    }
    flags
}

fn start(folder: &Path, database: Option<&TestDatabase>) -> Server {
    start_with(folder, database, &[])
}

fn start_with(folder: &Path, database: Option<&TestDatabase>, flags: &[&str]) -> Server {
    match database {
        Some(database) => Server::start_on(database, folder, flags),
        None => Server::start(folder, flags),
    }
}

async fn push(server: &Server, folder: &Path, user: &str, path: &str, ids: &[&str]) {
    let body = push_of(ids.iter().map(|id| operation(id, None, b"12345")));
    let request = reqwest::Client::new().post(format!("{}{path}", server.url));
    let answer = request.bearer_auth(token(folder, user)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Runs a command on the database, which must succeed. Returns its output.
fn succeed(command: &str, settings: &[String]) -> String {
    let (code, out, err) = run(&mut with_settings(command, settings));
    assert_eq!(code, Some(0), "{command}: {out}{err}");
    out
}

fn with_settings(command: &str, settings: &[String]) -> Command {
    let mut vaultsync = vaultsync();
    vaultsync.args(command.split(' ')).args(settings);
    vaultsync
}

/// Runs a command that must fail. Returns its error.
fn fail(command: &str, settings: &[String], code: i32) -> String {
    let (found, out, err) = run(&mut with_settings(command, settings));
    assert_eq!((found, out.as_str()), (Some(code), ""), "{command}: {err}");
    err
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_listed_shown_and_erased_beside_a_server() {
    for (folder, database) in databases() {
        let (folder, database) = (folder.path(), database.as_ref());
        let server = start(folder, database);
        push(&server, folder, "ada", "/api/sync/push", &["a", "b"]).await;
        push(&server, folder, "ada", "/api/sync/vaults/notes/push", &["a"]).await;
        push(&server, folder, "bob", "/api/sync/push", &["a"]).await;
        let settings = settings(folder, database);
        let list = || json_lines(&succeed("user list --json", &settings));
        let summary = |user: &Value| {
            (user["subject"].clone(), user["vaults"].clone(), user["records"].clone())
        };
        let found: Vec<_> = list().iter().map(summary).collect();
        assert_eq!(found, [(json!("ada"), json!(2), json!(3)), (json!("bob"), json!(1), json!(1))]);
        let shown = succeed("user show ada", &settings);
        for part in ["ada of https://local.vaultsync.invalid", "(default)", "notes", "2 records"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let usage = json_lines(&succeed("user usage ada --json", &settings));
        assert_eq!(usage[1]["vault"], "notes");
        assert_eq!(usage[1]["usage"]["bytes"], 5);

        let erased = succeed("user erase ada --confirm ada --vault notes", &settings);
        assert!(erased.ends_with("erased: 1 vaults\n"), "{erased}");
        assert_eq!(list()[0]["vaults"], 1);
        succeed("user erase ada --confirm ada", &settings);
        assert_eq!(
            list().iter().map(summary).collect::<Vec<_>>(),
            [(json!("bob"), json!(1), json!(1))]
        );
        let pull = reqwest::Client::new().get(format!("{}/api/sync/pull", server.url));
        let page: Value =
            pull.bearer_auth(token(folder, "ada")).send().await.unwrap().json().await.unwrap();
        assert_eq!((&page["records"], &page["epoch"]), (&json!([]), &Value::Null));
        push(&server, folder, "ada", "/api/sync/push", &["new"]).await;
        assert_eq!(list()[0]["records"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_users_fail_with_a_reason() {
    for (folder, database) in databases() {
        let (folder, database) = (folder.path(), database.as_ref());
        let server = start(folder, database);
        push(&server, folder, "ada", "/api/sync/push", &["a"]).await;
        let settings = settings(folder, database);
        for (command, code, reason) in [
            ("user show dora", 1, "dora of https://local.vaultsync.invalid has no vault"),
            ("user erase ada --confirm adam", 1, "--confirm must repeat the user's name"),
            ("user erase ada", 2, "--confirm"),
            ("user erase ada --confirm ada --vault none", 1, "no vault of this name"),
            ("user erase ada --confirm ada --vault NOTES", 2, "name of a vault"),
            ("user show ada --issuer https://other.example", 1, "has no vault"),
            ("user export ada --out /nowhere/at/all", 1, "cannot create a file in /nowhere/at/all"),
            ("user export ada --vault none", 1, "no vault of this name"),
            ("user export dora", 1, "has no vault"),
            ("user dance", 2, "unrecognized subcommand"),
            ("user show", 2, "<USER>"),
        ] {
            let error = fail(command, &settings, code);
            assert!(error.contains(reason), "{command}: {error}");
        }
        let list = succeed("user list", &settings);
        assert!(list.lines().count() == 2 && list.contains("ada\t1\t1\t5"), "{list}");
    }
}

/// The lines of an export by the route, without the time of its beginning and the SHA-256.
async fn exported(server: &Server, folder: &Path, path: &str) -> Vec<Value> {
    let request = reqwest::Client::new().get(format!("{}{path}", server.url));
    let answer = request.bearer_auth(token(folder, "ada")).send().await.unwrap();
    comparable(&answer.text().await.unwrap())
}

fn comparable(export: &str) -> Vec<Value> {
    let mut lines = json_lines(export);
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|name, _| name != "exportedAt" && name != "sha256");
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vaults_are_exported_to_files_beside_a_server() {
    for (folder, database) in databases() {
        let (folder, database) = (folder.path(), database.as_ref());
        let server = start_with(folder, database, &["--history-min-age-seconds", "0"]);
        for batch in 0..12 {
            let ids: Vec<_> = (0..100).map(|number| format!("{batch} {number}")).collect();
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            push(&server, folder, "ada", "/api/sync/push", &ids).await;
        }
        push(&server, folder, "ada", "/api/sync/vaults/default/push", &["a"]).await;
        push(&server, folder, "bob", "/api/sync/push", &["bob's"]).await;
        let deleted = push_of([operation("0 0", Some(1), b"")]);
        let request = reqwest::Client::new().post(format!("{}/api/sync/push", server.url));
        let answer = request.bearer_auth(token(folder, "ada")).json(&deleted).send().await;
        assert_eq!(answer.unwrap().status(), 200);

        let (settings, out) = (settings(folder, database), tempfile::tempdir().unwrap());
        let out_flag = format!("--out {}", out.path().display());
        let files = succeed(&format!("user export ada --history {out_flag}"), &settings);
        let files: Vec<_> =
            files.lines().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(files.len(), 2);
        let default = exported(&server, folder, "/api/sync/export?history=true").await;
        assert_eq!((comparable(&files[0]), default.len()), (default, 1203));
        let notes = exported(&server, folder, "/api/sync/vaults/default/export?history=true").await;
        assert_eq!(comparable(&files[1]), notes);
        let mode = std::os::unix::fs::PermissionsExt::mode;
        let is_private = |file: &std::fs::DirEntry| {
            mode(&file.metadata().unwrap().permissions()) & 0o777 == 0o600
        };
        let left: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(Result::unwrap).collect();
        assert!(left.len() == 2 && left.iter().all(is_private), "{left:?}");

        let again = fail(&format!("user export ada {out_flag}"), &settings, 1);
        assert!(again.contains("exists already"), "{again}");
        let other = tempfile::tempdir().unwrap();
        let other_flag = format!("--out {}", other.path().display());
        let only = format!("user export ada --vault default --json {other_flag}");
        let line: Value = serde_json::from_str(&succeed(&only, &settings)).unwrap();
        assert_eq!(line["vault"], "default");
        let text = std::fs::read_to_string(line["file"].as_str().unwrap()).unwrap();
        assert_eq!(
            comparable(&text),
            exported(&server, folder, "/api/sync/vaults/default/export").await
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gc_runs_without_a_server_and_says_why_it_does_not() {
    for (folder, database) in databases() {
        let (folder, database) = (folder.path(), database.as_ref());
        let mut server = start(folder, database);
        push(&server, folder, "ada", "/api/sync/push", &["a"]).await;
        let settings = settings(folder, database);
        if database.is_none() {
            let error = fail("gc --dry-run", &settings, 1);
            assert!(error.contains("in use by a server") && error.contains("3600 s"), "{error}");
        }
        server.signal("TERM");
        assert!(server.wait().success());
        for (command, verb) in [("gc --dry-run", "to remove"), ("gc", "removed")] {
            let out = succeed(command, &settings);
            let expected =
                format!("{verb}: 0 tombstones (0 bytes)\n{verb}: 0 replaced versions (0 bytes)\n");
            assert_eq!(out, expected);
        }
        if database.is_none() {
            let erased = succeed("user erase ada --confirm ada", &settings);
            assert_eq!(erased, "erased: 1 vaults\n");
        }
    }
}

#[test]
fn a_file_that_is_missing_or_of_another_version_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), None);
    let error = fail("user list", &settings, 1);
    assert!(error.contains("vaultsync.sqlite3"), "{error}");
}
