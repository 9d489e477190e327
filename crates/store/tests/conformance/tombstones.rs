//! Deletes: a tombstone is a record like any other, and an update of it revives the record.

use crate::{
    dsl::{conflicts, create, delete, live, operation, update, user, versions},
    support::TestStore,
};

backends!(
    a_delete_is_a_new_version_and_is_pulled,
    an_update_of_a_tombstone_revives_the_record,
    a_create_of_a_deleted_record_conflicts_with_its_tombstone,
    an_update_of_a_record_deleted_meanwhile_conflicts_with_its_tombstone,
    a_delete_of_a_record_updated_meanwhile_is_a_conflict,
    a_tombstone_may_have_ciphertext,
    a_record_may_be_created_as_a_tombstone,
    a_tombstone_may_be_deleted_again,
);

fn tombstone(id: &str, version: i64, ciphertext: &str) -> (String, i64, Vec<u8>, bool) {
    (id.to_owned(), version, ciphertext.as_bytes().to_vec(), true)
}

async fn a_delete_is_a_new_version_and_is_pulled(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1"), create("b", "v1")]).await;
    let cursor = store.head(&vault).await;
    assert_eq!(versions(&store.push_applied(&vault, &[delete("a", 1)]).await), [("a", 2)]);
    let page = store.page(&vault, Some(cursor), 100).await;
    assert_eq!(page.records.len(), 1);
    assert_eq!(store.summaries(&vault).await, [live("b", 1, "v1"), tombstone("a", 2, "")]);
}

async fn an_update_of_a_tombstone_revives_the_record(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[delete("a", 1)]).await;
    let written = store.push_applied(&vault, &[update("a", 2, "again")]).await;
    assert_eq!(versions(&written), [("a", 3)]);
    assert_eq!(store.summaries(&vault).await, [live("a", 3, "again")]);
}

async fn a_create_of_a_deleted_record_conflicts_with_its_tombstone(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[delete("a", 1)]).await;
    let refused = store.push_refused(&vault, &[create("a", "again")]).await;
    assert_eq!(conflicts(&refused), [tombstone("a", 2, "")]);
}

async fn an_update_of_a_record_deleted_meanwhile_conflicts_with_its_tombstone(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[delete("a", 1)]).await;
    let refused = store.push_refused(&vault, &[update("a", 1, "edited")]).await;
    assert_eq!(conflicts(&refused), [tombstone("a", 2, "")]);
    assert_eq!(refused.conflicts[0].updated_at.unwrap().as_millis(), store.head(&vault).await);
}

async fn a_delete_of_a_record_updated_meanwhile_is_a_conflict(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[update("a", 1, "v2")]).await;
    let refused = store.push_refused(&vault, &[delete("a", 1)]).await;
    assert_eq!(conflicts(&refused), [live("a", 2, "v2")]);
}

async fn a_tombstone_may_have_ciphertext(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[operation("a", Some(1), "who and when", true)]).await;
    assert_eq!(store.summaries(&vault).await, [tombstone("a", 2, "who and when")]);
    let refused = store.push_refused(&vault, &[create("a", "x")]).await;
    assert_eq!(conflicts(&refused), [tombstone("a", 2, "who and when")]);
}

async fn a_record_may_be_created_as_a_tombstone(store: TestStore) {
    let vault = user();
    let operations = [operation("a", None, "", true), delete("b", 4)];
    assert_eq!(versions(&store.push_applied(&vault, &operations).await), [("a", 1), ("b", 1)]);
    assert_eq!(store.summaries(&vault).await, [tombstone("a", 1, ""), tombstone("b", 1, "")]);
}

async fn a_tombstone_may_be_deleted_again(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    for base in 1..4 {
        assert_eq!(
            versions(&store.push_applied(&vault, &[delete("a", base)]).await),
            [("a", base + 1)]
        );
    }
    assert_eq!(store.summaries(&vault).await, [tombstone("a", 4, "")]);
}
