//! Named vaults, and their list.

use reqwest::Method;
use serde_json::{Value, json};
use vaultsync_server::Limits;
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, backends, operation, push_of, send};

use crate::{USER, apply, empty_vault_page, ids, page};

backends!(
    a_named_vault_is_separate_from_the_default_one_and_from_other_users,
    the_vaults_of_a_user_are_listed,
    one_vault_more_than_the_limit_is_refused,
    a_push_to_a_named_vault_wakes_its_waiting_pull_only,
);

async fn push(server: &TestServer, user: &str, vault: &str, operations: Vec<Value>) -> Answer {
    let path = format!("/api/sync/vaults/{vault}/push");
    let request = server.request(Method::POST, &path).bearer_auth(server.token(user));
    send(request.body(push_of(operations).to_string())).await
}

async fn get(server: &TestServer, user: &str, path: &str) -> Value {
    let request = server.request(Method::GET, path).bearer_auth(server.token(user));
    let answer = send(request).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn a_named_vault_is_separate_from_the_default_one_and_from_other_users(backend: Backend) {
    let server = TestServer::start(backend).await;
    let pull = "/api/sync/vaults/notes/pull";
    assert_eq!(get(&server, USER, pull).await, empty_vault_page());
    let answer = push(&server, USER, "notes", vec![operation("a", None, b"notes")]).await;
    assert_eq!(answer.json()["results"], json!([{ "recordId": "a", "version": 1 }]));
    assert_eq!(page(&server, "").await, empty_vault_page(), "the default vault");
    apply(&server, [operation("b", None, b"default")]).await;
    assert_eq!(ids(&get(&server, USER, pull).await), ["a"]);
    assert_eq!(ids(&page(&server, "").await), ["b"]);
    for other in [pull, "/api/sync/vaults/note/pull", "/api/sync/pull"] {
        assert_eq!(get(&server, "bob", other).await, empty_vault_page(), "{other}");
    }
    let epochs = (get(&server, USER, pull).await, page(&server, "").await);
    assert_ne!(epochs.0["epoch"], epochs.1["epoch"]);
    let conflict = push(&server, USER, "notes", vec![operation("a", None, b"again")]).await;
    assert_eq!(conflict.status, 409, "{conflict:?}");
}

async fn the_vaults_of_a_user_are_listed(backend: Backend) {
    let server = TestServer::start(backend).await;
    assert_eq!(get(&server, USER, "/api/sync/vaults").await, json!({ "vaults": [] }));
    push(&server, USER, "notes", vec![operation("a", None, b"12345")]).await;
    push(&server, USER, "keys.1", vec![operation("a", None, b"1"), operation("b", None, b"2")])
        .await;
    apply(&server, [operation("a", None, b"123")]).await;
    push(&server, "bob", "bobs", vec![operation("a", None, b"1")]).await;
    let listed = get(&server, USER, "/api/sync/vaults").await;
    let vaults = listed["vaults"].as_array().expect("vaults");
    let paths = ["pull", "vaults/keys.1/pull", "vaults/notes/pull"];
    let expected = [(json!(null), 1, 3), (json!("keys.1"), 2, 2), (json!("notes"), 1, 5)];
    assert_eq!(vaults.len(), 3, "{listed}");
    for ((vault, path), (name, records, bytes)) in vaults.iter().zip(paths).zip(expected) {
        let page = get(&server, USER, &format!("/api/sync/{path}")).await;
        let (epoch, head) = (&page["epoch"], &page["head"]);
        let summary = json!({
            "name": name, "epoch": epoch, "head": head, "records": records, "bytes": bytes,
        });
        assert_eq!(vault, &summary);
    }
    let unsigned = send(server.request(Method::GET, "/api/sync/vaults")).await;
    assert_eq!(unsigned.status, 401);
}

async fn one_vault_more_than_the_limit_is_refused(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits = Limits { vaults_per_user_max: 1, ..setup.limits };
    let server = TestServer::start_with(setup).await;
    assert_eq!(push(&server, USER, "one", vec![operation("a", None, b"1")]).await.status, 200);
    let answer = push(&server, USER, "two", vec![operation("a", None, b"1")]).await;
    assert_eq!((answer.status, &answer.json()["code"]), (507, &json!("too_many_vaults")));
    assert_eq!(get(&server, USER, "/api/sync/vaults/two/pull").await, empty_vault_page());
    assert_eq!(push(&server, USER, "one", vec![operation("b", None, b"1")]).await.status, 200);
    assert_eq!(push(&server, "bob", "two", vec![operation("b", None, b"1")]).await.status, 200);
}

async fn a_push_to_a_named_vault_wakes_its_waiting_pull_only(backend: Backend) {
    let server = TestServer::start(backend).await;
    let waiting = get(&server, USER, "/api/sync/vaults/notes/pull?wait=20");
    let pushing = async {
        // Whether or not the pull waits already, it returns the record.
        push(&server, USER, "notes", vec![operation("a", None, b"1")]).await
    };
    let (page, pushed) = tokio::join!(waiting, pushing);
    assert_eq!((ids(&page), pushed.status), (vec!["a"], 200));
    let other = get(&server, USER, "/api/sync/vaults/other/pull?wait=1").await;
    assert_eq!(other, empty_vault_page());
}
