//! Content of ids and ciphertexts: it is returned as it was pushed.

use vaultsync_protocol::RecordId;

use crate::{
    dsl::{create, delete, live, operation, summary, update, user, versions},
    support::TestStore,
};

backends!(
    ids_of_any_text_are_stored_unchanged,
    ids_that_differ_in_case_or_normalisation_are_different_records,
    an_id_of_255_bytes_is_stored_unchanged,
    an_id_that_looks_like_a_pattern_names_one_record,
    a_ciphertext_with_every_byte_value_is_stored_unchanged,
    a_ciphertext_of_a_mebibyte_is_stored_unchanged,
    ciphertexts_that_differ_in_one_byte_are_different,
    a_retry_of_a_large_ciphertext_is_recognised,
);

async fn ids_of_any_text_are_stored_unchanged(store: TestStore) {
    let vault = user();
    let ids = [
        " ",
        "'",
        "\"",
        "''; drop table records; --",
        "\\",
        "%",
        "_",
        "*",
        "null",
        "0",
        "1",
        "01",
        "1.0",
        "1e0",
        "true",
        "x'00'",
        "../../etc/passwd",
        "a b",
        "a b ",
        " a b",
        "💡",
        "👩\u{200d}👩\u{200d}👧",
        "نص",
        "日本語",
        "\u{feff}a",
        "a\u{200b}",
        "\u{202e}abc",
        "\u{fffd}",
        "\u{10ffff}",
        "{\"recordId\":\"a\"}",
    ];
    let operations = ids.map(|id| create(id, id));
    let written = store.push_applied(&vault, &operations).await;
    assert_eq!(versions(&written), ids.map(|id| (id, 1)));
    assert_eq!(store.summaries(&vault).await, ids.map(|id| live(id, 1, id)));
    // An update with each id writes its own record, too.
    for id in ids {
        assert_eq!(versions(&store.push_applied(&vault, &[update(id, 1, "v2")]).await), [(id, 2)]);
    }
    assert_eq!(store.summaries(&vault).await, ids.map(|id| live(id, 2, "v2")));
}

async fn ids_that_differ_in_case_or_normalisation_are_different_records(store: TestStore) {
    let vault = user();
    let ids = ["é", "e\u{301}", "É", "a", "A", "ａ", "ß", "ss", "ſ", "s", "K", "k", "\u{212a}"];
    store.push_applied(&vault, &ids.map(|id| create(id, id))).await;
    assert_eq!(store.summaries(&vault).await, ids.map(|id| live(id, 1, id)));
    store.push_applied(&vault, &[delete("A", 1)]).await;
    store.push_applied(&vault, &[update("a", 1, "v2")]).await;
    assert!(store.summaries(&vault).await.contains(&live("e\u{301}", 1, "e\u{301}")));
    assert_eq!(store.summaries(&vault).await.last(), Some(&live("a", 2, "v2")));
}

async fn an_id_of_255_bytes_is_stored_unchanged(store: TestStore) {
    let vault = user();
    // The first two differ only in their last byte.
    let long = "x".repeat(RecordId::BYTES_MAX - 1);
    let ids = [format!("{long}a"), format!("{long}b"), long.clone()];
    store.push_applied(&vault, &ids.each_ref().map(|id| create(id, "v1"))).await;
    assert_eq!(store.summaries(&vault).await, ids.each_ref().map(|id| live(id, 1, "v1")));
    let wide = "é".repeat(127);
    store.push_applied(&vault, &[create(&wide, "v1")]).await;
    assert_eq!(store.summaries(&vault).await.last(), Some(&live(&wide, 1, "v1")));
}

async fn an_id_that_looks_like_a_pattern_names_one_record(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("ab", "v1"), create("ac", "v1")]).await;
    for id in ["a%", "a_", "a*", "a?", "%"] {
        assert_eq!(versions(&store.push_applied(&vault, &[create(id, id)]).await), [(id, 1)]);
        store.push_applied(&vault, &[delete(id, 1)]).await;
    }
    assert_eq!(store.summaries(&vault).await[..2], [live("ab", 1, "v1"), live("ac", 1, "v1")]);
}

async fn a_ciphertext_with_every_byte_value_is_stored_unchanged(store: TestStore) {
    let vault = user();
    let every: Vec<u8> = (0..=255).collect();
    let mut operations: Vec<_> =
        (0..=9_u8).map(|byte| operation(&format!("{byte}"), None, [byte], false)).collect();
    operations.push(operation("every", None, every.clone(), false));
    operations.push(operation("invalid text", None, [0xff, 0xfe, 0, 0xc0, 0x80], false));
    store.push_applied(&vault, &operations).await;
    for (record, pushed) in store.pull_all(&vault, 100).await.iter().zip(&operations) {
        assert_eq!(record.ciphertext.as_bytes(), pushed.ciphertext.as_bytes());
    }
    let refused = store.push_refused(&vault, &[create("every", "x")]).await;
    assert_eq!(refused.conflicts[0].ciphertext.as_bytes(), every);
}

/// A mebibyte of pseudo-random bytes, which cannot be compressed.
fn mebibyte(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..1024 * 1024).map(|_| byte()).collect()
}

async fn a_ciphertext_of_a_mebibyte_is_stored_unchanged(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[operation("a", None, mebibyte(1), false)]).await;
    store.push_applied(&vault, &[operation("a", Some(1), mebibyte(2), false)]).await;
    let records = store.pull_all(&vault, 100).await;
    let (_, version, ciphertext, _) = summary(&records[0]);
    assert!(version == 2 && ciphertext == mebibyte(2));
    let refused = store.push_refused(&vault, &[create("a", "x")]).await;
    assert!(refused.conflicts[0].ciphertext.as_bytes() == mebibyte(2));
}

async fn ciphertexts_that_differ_in_one_byte_are_different(store: TestStore) {
    let vault = user();
    let mut other = mebibyte(1);
    store.push_applied(&vault, &[operation("a", None, other.clone(), false)]).await;
    *other.last_mut().unwrap() ^= 1;
    store.push_refused(&vault, &[operation("a", None, other.clone(), false)]).await;
    other.pop();
    store.push_refused(&vault, &[operation("a", None, other, false)]).await;
}

async fn a_retry_of_a_large_ciphertext_is_recognised(store: TestStore) {
    let vault = user();
    let operations = [operation("a", None, mebibyte(1), false), create("b", "v1")];
    store.push_applied(&vault, &operations).await;
    let before = store.state(&vault).await;
    assert_eq!(versions(&store.push_applied(&vault, &operations).await), [("a", 1), ("b", 1)]);
    // Without a receipt, in a batch that was never sent before, the record alone identifies it.
    assert_eq!(versions(&store.push_applied(&vault, &operations[..1]).await), [("a", 1)]);
    assert_eq!(store.state(&vault).await, before);
}
