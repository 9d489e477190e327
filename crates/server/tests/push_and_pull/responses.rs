//! The exact form of responses.

use serde_json::json;
use vaultsync_testkit::{Backend, TestServer, backends, operation, push_of};

use crate::{USER, apply, empty_vault_page, ids, millis, page, record, server_with_pages_of};

backends!(
    a_pushed_record_is_pulled,
    a_push_returns_the_heads_before_and_after_it_and_a_retry_does_not,
    an_empty_vault_is_an_empty_page,
    an_empty_push_is_applied_and_creates_no_vault,
    results_are_in_the_order_of_the_operations,
    a_conflict_contains_the_current_record,
    one_conflict_rejects_the_whole_batch,
    all_conflicts_of_a_full_batch_are_returned_in_order,
    a_list_of_conflicts_ends_before_its_byte_limit,
    a_page_contains_the_head_of_the_vault,
);

async fn a_pushed_record_is_pulled(backend: Backend) {
    let server = TestServer::start(backend).await;
    let pushed = server.push(USER, &push_of([operation("a", None, b"hello")])).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    let pulled = server.pull(USER, "").await;
    assert_eq!(pulled.status, 200, "{pulled:?}");
    let page = pulled.json();
    let updated_at = page["records"][0]["updated_at"].clone();
    millis(&updated_at);
    assert!(page["epoch"].is_string(), "{page}");
    let results = json!([{ "recordId": "a", "version": 1 }]);
    assert_eq!(
        pushed.json(),
        json!({ "success": true, "results": results, "headBefore": null, "head": updated_at })
    );
    assert_eq!(
        page,
        json!({
            "records": [{
                "recordId": "a",
                "ciphertext": "aGVsbG8=",
                "version": 1,
                "deleted": false,
                "updated_at": updated_at,
            }],
            "nextCursor": updated_at,
            "hasMore": false,
            "epoch": page["epoch"],
            "head": updated_at,
        })
    );
    for answer in [pushed, pulled] {
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.header("x-request-id").is_empty());
    }
    server.stop().await;
}

async fn a_push_returns_the_heads_before_and_after_it_and_a_retry_does_not(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"v1")]).await;
    let before = page(&server, "").await["head"].clone();
    let body = push_of([operation("a", Some(1), b"v2"), operation("b", None, b"v1")]);
    let pushed = server.push(USER, &body).await.json();
    assert_eq!(pushed["headBefore"], before);
    assert_eq!(pushed["head"], page(&server, "").await["head"]);
    let retried = server.push(USER, &body).await.json();
    assert_eq!(retried, json!({ "success": true, "results": pushed["results"] }));
    let empty = server.push(USER, &push_of([])).await.json();
    assert_eq!(empty, json!({ "success": true, "results": [] }));
}

async fn an_empty_vault_is_an_empty_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    assert_eq!(page(&server, "").await, empty_vault_page());
    assert_eq!(page(&server, "?cursor=2024-01-15T10:30:00Z&limit=1").await, empty_vault_page());
}

async fn an_empty_push_is_applied_and_creates_no_vault(backend: Backend) {
    let server = TestServer::start(backend).await;
    let answer = server.push(USER, &push_of([])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({ "success": true, "results": [] }));
    assert_eq!(page(&server, "").await, empty_vault_page());
}

async fn results_are_in_the_order_of_the_operations(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("b", None, b"1")]).await;
    let batch = [
        operation("c", None, b"1"),
        operation("b", Some(1), b"2"),
        operation("a", None, b"1"),
        operation("b2", Some(9), b""),
    ];
    let answer = server.push(USER, &push_of(batch)).await.json();
    assert_eq!(
        answer["results"],
        json!([
            { "recordId": "c", "version": 1 },
            { "recordId": "b", "version": 2 },
            { "recordId": "a", "version": 1 },
            { "recordId": "b2", "version": 1 },
        ])
    );
}

