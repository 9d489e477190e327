//! `GET /api/sync/manifest`

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{apply, get, post, pulled, server_with};

backends!(
    a_manifest_lists_the_records_of_a_pull_by_id,
    a_manifest_is_paged_by_id,
    a_manifest_finds_what_a_client_misses,
    a_changed_epoch_is_reported,
    a_page_of_a_thousand_long_ids_is_one_response,
    a_page_ends_when_memory_is_short,
    the_bytes_of_a_manifest_count_against_the_rate,
);

const PATH: &str = "/api/sync/manifest";

fn ids(manifest: &Value) -> Vec<&str> {
    let entries = manifest["entries"].as_array().expect("entries").iter();
    entries.map(|entry| entry["recordId"].as_str().expect("an id")).collect()
}

async fn a_manifest_lists_the_records_of_a_pull_by_id(backend: Backend) {
    let server = TestServer::start(backend).await;
    let empty = json!({ "entries": [], "next": null, "epoch": null, "head": null });
    assert_eq!(get(&server, PATH).await.json(), empty);
    for vault in ["", "vaults/notes/"] {
        apply(&server, vault, [operation("b", None, b"x"), operation("B", None, b"hello")]).await;
        apply(&server, vault, [operation("a", None, b"1"), operation("b", Some(1), b"")]).await;
        let answer = get(&server, &format!("/api/sync/{vault}manifest")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        let manifest = answer.json();
        assert_eq!((ids(&manifest), &manifest["next"]), (vec!["B", "a", "b"], &Value::Null));
        let digests = [
            "2cf24dba5fb0a30e26e83b2ac5b9e29e",
            "6b86b273ff34fce19d6b804eff5a3f57",
            "e3b0c44298fc1c149afbf4c8996fb924",
        ];
        let pulled = pulled(&server, vault).await;
        let entries = manifest["entries"].as_array().expect("entries").iter();
        for ((entry, record), digest) in entries.zip(&pulled).zip(digests) {
            let mut expected = record.clone();
            expected.as_object_mut().expect("an object").remove("ciphertext");
            expected["digest"] = json!(digest);
            assert_eq!(entry, &expected);
        }
        assert_eq!(manifest["head"], pulled[2]["updated_at"]);
    }
}

async fn a_manifest_is_paged_by_id(backend: Backend) {
    let server = TestServer::start(backend).await;
    let names = ["a", "a b", "a+b", "b", "é"];
    apply(&server, "", names.map(|name| operation(name, None, b"1"))).await;
    for limit in 1..=6 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let encoded: Vec<_> = after.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let encoded = encoded.concat();
            let page = get(&server, &format!("{PATH}?limit={limit}&after={encoded}")).await.json();
            let found: Vec<String> = ids(&page).into_iter().map(str::to_owned).collect();
            assert!(found.len() <= limit);
            seen.extend(found);
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(Some(next), seen.last().map(String::as_str), "the last id of the page");
            next.clone_into(&mut after);
        }
        assert_eq!(seen, names, "pages of {limit}");
    }
}

/// What a manifest is for: a client that has a part of the vault reads the rest by id.
async fn a_manifest_finds_what_a_client_misses(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, "", ["a", "b", "c", "d"].map(|name| operation(name, None, b"old"))).await;
    let known = get(&server, PATH).await.json();
    apply(&server, "", [operation("b", Some(1), b"new"), operation("e", None, b"new")]).await;
    let now = get(&server, PATH).await.json();
    let known = known["entries"].as_array().expect("entries");
    let entries = now["entries"].as_array().expect("entries").iter();
    let differing: Vec<&Value> = entries.filter(|entry| !known.contains(entry)).collect();
    let wanted: Vec<&Value> = differing.iter().map(|entry| &entry["recordId"]).collect();
    let read = post(&server, "/api/sync/records", &json!({ "recordIds": wanted })).await.json();
    let found = read["records"].as_array().expect("records");
    assert_eq!(found.len(), 2);
    for (entry, record) in differing.into_iter().zip(found) {
        for member in ["recordId", "version", "deleted", "updated_at", "digest"] {
            assert_eq!(entry[member], record[member]);
        }
        assert_eq!(record["ciphertext"], "bmV3");
    }
}

async fn a_changed_epoch_is_reported(backend: Backend) {
    let server = TestServer::start(backend).await;
    let answer = get(&server, &format!("{PATH}?epoch=other")).await;
    assert_eq!((answer.status, &answer.json()["code"]), (410, &json!("epoch_changed")));
    apply(&server, "", [operation("a", None, b"1")]).await;
    let epoch = get(&server, PATH).await.json()["epoch"].clone();
    let answer = get(&server, &format!("{PATH}?epoch={}", epoch.as_str().expect("an epoch"))).await;
    assert_eq!((answer.status, &answer.json()["epoch"]), (200, &epoch));
    // A cursor and a wait mean nothing to a manifest.
    let answer = get(&server, &format!("{PATH}?cursor=x&wait=x&after=&epoch=")).await;
    assert_eq!(answer.status, 200);
}

/// Ids of the longest kind: each character takes two bytes in JSON.
fn long_id(number: usize) -> String {
    format!("{number:05}{}", "\"".repeat(250))
}

async fn a_page_of_a_thousand_long_ids_is_one_response(backend: Backend) {
    let server = TestServer::start(backend).await;
    for batch in 0..11 {
        apply(&server, "", (0..100).map(|n| operation(&long_id(batch * 100 + n), None, b"1")))
            .await;
    }
    let first = get(&server, PATH).await.json();
    assert_eq!((ids(&first).len(), first["next"].as_str()), (1000, Some(&*long_id(999))));
}

async fn a_page_ends_when_memory_is_short(backend: Backend) {
    let server = server_with(backend, |limits| limits.memory_bytes_per_user_max = 50_000).await;
    for batch in 0..2 {
        apply(&server, "", (0..40).map(|n| operation(&long_id(batch * 40 + n), None, b"1"))).await;
    }
    let first = get(&server, PATH).await.json();
    let count = ids(&first).len();
    assert!((1..80).contains(&count), "{count}");
    assert_eq!(first["next"].as_str(), Some(&*long_id(count - 1)));
}

async fn the_bytes_of_a_manifest_count_against_the_rate(backend: Backend) {
    let server = server_with(backend, |limits| {
        limits.rate_limit = 1000;
        limits.rate_limit_bytes = 2000;
    })
    .await;
    apply(&server, "", (0..20).map(|n| operation(&n.to_string(), None, b"1"))).await;
    let mut answer = get(&server, PATH).await;
    assert_eq!(answer.status, 200);
    // Each has 3 KB, and the burst is 6 KB.
    for _ in 0..20 {
        if answer.status == 200 {
            answer = get(&server, PATH).await;
        }
    }
    assert_eq!((answer.status, &answer.json()["code"]), (429, &json!("rate_limited")));
    assert!(answer.header("ratelimit-policy").contains("bytes"), "{answer:?}");
}
