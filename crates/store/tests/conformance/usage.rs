//! The usage of a vault, from the counters in its row.

use vaultsync_protocol::Usage;

use crate::{
    dsl::{create, creates, delete, operation, update, user},
    support::TestStore,
};

backends!(
    an_unknown_vault_takes_up_nothing,
    records_tombstones_and_bytes_are_counted,
    a_refused_push_changes_nothing,
);

async fn an_unknown_vault_takes_up_nothing(store: TestStore) {
    assert_eq!(store.store.usage(&user()).await.expect("the usage"), Usage::NONE);
}

async fn records_tombstones_and_bytes_are_counted(store: TestStore) {
    let vault = user();
    store.push_applied(&user(), &creates("other", 9)).await;
    let steps = [
        (vec![create("a", "12345"), create("b", "123")], (2, 0, 8)),
        (vec![update("a", 1, "1")], (2, 0, 4)),
        (vec![delete("b", 1)], (1, 1, 1)),
        (vec![operation("a", Some(2), "1234567", true), create("c", "12")], (1, 2, 9)),
        (vec![update("b", 2, "back")], (2, 1, 13)),
    ];
    for (operations, expected) in steps {
        store.push_applied(&vault, &operations).await;
        let usage = store.store.usage(&vault).await.expect("the usage");
        let counted = [usage.records, usage.tombstones, usage.bytes].map(|count| count.unwrap());
        assert_eq!(counted, <[i64; 3]>::from(expected), "{operations:?}");
        assert_eq!(usage.head.unwrap().as_millis(), store.head(&vault).await);
        assert_eq!(usage.epoch.unwrap().to_string(), store.epoch(&vault).await);
    }
}

async fn a_refused_push_changes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "1")]).await;
    let before = store.store.usage(&vault).await.expect("the usage");
    store.push_refused(&vault, &[create("b", "12"), create("a", "other")]).await;
    assert_eq!(store.store.usage(&vault).await.expect("the usage"), before);
}
