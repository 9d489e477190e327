//! Erasure of vaults and accounts on the wire.

use reqwest::Method;
use serde_json::{Value, json};
use vaultsync_server::Limits;
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, backends, operation, push_of, send};

use crate::{USER, apply, empty_vault_page, page};

backends!(
    an_erased_vault_is_gone_and_its_epoch_is_refused_for_ever,
    nothing_is_erased_without_the_right_confirmation,
    a_named_vault_is_erased_and_the_others_stay,
    an_account_is_erased_with_all_its_vaults,
    clients_that_start_over_are_spread,
);

async fn delete(server: &TestServer, user: &str, path: &str) -> Answer {
    send(server.request(Method::DELETE, path).bearer_auth(server.token(user))).await
}

async fn get(server: &TestServer, user: &str, path: &str) -> Value {
    let answer = send(server.request(Method::GET, path).bearer_auth(server.token(user))).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

fn epoch(page: &Value) -> &str {
    page["epoch"].as_str().expect("the vault exists")
}

/// The rows are removed in the background; until then a push gets 503.
async fn push_until_accepted(server: &TestServer, user: &str, body: &Value) -> Answer {
    loop {
        let answer = server.push(user, body).await;
        if answer.status != 503 {
            return answer;
        }
        assert_eq!(answer.json()["code"], "unavailable");
        assert!(!answer.header("retry-after").is_empty());
    }
}

async fn an_erased_vault_is_gone_and_its_epoch_is_refused_for_ever(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"v1"), operation("b", None, b"v1")]).await;
    let before = page(&server, "").await;
    let old = epoch(&before).to_owned();
    let path = format!("/api/sync/vault?confirm={old}");
    for _ in 0..2 {
        let answer = delete(&server, USER, &path).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "vaults": 1 })));
        assert_eq!(page(&server, "").await, empty_vault_page());
    }
    let check_refused = async || {
        let refused = server.pull(USER, &format!("?epoch={old}")).await;
        assert_eq!((refused.status, &refused.json()["code"]), (410, &json!("vault_erased")));
        let mut body = push_of([operation("a", Some(1), b"v2")]);
        body["epoch"] = json!(old);
        let refused = server.push(USER, &body).await;
        assert_eq!((refused.status, &refused.json()["code"]), (410, &json!("vault_erased")));
        for (method, path, body) in [
            (Method::GET, format!("/api/sync/manifest?epoch={old}"), String::new()),
            (
                Method::POST,
                "/api/sync/records".to_owned(),
                json!({ "recordIds": ["a"], "epoch": old }).to_string(),
            ),
        ] {
            let request = server.request(method, &path).bearer_auth(server.token(USER));
            let refused = send(request.body(body)).await;
            assert_eq!((refused.status, &refused.json()["code"]), (410, &json!("vault_erased")));
        }
    };
    check_refused().await;
    let answer = push_until_accepted(&server, USER, &push_of([operation("a", None, b"new")])).await;
    assert_eq!((answer.status, &answer.json()["headBefore"]), (200, &json!(null)));
    check_refused().await;
    // A client that sends no epoch and has the old cursor gets what is new.
    let head = before["head"].as_str().expect("a head");
    let after = page(&server, &format!("?cursor={head}")).await;
    assert_eq!(after["records"][0]["recordId"], "a");
    assert_ne!(epoch(&after), old);
    // The old confirmation does not erase what is new.
    assert_eq!(delete(&server, USER, &path).await.status, 200);
    assert_eq!(page(&server, "").await["records"].as_array().map(Vec::len), Some(1));
}