async fn a_conflict_contains_the_current_record(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"one"), operation("gone", None, b"one")]).await;
    apply(&server, [operation("a", Some(1), b"two"), operation("gone", Some(1), b"")]).await;
    let (a, gone) = (record(&server, "a").await, record(&server, "gone").await);
    let batch = [operation("gone", Some(1), b"mine"), operation("a", Some(1), b"mine")];
    let answer = server.push(USER, &push_of(batch)).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        answer.json(),
        json!({
            "success": false,
            "conflicts": [
                {
                    "recordId": "gone",
                    "currentVersion": 2,
                    "ciphertext": "",
                    "deleted": true,
                    "updated_at": gone["updated_at"],
                },
                {
                    "recordId": "a",
                    "currentVersion": 2,
                    "ciphertext": "dHdv",
                    "deleted": false,
                    "updated_at": a["updated_at"],
                },
            ],
        })
    );
}

async fn one_conflict_rejects_the_whole_batch(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("old", None, b"1"), operation("taken", None, b"1")]).await;
    let before = page(&server, "").await;
    for place in 0..4 {
        let mut batch = vec![
            operation("new", None, b"1"),
            operation("old", Some(1), b"2"),
            operation("newer", None, b""),
        ];
        batch.insert(place, operation("taken", None, b"2"));
        let answer = server.push(USER, &push_of(batch)).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["conflicts"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["conflicts"][0]["recordId"], "taken");
        assert_eq!(page(&server, "").await, before, "with the conflict at {place}");
    }
}

async fn all_conflicts_of_a_full_batch_are_returned_in_order(backend: Backend) {
    let server = TestServer::start(backend).await;
    let names: Vec<String> = (0..100).map(|n| format!("r{:02}", (n * 37) % 100)).collect();
    apply(&server, names.iter().map(|name| operation(name, None, b"theirs"))).await;
    let mine = names.iter().rev().map(|name| operation(name, None, b"mine"));
    let answer = server.push(USER, &push_of(mine)).await;
    assert_eq!(answer.status, 409);
    let answer = answer.json();
    let conflicts = answer["conflicts"].as_array().expect("conflicts").iter();
    let returned: Vec<&str> =
        conflicts.map(|one| one["recordId"].as_str().expect("an id")).collect();
    assert_eq!(returned, names.iter().rev().collect::<Vec<_>>());
    assert_eq!(answer.get("hasMore"), None, "the member is present only if it is true");
}

async fn a_list_of_conflicts_ends_before_its_byte_limit(backend: Backend) {
    let server = server_with_pages_of(backend, 10).await;
    let all = ["a", "b", "c", "d", "long"];
    let theirs = |name| operation(name, None, if name == "long" { &[7; 11] } else { &[7; 5] });
    apply(&server, all.map(theirs)).await;
    for (names, returned, has_more) in [
        (&["a", "b"][..], &["a", "b"][..], false),
        (&["a", "b", "c"], &["a", "b"], true),
        (&["a", "long", "b"], &["a"], true),
        (&["long"], &["long"], false),
        (&["long", "a"], &["long"], true),
    ] {
        let mine = names.iter().map(|name| operation(name, None, b"mine"));
        let answer = server.push(USER, &push_of(mine)).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        let answer = answer.json();
        let conflicts = answer["conflicts"].as_array().expect("conflicts").iter();
        let found: Vec<_> = conflicts.map(|conflict| conflict["recordId"].clone()).collect();
        assert_eq!(found, returned, "{names:?}");
        assert_eq!(answer.get("hasMore"), has_more.then_some(&json!(true)), "{names:?}");
    }
}

async fn a_page_contains_the_head_of_the_vault(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, ["a", "b", "c"].map(|name| operation(name, None, b"1"))).await;
    let all = page(&server, "").await;
    let first = page(&server, "?limit=1").await;
    assert_eq!(ids(&first), ["a"]);
    assert_eq!(
        first["head"], all["records"][2]["updated_at"],
        "the head of the vault and not of the page"
    );
    let head = all["head"].as_str().expect("a head");
    let after = page(&server, &format!("?cursor={head}")).await;
    assert_eq!(
        after,
        json!({
            "records": [],
            "nextCursor": null,
            "hasMore": false,
            "epoch": all["epoch"],
            "head": head,
        })
    );
    let refused = server.push(USER, &push_of([operation("a", None, b"2")])).await;
    assert_eq!(refused.status, 409);
    assert_eq!(page(&server, "?limit=1").await, first, "a refused push changes nothing");
    apply(&server, [operation("a", Some(1), b"")]).await;
    let moved = page(&server, "").await;
    assert!(millis(&moved["head"]) > millis(&all["head"]));
    assert_eq!(moved["epoch"], all["epoch"]);
}
