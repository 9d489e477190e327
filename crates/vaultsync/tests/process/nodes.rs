//! Two nodes on one database, and a database that becomes unavailable.

use std::{path::Path, time::Duration};

use reqwest::{Client, Response};
use serde_json::Value;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{Backend, TestDatabase};

use crate::support::{Server, run, token, vaultsync};

/// Far longer than a notification takes on a busy machine, and shorter than the waits that it must end.
const SOON: Duration = Duration::from_secs(40);

fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(70)).build().expect("a client")
}

async fn push(server: &Server, token: &str, id: &str) -> Response {
    let body = format!(
        r#"{{"operations":[{{"recordId":"{id}","baseVersion":null,"ciphertext":"aGk=","deleted":false}}]}}"#
    );
    let push = client().post(format!("{}/api/sync/push", server.url)).bearer_auth(token);
    push.body(body).send().await.expect("a response")
}

fn pull(server: &Server, token: &str, query: &str) -> reqwest::RequestBuilder {
    client().get(format!("{}/api/sync/pull?{query}", server.url)).bearer_auth(token)
}

/// The page of a waiting pull at one node, during which another node receives a push.
async fn wait_and_push(
    folder: &Path,
    database: &TestDatabase,
    flags: &[&str],
    seconds: u64,
) -> Value {
    let here = Server::start_on(database, folder, flags);
    let there = Server::start_on(database, folder, flags);
    let token = token(folder, "ada");
    let wait = pull(&there, &token, &format!("wait={seconds}"));
    let waiting = tokio::spawn(async move { wait.send().await.expect("a response") });
    // The start of the wait cannot be observed. If it starts after the push, it returns the record at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(push(&here, &token, "r").await.status(), 200);
    let answer = tokio::time::timeout(SOON, waiting).await.expect("the wait ends soon");
    answer.expect("no panic").json().await.expect("a page")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_at_one_node_ends_a_wait_at_another() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(Backend::Postgres));
    let page = wait_and_push(folder.path(), &database, &[], 55).await;
    assert_eq!(page["records"][0]["recordId"], "r", "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_a_wait_only_takes_longer() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(Backend::Postgres));
    let page = wait_and_push(folder.path(), &database, &["--notify-database", "off"], 4).await;
    assert_eq!(page["records"][0]["recordId"], "r", "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_database_gives_503_until_it_is_back() {
    let (folder, postgres) = (tempfile::tempdir().unwrap(), PostgresServer::start());
    let url = postgres.url("postgres");
    let server = Server::start(folder.path(), &["--database", &url]);
    let token = token(folder.path(), "ada");
    assert_eq!(push(&server, &token, "before").await.status(), 200);
    let ready = || async {
        let response = client().get(format!("{}/readyz", server.url)).send().await;
        response.expect("a response").status().as_u16()
    };
    assert_eq!(ready().await, 200);

    postgres.stop();
    // Five times the target of two seconds.
    let unavailable = tokio::time::timeout(Duration::from_secs(10), async {
        let refused = push(&server, &token, "during").await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let refused: Value = refused.json().await.expect("a body");
        assert_eq!(refused["code"], "unavailable", "{refused}");
        let refused = pull(&server, &token, "").send().await.expect("a response");
        assert_eq!(refused.status(), 503);
        // Its result may be a second old.
        while ready().await != 503 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    unavailable.await.expect("the errors come soon");

    postgres.start_again();
    let back = tokio::time::timeout(Duration::from_secs(25), async {
        while ready().await != 200 || push(&server, &token, "after").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    back.await.expect("the server recovers soon");
    let page: Value = pull(&server, &token, "").send().await.unwrap().json().await.unwrap();
    let ids: Vec<_> =
        page["records"].as_array().unwrap().iter().map(|one| &one["recordId"]).collect();
    assert_eq!(ids, ["before", "after"]);
}

#[test]
fn migrate_prints_its_steps_and_applies_them_once() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(Backend::Postgres));
    let migrate = |flags: &[&str]| {
        run(vaultsync().args(["migrate", "--database", &database.url()]).args(flags))
    };
    let (code, out, err) = migrate(&["--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("to apply: V1__vaults_and_records"), "{out}");
    let refused = vaultsync()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--data-dir"])
        .arg(folder.path())
        .args(["--database", &database.url(), "--database-migrate=false"])
        .output()
        .expect("the binary starts");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("`vaultsync migrate`"), "{error}");
    let (code, out, err) = migrate(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("applied: V1__vaults_and_records"), "{out}");
    assert!(out.contains("validated: all records have their digest"), "{out}");
    let (code, out, _) = migrate(&[]);
    assert!(code == Some(0) && out.contains("the schema is up to date"), "{out}");
    assert!(!out.contains("digest"), "{out}");
    let started =
        Server::start(folder.path(), &["--database", &database.url(), "--database-migrate=false"]);
    assert!(
        started.banner.contains(&database.url().replace("postgres@", "")),
        "{}",
        started.banner
    );

    let sqlite = format!("sqlite:{}", folder.path().join("x.db").display());
    let (code, _, err) = run(vaultsync().args(["migrate", "--database", &sqlite]));
    assert!(code == Some(1) && err.contains("`vaultsync serve` migrates it"), "{code:?} {err}");
    let (code, _, err) =
        run(vaultsync().args(["migrate", "--citus", "--database", &database.url()]));
    // Without Citus, the error says so.
    assert!(code == Some(0) || err.contains("citus"), "{code:?} {err}");
}
