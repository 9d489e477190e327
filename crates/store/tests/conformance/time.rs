//! `updated_at`: unique and increasing within a vault, whatever the wall clock does.

use vaultsync_protocol::{Cursor, Timestamp};
use vaultsync_store::Vault;

use crate::{
    dsl::{HOUR, NOW, create, creates, update, user},
    support::TestStore,
};

backends!(
    each_record_of_a_batch_has_its_own_millisecond,
    times_advance_while_the_clock_stands_still,
    times_advance_after_the_clock_jumps_back_an_hour,
    times_advance_after_the_clock_jumps_ten_years_ahead_and_back,
    a_push_later_than_the_head_starts_at_its_own_time,
    a_retried_operation_keeps_its_time,
    every_vault_has_its_own_head,
    times_before_1970_are_valid,
    an_updated_record_moves_to_the_end,
    a_clock_after_the_year_9999_is_not_followed,
);

const YEAR: i64 = 365 * 24 * HOUR;

/// Every `updated_at` of the vault, in ascending order.
async fn times(store: &TestStore, vault: &Vault) -> Vec<i64> {
    let records = store.pull_all(vault, 100).await;
    let times: Vec<_> = records.iter().map(|record| record.updated_at.as_millis()).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "unique and ascending: {times:?}");
    assert_eq!(times.last(), Some(&store.head(vault).await), "the head is that of the last record");
    times
}

async fn each_record_of_a_batch_has_its_own_millisecond(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("r", 100), NOW).await;
    let expected: Vec<_> = (NOW..NOW + 100).collect();
    assert_eq!(times(&store, &vault).await, expected);
}

async fn times_advance_while_the_clock_stands_still(store: TestStore) {
    let vault = user();
    for n in 0..20 {
        store.push_applied_at(&vault, &creates(&format!("{n} "), 5), NOW).await;
    }
    let expected: Vec<_> = (NOW..NOW + 100).collect();
    assert_eq!(times(&store, &vault).await, expected);
}

async fn times_advance_after_the_clock_jumps_back_an_hour(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("a", 3), NOW).await;
    store.push_applied_at(&vault, &creates("b", 3), NOW - HOUR).await;
    store.push_applied_at(&vault, &creates("c", 3), NOW - HOUR + 1).await;
    let expected: Vec<_> = (NOW..NOW + 9).collect();
    assert_eq!(times(&store, &vault).await, expected);
    // A follower receives what was pushed after the jump.
    let page = store.page(&vault, Some(NOW + 2), 100).await;
    assert_eq!(page.records.len(), 6);
}

async fn times_advance_after_the_clock_jumps_ten_years_ahead_and_back(store: TestStore) {
    let vault = user();
    let ahead = NOW + 10 * YEAR;
    store.push_applied_at(&vault, &creates("a", 2), NOW).await;
    store.push_applied_at(&vault, &creates("b", 2), ahead).await;
    store.push_applied_at(&vault, &creates("c", 2), NOW + 1).await;
    store.push_applied_at(&vault, &creates("d", 2), NOW + HOUR).await;
    let mut expected = vec![NOW, NOW + 1];
    expected.extend(ahead..ahead + 6);
    assert_eq!(times(&store, &vault).await, expected);
}

async fn a_push_later_than_the_head_starts_at_its_own_time(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("a", 3), NOW).await;
    store.push_applied_at(&vault, &creates("b", 1), NOW + 2).await;
    store.push_applied_at(&vault, &creates("c", 1), NOW + 4).await;
    store.push_applied_at(&vault, &creates("d", 2), NOW + HOUR).await;
    let expected = [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4, NOW + HOUR, NOW + HOUR + 1];
    assert_eq!(times(&store, &vault).await, expected);
}

async fn a_retried_operation_keeps_its_time(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("r", 3), NOW).await;
    let mut operations = creates("r", 3);
    operations.insert(1, create("new", "v1"));
    operations.push(create("newer", "v1"));
    store.push_applied_at(&vault, &operations, NOW + HOUR).await;
    let times = times(&store, &vault).await;
    assert_eq!(times[..3], [NOW, NOW + 1, NOW + 2]);
    assert_eq!(times[3..], [NOW + HOUR, NOW + HOUR + 1]);
}

async fn every_vault_has_its_own_head(store: TestStore) {
    let (one, two) = (user(), user());
    store.push_applied_at(&one, &creates("a", 3), NOW + YEAR).await;
    store.push_applied_at(&two, &creates("a", 3), NOW).await;
    assert_eq!(times(&store, &two).await, [NOW, NOW + 1, NOW + 2]);
}

async fn times_before_1970_are_valid(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("a", 2), -HOUR).await;
    store.push_applied_at(&vault, &creates("b", 2), -2 * HOUR).await;
    assert_eq!(times(&store, &vault).await, [-HOUR, 1 - HOUR, 2 - HOUR, 3 - HOUR]);
    assert_eq!(store.page(&vault, Some(1 - HOUR), 100).await.records.len(), 2);
}

async fn an_updated_record_moves_to_the_end(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("r", 3), NOW).await;
    store.push_applied_at(&vault, &[update("r0", 1, "v2")], NOW).await;
    assert_eq!(times(&store, &vault).await, [NOW + 1, NOW + 2, NOW + 3]);
    let page = store.page(&vault, Some(NOW + 2), 100).await;
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].record_id.as_str(), "r0");
}

async fn a_clock_after_the_year_9999_is_not_followed(store: TestStore) {
    let vault = user();
    // A cursor has four digits for the year, and a vault's head never goes back.
    for now in [253_402_300_800_000, i64::MAX] {
        store.push_applied_at(&vault, &creates(&format!("{now} "), 3), now).await;
    }
    let times = times(&store, &vault).await;
    assert_eq!(times.len(), 6);
    for time in times {
        let printed = Timestamp::from_millis(time).to_string();
        assert_eq!(Cursor::parse(&printed), Ok(Cursor::from(Timestamp::from_millis(time))));
    }
}
