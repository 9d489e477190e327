//! `POST /api/sync/records`

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{USER, apply, post, pulled, server_with};

backends!(
    records_by_id_are_those_of_a_pull_with_their_digests,
    a_response_that_is_cut_says_so,
    a_changed_epoch_is_reported,
    the_bytes_of_records_count_against_the_rate,
    records_without_memory_for_the_first_are_refused,
);

const PATH: &str = "/api/sync/records";

fn ids(answer: &Value) -> Vec<&str> {
    let records = answer["records"].as_array().expect("records").iter();
    records.map(|record| record["recordId"].as_str().expect("an id")).collect()
}

async fn records_by_id_are_those_of_a_pull_with_their_digests(backend: Backend) {
    let server = TestServer::start(backend).await;
    let empty = json!({
        "records": [], "missing": ["a"], "hasMore": false, "epoch": null, "head": null,
    });
    assert_eq!(post(&server, PATH, &json!({ "recordIds": ["a"] })).await.json(), empty);
    for vault in ["", "vaults/notes/"] {
        let operations = [("a", "hello"), ("b", ""), ("é", "x")];
        apply(&server, vault, operations.map(|(id, text)| operation(id, None, text.as_bytes())))
            .await;
        let body = json!({ "recordIds": ["é", "none", "b", "a"], "epoch": null });
        let answer = post(&server, &format!("/api/sync/{vault}records"), &body).await;
        assert_eq!(answer.header("content-type"), "application/json");
        let answer = answer.json();
        assert_eq!((ids(&answer), &answer["missing"]), (vec!["é", "b", "a"], &json!(["none"])));
        // printf … | sha256sum | head -c 32
        let digests = [
            "2d711642b726b04401627ca9fbac32f5",
            "e3b0c44298fc1c149afbf4c8996fb924",
            "2cf24dba5fb0a30e26e83b2ac5b9e29e",
        ];
        let pulled = pulled(&server, vault).await;
        for (record, digest) in answer["records"].as_array().expect("records").iter().zip(digests) {
            assert_eq!(record["digest"], digest);
            let mut without = record.clone();
            without.as_object_mut().expect("an object").remove("digest");
            assert!(pulled.contains(&without), "{record}");
        }
        assert_eq!(answer["head"], pulled[2]["updated_at"], "the last one written");
    }
}

async fn a_response_that_is_cut_says_so(backend: Backend) {
    let server = server_with(backend, |limits| limits.page_bytes_max = 10).await;
    apply(&server, "", ["a", "b", "c"].map(|id| operation(id, None, b"12345"))).await;
    let first =
        post(&server, PATH, &json!({ "recordIds": ["c", "x", "a", "b", "y"] })).await.json();
    assert_eq!((ids(&first), &first["missing"]), (vec!["c", "a"], &json!(["x"])));
    assert_eq!(first["hasMore"], true);
    let rest = post(&server, PATH, &json!({ "recordIds": ["b", "y"] })).await.json();
    assert_eq!((ids(&rest), &rest["missing"]), (vec!["b"], &json!(["y"])));
    assert_eq!(rest["hasMore"], false);
}

async fn a_changed_epoch_is_reported(backend: Backend) {
    let server = TestServer::start(backend).await;
    let answer = post(&server, PATH, &json!({ "recordIds": ["a"], "epoch": "other" })).await;
    assert_eq!((answer.status, &answer.json()["code"]), (410, &json!("epoch_changed")));
    apply(&server, "", [operation("a", None, b"1")]).await;
    let epoch = post(&server, PATH, &json!({ "recordIds": ["a"] })).await.json()["epoch"].clone();
    let answer = post(&server, PATH, &json!({ "recordIds": ["a"], "epoch": epoch })).await;
    assert_eq!((answer.status, &answer.json()["epoch"]), (200, &epoch));
}

async fn the_bytes_of_records_count_against_the_rate(backend: Backend) {
    let server = server_with(backend, |limits| {
        limits.rate_limit = 1000;
        limits.rate_limit_bytes = 100_000;
    })
    .await;
    apply(&server, "", [operation("a", None, &vec![0; 150_000])]).await;
    let body = json!({ "recordIds": ["a"] });
    assert_eq!(post(&server, PATH, &body).await.status, 200);
    let limited = post(&server, PATH, &body).await;
    assert_eq!((limited.status, &limited.json()["code"]), (429, &json!("rate_limited")));
    assert_eq!(server.pull("ben", "").await.status, 200, "{USER} has used up only her own rate");
}

async fn records_without_memory_for_the_first_are_refused(backend: Backend) {
    let server = server_with(backend, |limits| limits.memory_bytes_per_user_max = 40_000).await;
    apply(
        &server,
        "",
        [operation("large", None, &vec![0; 20_000]), operation("small", None, b"1")],
    )
    .await;
    let large = post(&server, PATH, &json!({ "recordIds": ["large"] })).await;
    assert_eq!((large.status, &large.json()["code"]), (429, &json!("rate_limited")));
    let small = post(&server, PATH, &json!({ "recordIds": ["small", "large"] })).await.json();
    assert_eq!((ids(&small), &small["hasMore"]), (vec!["small"], &json!(true)));
}