async fn nothing_is_erased_without_the_right_confirmation(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"v1")]).await;
    let body = push_of([operation("b", None, b"bob")]);
    assert_eq!(server.push("bob", &body).await.status, 200);
    let before = page(&server, "").await;
    let bobs = server.pull("bob", "").await.json();
    for query in ["", "?confirm=", "?confirm=a&confirm=a", &format!("?confirm={}", "x".repeat(65))]
    {
        for path in ["/api/sync/vault", "/api/sync/account"] {
            let answer = delete(&server, USER, &format!("{path}{query}")).await;
            assert_eq!(answer.status, 400, "{path}{query}");
            assert_eq!(answer.json()["issues"][0]["path"], "confirm");
        }
    }
    for confirm in ["another", epoch(&bobs)] {
        let answer = delete(&server, USER, &format!("/api/sync/vault?confirm={confirm}")).await;
        assert_eq!((answer.status, &answer.json()["code"]), (410, &json!("epoch_changed")));
    }
    for confirm in ["bob", "ADA", "ada%20"] {
        let answer = delete(&server, USER, &format!("/api/sync/account?confirm={confirm}")).await;
        assert_eq!(answer.status, 400, "{confirm}");
    }
    let signed_out = send(server.request(Method::DELETE, "/api/sync/account?confirm=ada")).await;
    assert_eq!(signed_out.status, 401);
    assert_eq!(page(&server, "").await, before);
    assert_eq!(server.pull("bob", "").await.json(), bobs);
}

async fn push_to(server: &TestServer, user: &str, vault: &str) {
    let path = format!("/api/sync/vaults/{vault}/push");
    let request = server.request(Method::POST, &path).bearer_auth(server.token(user));
    let answer = send(request.body(push_of([operation("a", None, b"v1")]).to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn a_named_vault_is_erased_and_the_others_stay(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"v1")]).await;
    push_to(&server, USER, "notes").await;
    push_to(&server, USER, "keys").await;
    let notes = get(&server, USER, "/api/sync/vaults/notes/pull").await;
    let path = |name: &str| format!("/api/sync/vaults/{name}?confirm={}", epoch(&notes));
    assert_eq!(delete(&server, USER, &path("keys")).await.status, 410);
    assert_eq!(delete(&server, USER, &path("Notes")).await.status, 400);
    assert_eq!(delete(&server, "bob", &path("notes")).await.status, 410);
    assert_eq!(delete(&server, USER, &path("notes")).await.status, 200);
    let names = get(&server, USER, "/api/sync/vaults").await;
    let names: Vec<_> =
        names["vaults"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!(null), &json!("keys")]);
    assert_eq!(get(&server, USER, "/api/sync/vaults/notes/pull").await, empty_vault_page());
    assert_eq!(page(&server, "").await["records"].as_array().map(Vec::len), Some(1));
}

async fn an_account_is_erased_with_all_its_vaults(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"v1")]).await;
    push_to(&server, USER, "notes").await;
    push_to(&server, "bob", "notes").await;
    let answer = delete(&server, USER, &format!("/api/sync/account?confirm={USER}")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "vaults": 2 })));
    assert_eq!(get(&server, USER, "/api/sync/vaults").await, json!({ "vaults": [] }));
    assert_eq!(
        get(&server, "bob", "/api/sync/vaults").await["vaults"].as_array().unwrap().len(),
        1
    );
    let again = delete(&server, USER, &format!("/api/sync/account?confirm={USER}")).await;
    assert_eq!((again.status, again.json()), (200, json!({ "vaults": 0 })));
}

async fn clients_that_start_over_are_spread(backend: Backend) {
    let mut setup = Setup::on(backend);
    let spread = std::time::Duration::from_secs(60);
    setup.limits = Limits { resync_spread_seconds: spread, ..setup.limits };
    let server = TestServer::start_with(setup).await;
    let mut seconds = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = server.pull(USER, "?epoch=another").await;
        assert_eq!(answer.status, 410);
        seconds.insert(answer.header("retry-after").parse::<u64>().expect("seconds"));
    }
    assert!(
        seconds.len() > 5 && seconds.iter().all(|second| (1..=60).contains(second)),
        "{seconds:?}"
    );
    let unspread = TestServer::start(backend).await;
    let answer = unspread.pull(USER, "?epoch=another").await;
    assert!(!answer.headers.contains_key("retry-after"));
}
