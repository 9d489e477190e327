//! Two nodes on one database: what the one is told, the other tells; and a database that goes away.

use std::{path::Path, time::Duration};

use reqwest::{Client, Response};
use serde_json::Value;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{Backend, TestDatabase};

use crate::support::{Server, run, token, vaultsync};

/// Far longer than a hint takes on a machine that has much else to do, and shorter than the waits that
/// one must end.
const SOON: Duration = Duration::from_secs(40);

fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(70)).build().expect("a client")
}

async fn push(server: &Server, token: &str, id: &str) -> Response {
    let body = format!(
        r#"{{"operations":[{{"recordId":"{id}","baseVersion":null,"ciphertext":"aGk=","deleted":false}}]}}"#
    );
    let push = client().post(format!("{}/api/sync/push", server.url)).bearer_auth(token);
    push.body(body).send().await.expect("an answer")
}

fn pull(server: &Server, token: &str, query: &str) -> reqwest::RequestBuilder {
    client().get(format!("{}/api/sync/pull?{query}", server.url)).bearer_auth(token)
}

/// A wait at one node, and a push at another when the wait has begun; what the wait answers.
async fn waited(folder: &Path, database: &TestDatabase, flags: &[&str], seconds: u64) -> Value {
    let here = Server::start_on(database, folder, flags);
    let there = Server::start_on(database, folder, flags);
    let token = token(folder, "ada");
    let wait = pull(&there, &token, &format!("wait={seconds}"));
    let waiting = tokio::spawn(async move { wait.send().await.expect("an answer") });
    // Nothing tells from outside that it has begun; where it begins later, it finds the record at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(push(&here, &token, "r").await.status(), 200);
    let answer = tokio::time::timeout(SOON, waiting).await.expect("the wait ends soon");
    answer.expect("no panic").json().await.expect("a page")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_at_one_node_is_ended_by_a_push_at_another() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(Backend::Postgres));
    let page = waited(folder.path(), &database, &[], 55).await;
    assert_eq!(page["records"][0]["recordId"], "r", "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_node_tells_another_a_wait_only_takes_longer() {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(Backend::Postgres));
    let page = waited(folder.path(), &database, &["--notify-database", "off"], 4).await;
    assert_eq!(page["records"][0]["recordId"], "r", "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_is_told_with_503_and_found_again() {
    let (folder, postgres) = (tempfile::tempdir().unwrap(), PostgresServer::start());
    let url = postgres.url("postgres");
    let server = Server::start(folder.path(), &["--database", &url]);
    let token = token(folder.path(), "ada");
    assert_eq!(push(&server, &token, "before").await.status(), 200);
    let ready = || async {
        let asked = client().get(format!("{}/readyz", server.url)).send().await;
        asked.expect("an answer").status().as_u16()
    };
    assert_eq!(ready().await, 200);

    postgres.stop();
    // Five times the two seconds that are aimed at.
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        let refused = push(&server, &token, "during").await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let refused: Value = refused.json().await.expect("a body");
        assert_eq!(refused["code"], "unavailable", "{refused}");
        let refused = pull(&server, &token, "").send().await.expect("an answer");
        assert_eq!(refused.status(), 503);
        assert_eq!(ready().await, 503);
    });
    told.await.expect("it is told soon");

    postgres.start_again();
    let back = tokio::time::timeout(Duration::from_secs(25), async {
        while ready().await != 200 || push(&server, &token, "after").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    back.await.expect("it is back soon");
    let page: Value = pull(&server, &token, "").send().await.unwrap().json().await.unwrap();
    let ids: Vec<_> =
        page["records"].as_array().unwrap().iter().map(|one| &one["recordId"]).collect();
    assert_eq!(ids, ["before", "after"]);
}

#[test]
fn migrate_says_what_it_would_do_and_does_it_once() {
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
        .expect("the program starts");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("`vaultsync migrate`"), "{told}");
    let (code, out, err) = migrate(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("applied: V1__vaults_and_records"), "{out}");
    let (code, out, _) = migrate(&[]);
    assert!(code == Some(0) && out.contains("the tables are up to date"), "{out}");
    let started =
        Server::start(folder.path(), &["--database", &database.url(), "--database-migrate=false"]);
    assert!(
        started.banner.contains(&database.url().replace("postgres@", "")),
        "{}",
        started.banner
    );

    let sqlite = format!("sqlite:{}", folder.path().join("x.db").display());
    let (code, _, err) = run(vaultsync().args(["migrate", "--database", &sqlite]));
    assert!(code == Some(1) && err.contains("brings it up to date itself"), "{code:?} {err}");
    let (code, _, err) =
        run(vaultsync().args(["migrate", "--citus", "--database", &database.url()]));
    // Where there is no Citus, that is said.
    assert!(code == Some(0) || err.contains("citus"), "{code:?} {err}");
}
