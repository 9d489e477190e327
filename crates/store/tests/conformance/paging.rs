//! Pages: cursors, sizes, the byte limit, and what a page reports of the vault.

use vaultsync_store::Vault;

use crate::{
    dsl::{NOW, create, creates, live, operation, update, user},
    support::TestStore,
};

backends!(
    an_unknown_vault_returns_an_empty_page,
    every_page_size_returns_every_record_once,
    a_page_ends_at_its_limit_and_says_whether_there_is_more,
    a_cursor_returns_only_later_records,
    a_cursor_at_the_head_returns_an_empty_page,
    a_cursor_between_two_records_returns_the_later_one,
    a_record_written_between_two_pages_is_returned_again_at_the_end,
    every_page_has_the_head_and_the_epoch,
    the_head_is_the_last_time_that_the_vault_assigned,
    a_page_ends_before_it_exceeds_the_byte_limit,
    the_first_record_of_a_page_is_returned_whatever_its_size,
    pages_limited_by_bytes_return_every_record,
    tombstones_without_ciphertext_do_not_count_towards_the_limit,
);

async fn an_unknown_vault_returns_an_empty_page(store: TestStore) {
    let vault = user();
    for cursor in [None, Some(NOW), Some(i64::MIN), Some(i64::MAX)] {
        let page = store.page(&vault, cursor, 100).await;
        assert!(page.records.is_empty() && !page.has_more);
        assert_eq!((page.next_cursor, page.epoch, page.head), (None, None, None));
    }
}

async fn every_page_size_returns_every_record_once(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 23)).await;
    let whole = store.page(&vault, None, 100).await.records;
    assert_eq!(whole.len(), 23);
    for limit in 1..=7 {
        assert_eq!(store.pull_all(&vault, limit).await, whole, "pages of {limit}");
    }
    for limit in [22, 23, 24, 99] {
        assert_eq!(store.pull_all(&vault, limit).await, whole, "pages of {limit}");
    }
}

async fn a_page_ends_at_its_limit_and_says_whether_there_is_more(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 6)).await;
    for (limit, records, has_more) in [(1, 1, true), (5, 5, true), (6, 6, false), (7, 6, false)] {
        let page = store.page(&vault, None, limit).await;
        assert_eq!((page.records.len(), page.has_more), (records, has_more), "limit {limit}");
    }
    for (cursor, limit, records, has_more) in
        [(NOW + 2, 2, 2, true), (NOW + 2, 3, 3, false), (NOW + 4, 1, 1, false)]
    {
        let page = store.page(&vault, Some(cursor), limit).await;
        assert_eq!((page.records.len(), page.has_more), (records, has_more), "limit {limit}");
    }
}

async fn a_cursor_returns_only_later_records(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 5)).await;
    for skipped in 0..5 {
        let cursor = NOW + skipped - 1;
        let page = store.page(&vault, Some(cursor), 100).await;
        assert!(page.records.iter().all(|record| record.updated_at.as_millis() > cursor));
        assert_eq!(page.records.len(), usize::try_from(5 - skipped).unwrap());
    }
    assert_eq!(store.page(&vault, Some(i64::MIN), 100).await.records.len(), 5);
}

async fn a_cursor_at_the_head_returns_an_empty_page(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 5)).await;
    for cursor in [NOW + 4, NOW + 5, i64::MAX] {
        let page = store.page(&vault, Some(cursor), 100).await;
        assert!(page.records.is_empty() && !page.has_more && page.next_cursor.is_none());
        assert_eq!(page.head.unwrap().as_millis(), NOW + 4);
    }
}

async fn a_cursor_between_two_records_returns_the_later_one(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], NOW).await;
    store.push_applied_at(&vault, &[create("b", "v1")], NOW + 1000).await;
    for cursor in [NOW, NOW + 1, NOW + 999] {
        let page = store.page(&vault, Some(cursor), 100).await;
        assert_eq!(page.records.len(), 1);
        assert_eq!(page.records[0].record_id.as_str(), "b");
    }
}

async fn a_record_written_between_two_pages_is_returned_again_at_the_end(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 6)).await;
    let first = store.page(&vault, None, 4).await;
    store
        .push_applied(&vault, &[update("r1", 1, "v2"), update("r5", 1, "v2"), create("n", "v1")])
        .await;
    let cursor = first.next_cursor.unwrap().as_millis();
    let second = store.page(&vault, Some(cursor), 100).await;
    let found: Vec<_> = second.records.iter().map(crate::dsl::summary).collect();
    let expected =
        [live("r4", 1, "r4 v1"), live("r1", 2, "v2"), live("r5", 2, "v2"), live("n", 1, "v1")];
    assert_eq!(found, expected);
}

