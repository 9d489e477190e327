//! Users: none receives data of another.

use uuid::Uuid;
use vaultsync_store::{PushOutcome, Vault};

use crate::{
    dsl::{HOUR, NOW, create, creates, delete, live, update, user, versions},
    support::TestStore,
};

backends!(
    two_users_may_use_the_same_record_ids,
    the_same_subject_of_two_issuers_is_two_users,
    issuer_and_subject_are_not_concatenated,
    writes_of_one_user_do_not_conflict_with_those_of_another,
    a_receipt_of_one_user_is_not_used_for_another,
    a_cursor_never_returns_records_of_another_user,
    a_page_is_complete_among_many_users,
);

async fn two_users_may_use_the_same_record_ids(store: TestStore) {
    let (one, two) = (user(), user());
    store.push_applied(&one, &[create("a", "one's"), create("b", "one's")]).await;
    assert_eq!(store.state(&two).await, (None, None, Vec::new()));
    store.push_applied(&two, &[create("a", "two's")]).await;
    store.push_applied(&one, &[update("a", 1, "one's again")]).await;
    assert_eq!(store.summaries(&two).await, [live("a", 1, "two's")]);
    assert_eq!(store.summaries(&one).await, [live("b", 1, "one's"), live("a", 2, "one's again")]);
}

async fn the_same_subject_of_two_issuers_is_two_users(store: TestStore) {
    let subject = format!("user_{}", Uuid::new_v4());
    let one = Vault::of("https://one.test", subject.clone());
    let two = Vault::of("https://two.test", subject);
    store.push_applied(&one, &[create("a", "one's")]).await;
    assert_eq!(store.state(&two).await, (None, None, Vec::new()));
    store.push_applied(&two, &[create("a", "two's")]).await;
    assert_eq!(store.summaries(&one).await, [live("a", 1, "one's")]);
    assert_eq!(store.summaries(&two).await, [live("a", 1, "two's")]);
}

async fn issuer_and_subject_are_not_concatenated(store: TestStore) {
    let unique = Uuid::new_v4();
    let vaults = [
        Vault::of(format!("{unique}a"), "bc"),
        Vault::of(format!("{unique}ab"), "c"),
        Vault::of(format!("{unique}abc"), ""),
        Vault::of("", format!("{unique}abc")),
        Vault::of("bc", format!("{unique}a")),
    ];
    for (vault, text) in vaults.iter().zip(["0", "1", "2", "3", "4"]) {
        store.push_applied(vault, &[create("a", text)]).await;
    }
    for (vault, text) in vaults.iter().zip(["0", "1", "2", "3", "4"]) {
        assert_eq!(store.summaries(vault).await, [live("a", 1, text)]);
    }
}

async fn writes_of_one_user_do_not_conflict_with_those_of_another(store: TestStore) {
    let (one, two) = (user(), user());
    store.push_applied(&one, &creates("r", 5)).await;
    store.push_applied(&one, &[delete("r0", 1)]).await;
    let written = store.push_applied(&two, &[create("r0", "mine"), update("r1", 4, "mine")]).await;
    assert_eq!(versions(&written), [("r0", 1), ("r1", 1)]);
    let refused = store.push_refused(&two, &[create("r0", "again"), create("r2", "mine")]).await;
    assert_eq!(crate::dsl::conflicts(&refused), [live("r0", 1, "mine")]);
}

async fn a_receipt_of_one_user_is_not_used_for_another(store: TestStore) {
    let (one, two) = (user(), user());
    let operations = [create("a", "v1"), update("b", 7, "v1")];
    store.push_applied(&one, &operations).await;
    store.push_applied(&two, &[create("a", "two's")]).await;
    let outcome = store.try_push(&two, &operations).await;
    assert!(matches!(outcome, PushOutcome::Refused(_)), "{outcome:?}");
    assert_eq!(store.summaries(&two).await, [live("a", 1, "two's")]);
}

async fn a_cursor_never_returns_records_of_another_user(store: TestStore) {
    let (one, two) = (user(), user());
    store.push_applied_at(&one, &creates("one", 10), NOW + HOUR).await;
    store.push_applied_at(&two, &creates("two", 10), NOW).await;
    let page = store.page(&two, Some(NOW + 4), 100).await;
    assert!(page.records.iter().all(|record| record.record_id.as_str().starts_with("two")));
    assert_eq!((page.records.len(), page.has_more), (5, false));
    assert_eq!(page.head.unwrap().as_millis(), NOW + 9);
}

async fn a_page_is_complete_among_many_users(store: TestStore) {
    let users: Vec<_> = (0..20).map(|_| user()).collect();
    for round in 0..5 {
        for (n, vault) in users.iter().enumerate() {
            let id = format!("{round}");
            store.push_applied(vault, &[create(&id, &format!("user {n} round {round}"))]).await;
        }
    }
    for (n, vault) in users.iter().enumerate() {
        let expected: Vec<_> = (0..5)
            .map(|round| live(&round.to_string(), 1, &format!("user {n} round {round}")))
            .collect();
        assert_eq!(store.summaries(vault).await, expected);
        assert_eq!(store.pull_all(vault, 2).await.len(), 5);
    }
}
