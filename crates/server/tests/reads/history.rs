//! `GET /api/sync/history`

use std::time::Duration;

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{apply, get, pulled, server_with};

backends!(
    a_deleted_record_is_restored_from_the_history,
    a_vault_is_rewound_to_a_time,
    versions_are_listed_newest_first_in_pages,
    one_version_is_returned_as_it_was,
    states_at_a_time_are_listed_by_record_id,
    what_is_not_known_is_null,
    a_changed_epoch_is_reported,
    a_version_for_which_there_is_no_memory_is_refused,
    a_page_ends_when_memory_is_short,
    the_bytes_of_a_version_count_against_the_rate,
);

const PATH: &str = "/api/sync/history";

/// A server that keeps every version, however short it stood.
async fn keeping_all(backend: Backend) -> TestServer {
    server_with(backend, |limits| limits.history_min_age_seconds = Duration::ZERO).await
}

async fn read(server: &TestServer, vault: &str, query: &str) -> Value {
    let answer = get(server, &format!("/api/sync/{vault}history?{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    answer.json()
}

/// The head of a vault.
async fn head(server: &TestServer, vault: &str) -> String {
    let page = get(server, &format!("/api/sync/{vault}pull?limit=1")).await.json();
    page["head"].as_str().expect("a head").to_owned()
}

/// An operation that writes what a version of a record has.
fn restore(version: &Value, base: &Value) -> Value {
    json!({
        "recordId": version["recordId"],
        "baseVersion": base,
        "ciphertext": version["ciphertext"],
        "deleted": version["deleted"],
    })
}

async fn a_deleted_record_is_restored_from_the_history(backend: Backend) {
    let server = keeping_all(backend).await;
    for vault in ["", "vaults/notes/"] {
        apply(&server, vault, [operation("note", None, b"hello")]).await;
        let written = pulled(&server, vault).await;
        apply(&server, vault, [operation("note", Some(1), b"")]).await;
        let deleted = pulled(&server, vault).await;
        let listed = read(&server, vault, "recordId=note").await;
        let expected = json!({
            "recordId": "note",
            "versions": [{
                "version": 1,
                "deleted": false,
                "updated_at": written[0]["updated_at"],
                "replaced_at": deleted[0]["updated_at"],
                "bytes": 5,
                "digest": "2cf24dba5fb0a30e26e83b2ac5b9e29e",
            }],
            "next": null,
            "epoch": listed["epoch"],
            "head": deleted[0]["updated_at"],
        });
        assert_eq!(listed, expected);
        let before = read(&server, vault, "recordId=note&version=1").await;
        apply(&server, vault, [restore(&before["record"], &json!(2))]).await;
        let restored = pulled(&server, vault).await;
        assert_eq!(restored[0]["ciphertext"], written[0]["ciphertext"]);
        assert_eq!((&restored[0]["version"], &restored[0]["deleted"]), (&json!(3), &json!(false)));
    }
}

/// As `docs/PROTOCOL.md` describes it.
async fn a_vault_is_rewound_to_a_time(backend: Backend) {
    let server = keeping_all(backend).await;
    apply(&server, "", ["a", "b", "c", "d"].map(|name| operation(name, None, b"good"))).await;
    apply(&server, "", [operation("d", Some(1), b"")]).await;
    let (good, at) = (pulled(&server, "").await, head(&server, "").await);
    apply(&server, "", [operation("a", Some(1), b""), operation("b", Some(1), b"bad")]).await;
    apply(&server, "", [operation("d", Some(2), b"bad"), operation("new", None, b"bad")]).await;
    apply(&server, "", [operation("b", Some(2), b"worse")]).await;
    let (mut push, mut after) = (Vec::new(), String::new());
    loop {
        let page = read(&server, "", &format!("at={at}&after={after}&limit=2")).await;
        for entry in page["entries"].as_array().expect("entries") {
            let id = entry["recordId"].as_str().expect("an id");
            let current = &entry["currentVersion"];
            match entry["version"].as_u64() {
                Some(0) => push.push(operation(id, current.as_u64(), b"")),
                Some(version) => {
                    assert_eq!(entry["exact"], true);
                    let version =
                        read(&server, "", &format!("recordId={id}&version={version}")).await;
                    push.push(restore(&version["record"], current));
                }
                None => panic!("not kept: {entry}"),
            }
        }
        let Some(next) = page["next"].as_str() else { break };
        next.clone_into(&mut after);
    }
    assert_eq!(push.len(), 4);
    apply(&server, "", push).await;
    let content = |records: &[Value]| -> Vec<Value> {
        let live = records.iter().filter(|record| record["deleted"] == false);
        live.map(|record| json!([record["recordId"], record["ciphertext"]])).collect()
    };
    assert_eq!(content(&pulled(&server, "").await), content(&good));
}

async fn versions_are_listed_newest_first_in_pages(backend: Backend) {
    let server = keeping_all(backend).await;
    apply(&server, "", [operation("é &", None, b"v1")]).await;
    for base in 1..=4 {
        apply(&server, "", [operation("é &", Some(base), format!("v{base}").as_bytes())]).await;
    }
    for limit in 1..=5 {
        let (mut seen, mut before) = (Vec::new(), String::new());
        loop {
            let query = format!("recordId=%C3%A9+%26&limit={limit}&before={before}");
            let page = read(&server, "", &query).await;
            assert_eq!(page["recordId"], "é &");
            let versions = page["versions"].as_array().expect("versions").iter();
            seen.extend(versions.map(|one| one["version"].as_u64().expect("a version")));
            let Some(next) = page["next"].as_u64() else { break };
            assert_eq!(Some(&next), seen.last(), "the last version of the page");
            before = next.to_string();
        }
        assert_eq!(seen, [4, 3, 2, 1], "pages of {limit}");
    }
}

async fn one_version_is_returned_as_it_was(backend: Backend) {
    let server = keeping_all(backend).await;
    apply(&server, "", [operation("a", None, b"hello")]).await;
    let first = pulled(&server, "").await[0]["updated_at"].clone();
    apply(&server, "", [operation("a", Some(1), b"")]).await;
    let second = pulled(&server, "").await[0]["updated_at"].clone();
    let found = read(&server, "", "recordId=a&version=1").await;
    let expected = json!({
        "recordId": "a",
        "version": 1,
        "deleted": false,
        "ciphertext": "aGVsbG8=",
        "updated_at": first,
        "replaced_at": second,
        "digest": "2cf24dba5fb0a30e26e83b2ac5b9e29e",
    });
    assert_eq!((&found["record"], &found["head"]), (&expected, &second));
    let current = read(&server, "", "recordId=a&version=2").await["record"].clone();
    assert_eq!((&current["replaced_at"], &current["updated_at"]), (&Value::Null, &second));
    assert_eq!((&current["deleted"], &current["ciphertext"]), (&json!(true), &json!("")));
    for query in ["recordId=a&version=3", "recordId=b&version=1"] {
        let none = read(&server, "", query).await;
        assert_eq!((&none["record"], &none["epoch"]), (&Value::Null, &found["epoch"]), "{query}");
    }
}

async fn states_at_a_time_are_listed_by_record_id(backend: Backend) {
    let server = keeping_all(backend).await;
    apply(&server, "", [operation("b", None, b"hello"), operation("same", None, b"x")]).await;
    let written = pulled(&server, "").await;
    let at = head(&server, "").await;
    apply(&server, "", [operation("b", Some(1), b"new"), operation("a", None, b"new")]).await;
    let states = read(&server, "", &format!("at={at}")).await;
    let entries = json!([
        {
            "recordId": "a",
            "currentVersion": 1,
            "version": 0,
            "deleted": null,
            "updated_at": null,
            "bytes": null,
            "digest": null,
            "exact": true,
        },
        {
            "recordId": "b",
            "currentVersion": 2,
            "version": 1,
            "deleted": false,
            "updated_at": written[0]["updated_at"],
            "bytes": 5,
            "digest": "2cf24dba5fb0a30e26e83b2ac5b9e29e",
            "exact": true,
        },
    ]);
    assert_eq!((&states["entries"], &states["next"]), (&entries, &Value::Null));
    assert_eq!(states["head"], head(&server, "").await);
    // The page looks at a record that has not changed, and there are more.
    let page = read(&server, "", &format!("at={at}&after=b&limit=1")).await;
    assert_eq!((&page["entries"], &page["next"]), (&json!([]), &Value::Null));
    let page = read(&server, "", &format!("at={}&limit=1", head(&server, "").await)).await;
    assert_eq!((&page["entries"], &page["next"]), (&json!([]), &json!("a")));
}

async fn what_is_not_known_is_null(backend: Backend) {
    let server = server_with(backend, |limits| limits.history_days = 0).await;
    let nothing = json!({ "entries": [], "next": null, "epoch": null, "head": null });
    assert_eq!(read(&server, "", "at=2024-01-15T10:30:00Z").await, nothing);
    let nothing = json!({ "record": null, "epoch": null, "head": null });
    assert_eq!(read(&server, "", "recordId=a&version=1").await, nothing);
    let nothing =
        json!({ "recordId": "a", "versions": [], "next": null, "epoch": null, "head": null });
    assert_eq!(read(&server, "", "recordId=a").await, nothing);
    apply(&server, "", [operation("a", None, b"v1")]).await;
    let at = head(&server, "").await;
    apply(&server, "", [operation("a", Some(1), b"v2")]).await;
    let states = read(&server, "", &format!("at={at}")).await;
    let entry = &states["entries"][0];
    assert_eq!((&entry["version"], &entry["exact"]), (&Value::Null, &json!(false)));
    assert_eq!(entry["currentVersion"], 2);
    assert_eq!(read(&server, "", "recordId=a&version=1").await["record"], Value::Null);
}

async fn a_changed_epoch_is_reported(backend: Backend) {
    let server = keeping_all(backend).await;
    let queries = ["recordId=a", "recordId=a&version=1", "at=2024-01-15T10:30:00Z"];
    for exists in [false, true] {
        for query in queries {
            let answer = get(&server, &format!("{PATH}?{query}&epoch=other")).await;
            assert_eq!((answer.status, &answer.json()["code"]), (410, &json!("epoch_changed")));
            let epoch = read(&server, "", query).await["epoch"].clone();
            assert_eq!(epoch.is_string(), exists);
            let known = epoch.as_str().unwrap_or_default();
            assert_eq!(read(&server, "", &format!("{query}&epoch={known}")).await["epoch"], epoch);
        }
        apply(&server, "", [operation("a", None, b"1")]).await;
        if exists {
            break;
        }
    }
}

async fn a_version_for_which_there_is_no_memory_is_refused(backend: Backend) {
    let server = server_with(backend, |limits| {
        limits.history_min_age_seconds = Duration::ZERO;
        limits.memory_bytes_per_user_max = 60_000;
    })
    .await;
    // A version takes more as a response than as a body.
    apply(&server, "", [operation("large", None, &vec![7; 30_000]), operation("a", None, b"1")])
        .await;
    apply(&server, "", [operation("large", Some(1), b""), operation("a", Some(1), b"2")]).await;
    let refused = get(&server, &format!("{PATH}?recordId=large&version=1")).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")));
    let small = read(&server, "", "recordId=a&version=1").await;
    assert_eq!(small["record"]["ciphertext"], "MQ==");
    assert_eq!(read(&server, "", "recordId=large").await["versions"][0]["bytes"], 30_000);
}

async fn a_page_ends_when_memory_is_short(backend: Backend) {
    let server = server_with(backend, |limits| {
        limits.history_min_age_seconds = Duration::ZERO;
        limits.memory_bytes_per_user_max = 10_000;
    })
    .await;
    apply(&server, "", (10..40).map(|n| operation(&n.to_string(), None, b"1"))).await;
    let page = read(&server, "", "at=2024-01-15T10:30:00Z").await;
    let count = page["entries"].as_array().expect("entries").len();
    assert!((1..30).contains(&count), "{count}");
    assert_eq!(page["next"].as_str(), Some(&*(9 + count).to_string()));
}

async fn the_bytes_of_a_version_count_against_the_rate(backend: Backend) {
    let server = server_with(backend, |limits| {
        limits.history_min_age_seconds = Duration::ZERO;
        limits.rate_limit = 1000;
        limits.rate_limit_bytes = 5000;
    })
    .await;
    apply(&server, "", [operation("a", None, &[7; 2000])]).await;
    apply(&server, "", [operation("a", Some(1), b"")]).await;
    let mut answer = get(&server, &format!("{PATH}?recordId=a&version=1")).await;
    assert_eq!(answer.status, 200);
    // Each has 3 KB, and the burst is 15 KB.
    for _ in 0..20 {
        if answer.status == 200 {
            answer = get(&server, &format!("{PATH}?recordId=a&version=1")).await;
        }
    }
    assert_eq!((answer.status, &answer.json()["code"]), (429, &json!("rate_limited")));
    assert!(answer.header("ratelimit-policy").contains("bytes"), "{answer:?}");
}
