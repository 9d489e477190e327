//! Streams that follow several vaults of a user.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, Setup, TestServer, backends, operation, push_of, send};

use crate::{USER, stream::Stream};

backends!(
    each_event_names_its_vault,
    a_stream_follows_the_vault_of_its_path_and_others,
    a_vault_that_is_named_twice_is_followed_once,
    vaults_of_other_users_are_not_followed,
    each_vault_takes_a_place,
    names_of_vaults_are_checked,
);

async fn push(server: &TestServer, user: &str, vault: &str, id: &str) {
    let request = server.request(Method::POST, &format!("/api/sync/{vault}push"));
    let body = push_of([operation(id, None, b"1")]).to_string();
    let answer = send(request.bearer_auth(server.token(user)).body(body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The vaults of the next events.
async fn vaults(stream: &mut Stream, count: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for _ in 0..count {
        found.insert(stream.event().await["vault"].to_string());
    }
    found
}

fn names(names: &[Value]) -> BTreeSet<String> {
    names.iter().map(Value::to_string).collect()
}

async fn each_event_names_its_vault(backend: Backend) {
    let server = TestServer::start(backend).await;
    push(&server, USER, "", "a").await;
    push(&server, USER, "vaults/notes/", "a").await;
    let mut stream = Stream::open_at(&server, USER, "events?vaults=notes,journal").await;
    assert_eq!(vaults(&mut stream, 2).await, names(&[json!(null), json!("notes")]));
    for (vault, name) in [
        ("vaults/journal/", json!("journal")),
        ("", json!(null)),
        ("vaults/notes/", json!("notes")),
    ] {
        push(&server, USER, "vaults/other/", &format!("a{vault}")).await;
        push(&server, USER, vault, "b").await;
        let event = stream.event().await;
        let request = server.request(Method::GET, &format!("/api/sync/{vault}pull"));
        let page = send(request.bearer_auth(server.token(USER))).await.json();
        let expected = json!({ "head": page["head"], "epoch": page["epoch"], "vault": name });
        assert_eq!(event, expected);
    }
}

async fn a_stream_follows_the_vault_of_its_path_and_others(backend: Backend) {
    let server = TestServer::start(backend).await;
    for vault in ["", "vaults/notes/", "vaults/journal/"] {
        push(&server, USER, vault, "a").await;
    }
    let mut stream = Stream::open_at(&server, USER, "vaults/notes/events?vaults=journal").await;
    assert_eq!(vaults(&mut stream, 2).await, names(&[json!("notes"), json!("journal")]));
}

async fn a_vault_that_is_named_twice_is_followed_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    push(&server, USER, "vaults/notes/", "a").await;
    let path = "vaults/notes/events?vaults=notes,notes";
    let mut stream = Stream::open_at(&server, USER, path).await;
    assert_eq!(stream.event().await["vault"], "notes");
    push(&server, USER, "vaults/notes/", "b").await;
    let second = stream.event().await;
    push(&server, USER, "vaults/notes/", "c").await;
    assert_ne!(stream.event().await["head"], second["head"], "one event for each push");
}

async fn vaults_of_other_users_are_not_followed(backend: Backend) {
    let server = TestServer::start(backend).await;
    push(&server, "bob", "vaults/notes/", "a").await;
    let mut stream = Stream::open_at(&server, USER, "events?vaults=notes").await;
    push(&server, "bob", "vaults/notes/", "b").await;
    push(&server, "bob", "", "b").await;
    push(&server, USER, "", "a").await;
    assert_eq!(stream.event().await["vault"], json!(null));
}

async fn each_vault_takes_a_place(backend: Backend) {
    let limits = Limits { waits_per_user_max: 3, ..Limits::default() };
    let server = TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await;
    let token = server.token(USER);
    let refused = Stream::try_open_at(&server, &token, "events?vaults=a,b,c").await;
    assert_eq!(refused.err(), Some(429));
    let stream = Stream::open_at(&server, USER, "events?vaults=a,b").await;
    assert_eq!(Stream::try_open(&server, &token).await.err(), Some(429), "three are taken");
    drop(stream);
}

async fn names_of_vaults_are_checked(backend: Backend) {
    let server = TestServer::start(backend).await;
    for query in ["vaults=,", "vaults=a,,b", "vaults=Notes", "vaults=a%2F", "vaults=a&vaults=b"] {
        let request = server.request(Method::GET, &format!("/api/sync/events?{query}"));
        let answer = send(request.bearer_auth(server.token(USER))).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["issues"][0]["path"], "vaults", "{query}");
    }
    let mut stream = Stream::open_at(&server, USER, "events?vaults=").await;
    push(&server, USER, "", "a").await;
    assert_eq!(stream.event().await.get("vault"), None);
}
