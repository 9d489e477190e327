//! Content of records: a pull returns exactly the bytes and ids that were pushed.

use base64_simd::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation, push_of, send};

use crate::{USER, apply, ids, page, record};

backends!(
    a_ciphertext_may_have_any_length_up_to_a_mebibyte,
    a_page_of_large_records_ends_at_8_mebibytes,
    every_byte_value_is_preserved,
    a_tombstone_keeps_its_ciphertext,
    record_ids_are_compared_byte_by_byte,
    a_body_is_accepted_under_each_allowed_content_type,
    unknown_members_are_ignored,
    a_base_version_may_be_any_spelling_of_an_integer,
);

const MIB: usize = 1024 * 1024;

/// Pseudo-random bytes.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(step).collect()
}

async fn a_ciphertext_may_have_any_length_up_to_a_mebibyte(backend: Backend) {
    let server = TestServer::start(backend).await;
    for length in [1, 2, 3, 255, 256, 4095, 4096, 4097, 65_536, MIB - 1, MIB] {
        let name = length.to_string();
        let ciphertext = bytes(length);
        apply(&server, [operation(&name, None, &ciphertext)]).await;
        let pulled = record(&server, &name).await;
        let text = pulled["ciphertext"].as_str().expect("base64");
        assert_eq!(STANDARD.decode_to_vec(text).ok(), Some(ciphertext), "{length} bytes");
    }
}

async fn a_page_of_large_records_ends_at_8_mebibytes(backend: Backend) {
    let server = TestServer::start(backend).await;
    let large = bytes(MIB);
    for n in 0..9 {
        apply(&server, [operation(&n.to_string(), None, &large)]).await;
    }
    let first = page(&server, "").await;
    assert_eq!((ids(&first).len(), &first["hasMore"]), (8, &json!(true)));
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let last = page(&server, &format!("?cursor={cursor}")).await;
    assert_eq!((ids(&last), &last["hasMore"]), (vec!["8"], &json!(false)));
    // Eleven of these records fit in a body of 16 MiB.
    let batch = push_of((0..11).map(|n| operation(&format!("batch-{n}"), None, &large)));
    assert_eq!(server.push(USER, &batch).await.status, 200);
}

async fn every_byte_value_is_preserved(backend: Backend) {
    let server = TestServer::start(backend).await;
    let all: Vec<u8> = (0..=255).collect();
    apply(&server, [operation("all", None, &all)]).await;
    let pulled = record(&server, "all").await;
    assert_eq!(pulled["ciphertext"], STANDARD.encode_to_string(&all));
}

async fn a_tombstone_keeps_its_ciphertext(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut full = operation("full", None, b"why it went");
    full["deleted"] = json!(true);
    apply(&server, [full, operation("empty", None, b"")]).await;
    let (full, empty) = (record(&server, "full").await, record(&server, "empty").await);
    assert_eq!((&full["ciphertext"], &full["deleted"]), (&json!("d2h5IGl0IHdlbnQ="), &json!(true)));
    assert_eq!((&empty["ciphertext"], &empty["deleted"]), (&json!(""), &json!(true)));
}

async fn record_ids_are_compared_byte_by_byte(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (long, long_in_two_bytes) = ("x".repeat(255), "é".repeat(127));
    let names = [
        "a",
        "A",
        "ä",
        "a\u{308}",
        " ",
        "  ",
        "a ",
        " a",
        "../../etc/passwd",
        "'; drop table records; --",
        "%41",
        "{\"recordId\":\"a\"}",
        "\\",
        "\"",
        "null",
        "0",
        "00",
        "名前",
        "مرحبا",
        "💡",
        "👩‍👩‍👧",
        "\u{200b}",
        "\u{202e}x",
        "\u{feff}",
        "\u{ffff}",
        "\u{10ffff}",
        "ß",
        "ss",
        "ﬁ",
        "fi",
        "İ",
        "i",
        long.as_str(),
        long_in_two_bytes.as_str(),
    ];
    let versions = apply(&server, names.map(|name| operation(name, None, name.as_bytes()))).await;
    assert_eq!(versions, [1; 34]);
    let all = page(&server, "").await;
    assert_eq!(ids(&all), names);
    for (record, name) in all["records"].as_array().expect("records").iter().zip(names) {
        assert_eq!(record["ciphertext"], STANDARD.encode_to_string(name), "{name:?}");
    }
    let refused = server.push(USER, &push_of(names.map(|name| operation(name, None, b"!")))).await;
    let conflicts = refused.json()["conflicts"].clone();
    let returned: Vec<&Value> =
        conflicts.as_array().expect("conflicts").iter().map(|one| &one["recordId"]).collect();
    assert_eq!(returned, names);
}

async fn a_body_is_accepted_under_each_allowed_content_type(backend: Backend) {
    let server = TestServer::start(backend).await;
    let types = [
        None,
        Some("application/json"),
        Some("Application/JSON"),
        Some("application/json; charset=utf-8"),
        Some("application/json;charset=UTF-8"),
        Some("text/plain"),
        Some("text/plain;charset=UTF-8"),
    ];
    for (index, content_type) in types.into_iter().enumerate() {
        let body = push_of([operation(&index.to_string(), None, b"1")]).to_string();
        let mut request = server.request(Method::POST, "/api/sync/push");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = send(request.bearer_auth(server.token(USER)).body(body)).await;
        assert_eq!(answer.status, 200, "{content_type:?} {answer:?}");
    }
    assert_eq!(ids(&page(&server, "").await), ["0", "1", "2", "3", "4", "5", "6"]);
}

async fn unknown_members_are_ignored(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut body = push_of([operation("a", None, b"1")]);
    body["clientId"] = json!({ "deep": [[[1.5e300, null, "x"]]] });
    body["operations"][0]["updated_at"] = json!("2001-01-01T00:00:00Z");
    body["operations"][0]["version"] = json!(9);
    assert_eq!(server.push(USER, &body).await.status, 200);
    assert_eq!(record(&server, "a").await["version"], 1);
}

async fn a_base_version_may_be_any_spelling_of_an_integer(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"0")]).await;
    for (current, written) in ["1.0", "2e0", "0.3e1", "4"].into_iter().enumerate() {
        let body = format!(
            r#"{{"operations":[{{"recordId":"a","baseVersion":{written},"ciphertext":"{}","deleted":false}}]}}"#,
            STANDARD.encode_to_string([7_u8, u8::try_from(current).expect("few")]),
        );
        let request = server.request(Method::POST, "/api/sync/push");
        let answer = send(request.bearer_auth(server.token(USER)).body(body)).await;
        assert_eq!(answer.status, 200, "{written} {answer:?}");
        assert_eq!(answer.json()["results"][0]["version"], current + 2);
    }
}