async fn the_head_is_the_last_time_that_the_vault_assigned(store: TestStore) {
    let vault = user();
    let head = async || {
        let head = store.store.head(&vault).await.unwrap();
        head.map(|head| head.clock.as_millis())
    };
    assert_eq!(head().await, None);
    store.push_applied(&vault, &creates("a", 3)).await;
    assert_eq!(head().await, Some(NOW + 2));
    store.push_refused(&vault, &[create("a0", "theirs")]).await;
    store.push_applied_at(&vault, &[update("a0", 1, "v2")], NOW + 1_000).await;
    assert_eq!(head().await, Some(NOW + 1_000));
    let store = store.reopen().await;
    let read = store.store.head(&vault).await.unwrap().expect("the vault exists");
    assert_eq!(read.clock.as_millis(), NOW + 1_000);
    assert_eq!(read.epoch.to_string(), store.epoch(&vault).await);
}

async fn every_page_has_the_head_and_the_epoch(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 5)).await;
    let first = store.page(&vault, None, 2).await;
    assert_eq!(first.head.unwrap().as_millis(), NOW + 4);
    for cursor in [NOW, NOW + 3, NOW + 4] {
        let page = store.page(&vault, Some(cursor), 2).await;
        assert_eq!((page.head, page.epoch), (first.head, first.epoch));
    }
    store.push_applied(&vault, &[create("new", "v1")]).await;
    let page = store.page(&vault, None, 2).await;
    assert_eq!(page.head.unwrap().as_millis(), NOW + 5);
    assert_eq!(page.epoch, first.epoch);
}

/// A vault of five records of 10 bytes each.
async fn five_of_ten_bytes(store: &TestStore) -> Vault {
    let vault = user();
    let operations = ["a", "b", "c", "d", "e"].map(|id| create(id, "0123456789"));
    store.push_applied(&vault, &operations).await;
    vault
}

async fn a_page_ends_before_it_exceeds_the_byte_limit(store: TestStore) {
    for (bytes_max, records) in [(10, 1), (19, 1), (20, 2), (29, 2), (49, 4), (50, 5), (51, 5)] {
        let store = store.with_page_bytes_max(bytes_max).await;
        let vault = five_of_ten_bytes(&store).await;
        let page = store.page(&vault, None, 100).await;
        let returned = (page.records.len(), page.has_more);
        assert_eq!(returned, (records, records < 5), "{bytes_max} bytes");
    }
}

async fn the_first_record_of_a_page_is_returned_whatever_its_size(store: TestStore) {
    for bytes_max in [0, 1, 9] {
        let store = store.with_page_bytes_max(bytes_max).await;
        let vault = five_of_ten_bytes(&store).await;
        let page = store.page(&vault, None, 100).await;
        assert_eq!((page.records.len(), page.has_more), (1, true));
        let page = store.page(&vault, Some(NOW + 3), 100).await;
        assert_eq!((page.records.len(), page.has_more), (1, false));
    }
}

async fn pages_limited_by_bytes_return_every_record(store: TestStore) {
    for bytes_max in [0, 10, 25, 40, 100] {
        let (store, vault) = (store.with_page_bytes_max(bytes_max).await, user());
        let operations: Vec<_> =
            (0..40).map(|n| create(&format!("r{n}"), &"x".repeat(1 + n * 7 % 31))).collect();
        store.push_applied(&vault, &operations).await;
        for limit in [1, 3, 100] {
            let found = store.pull_all(&vault, limit).await;
            let ids: Vec<_> = found.iter().map(|record| record.record_id.clone()).collect();
            let expected: Vec<_> = operations.iter().map(|op| op.record_id.clone()).collect();
            assert_eq!(ids, expected, "{bytes_max} bytes, {limit} records");
        }
    }
}

async fn tombstones_without_ciphertext_do_not_count_towards_the_limit(store: TestStore) {
    let (store, vault) = (store.with_page_bytes_max(10).await, user());
    let mut operations: Vec<_> =
        (0..30).map(|n| operation(&format!("t{n}"), None, "", true)).collect();
    operations.insert(15, create("live", "0123456789"));
    store.push_applied(&vault, &operations).await;
    let page = store.page(&vault, None, 100).await;
    assert_eq!((page.records.len(), page.has_more), (31, false));
}
