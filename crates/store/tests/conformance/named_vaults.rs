//! Named vaults of a user: separate from each other, listed, counted and limited.

use vaultsync_protocol::{VaultName, VaultSummary};
use vaultsync_store::{PushOutcome, StoreOptions, Vault};

use crate::{
    dsl::{NOW, create, creates, delete, live, operation, options, update, user},
    support::TestStore,
};

backends!(
    vaults_of_a_user_share_nothing,
    vaults_are_listed_by_name_with_their_counts,
    counters_equal_a_full_count,
    a_vault_above_the_limit_is_not_created,
);

fn named(vault: &Vault, name: &str) -> Vault {
    vault.clone().named(VaultName::new(name).expect(name))
}

/// Name, records and bytes of each vault of the user.
async fn listed(store: &TestStore, of: &Vault) -> Vec<(Option<String>, i64, i64)> {
    let vaults = store.store.vaults(of).await.expect("vaults are listed");
    let summary = |VaultSummary { name, records, bytes, .. }: VaultSummary| {
        (name, records.expect("it is counted"), bytes.expect("it is counted"))
    };
    vaults.into_iter().map(summary).collect()
}

async fn vaults_of_a_user_share_nothing(store: TestStore) {
    let default = user();
    let (notes, keys) = (named(&default, "notes"), named(&default, "keys"));
    let operations = [create("a", "default")];
    store.push_applied(&default, &operations).await;
    assert_eq!(store.state(&notes).await, (None, None, Vec::new()));
    store.push_applied(&notes, &[create("a", "notes")]).await;
    store.push_applied(&keys, &[create("a", "keys"), create("b", "keys")]).await;
    store.push_applied(&notes, &[update("a", 1, "notes v2")]).await;
    assert_eq!(store.summaries(&default).await, [live("a", 1, "default")]);
    assert_eq!(store.summaries(&notes).await, [live("a", 2, "notes v2")]);
    assert_eq!(store.summaries(&keys).await, [live("a", 1, "keys"), live("b", 1, "keys")]);
    assert_ne!(store.epoch(&notes).await, store.epoch(&default).await);
    // A receipt of one is not used for another.
    let outcome = store.try_push(&notes, &operations).await;
    assert!(matches!(outcome, PushOutcome::Refused(_)), "{outcome:?}");
    let other = named(&user(), "notes");
    assert_eq!(store.state(&other).await, (None, None, Vec::new()), "another user's");
}

async fn vaults_are_listed_by_name_with_their_counts(store: TestStore) {
    let default = user();
    assert_eq!(listed(&store, &default).await, []);
    let vaults = ["b", "a.x", "a-x", "a"].map(|name| named(&default, name));
    for vault in &vaults {
        store.push_applied(vault, &creates("r", 2)).await;
    }
    store.push_applied(&default, &[create("r", "12345")]).await;
    store.push_applied(&user(), &creates("r", 9)).await;
    let expected = [
        (None, 1, 5),
        (Some("a"), 2, 10),
        (Some("a-x"), 2, 10),
        (Some("a.x"), 2, 10),
        (Some("b"), 2, 10),
    ];
    let expected = expected.map(|(name, records, bytes)| (name.map(str::to_owned), records, bytes));
    assert_eq!(listed(&store, &vaults[0]).await, expected);
    let summary = &store.store.vaults(&default).await.unwrap()[0];
    assert_eq!(summary.epoch.to_string(), store.epoch(&default).await);
    assert_eq!(summary.head.as_millis(), store.head(&default).await);
}

async fn counters_equal_a_full_count(store: TestStore) {
    let vault = user();
    let mut versions = [0; 7];
    // Any mix of creates, updates, deletes, deletes of deleted records, revivals, retries and refused pushes.
    for step in 0..120_usize {
        let first = step * 5 % 7;
        let records = if step % 3 == 0 { vec![first] } else { vec![first, (first + 2) % 7] };
        let operations: Vec<_> = records
            .iter()
            .map(|&record| {
                let deleted = (step + record) % 4 == 0 && versions[record] > 0;
                let text = "x".repeat(if deleted { step % 3 } else { 1 + step * 7 % 50 });
                let stale = i64::from(step % 11 == 10);
                operation(&format!("r{record}"), Some(versions[record] + stale), text, deleted)
            })
            .collect();
        let outcome = store.try_push(&vault, &operations).await;
        if let PushOutcome::Applied { results: written, .. } = outcome {
            for (&record, written) in records.iter().zip(&written) {
                versions[record] = written.version.get();
            }
            if step % 6 == 0 {
                assert!(matches!(
                    store.try_push(&vault, &operations).await,
                    PushOutcome::Applied { .. }
                ));
            }
        }
        let stored = store.summaries(&vault).await;
        let live = stored.iter().filter(|(.., deleted)| !deleted).count();
        let bytes: usize = stored.iter().map(|(_, _, ciphertext, _)| ciphertext.len()).sum();
        let counted = listed(&store, &vault).await;
        let expected = (None, i64::try_from(live).unwrap(), i64::try_from(bytes).unwrap());
        assert_eq!(counted, [expected], "step {step}");
    }
}

async fn a_vault_above_the_limit_is_not_created(store: TestStore) {
    let options = StoreOptions { vaults_per_user_max: 2, ..options() };
    let store = TestStore::open(store.backend, options).await;
    let default = user();
    for name in ["one", "two"] {
        store.push_applied(&named(&default, name), &[create("a", "v1")]).await;
    }
    let third = named(&default, "three");
    assert_eq!(store.try_push(&third, &[create("a", "v1")]).await, PushOutcome::TooManyVaults);
    assert_eq!(store.state(&third).await, (None, None, Vec::new()));
    // Neither the default vault nor existing ones count.
    store.push_applied_at(&default, &[create("a", "v1")], NOW).await;
    store.push_applied(&named(&default, "one"), &[update("a", 1, "v2"), create("b", "v1")]).await;
    store.push_applied(&named(&default, "two"), &[delete("a", 1)]).await;
    store.push_applied(&named(&user(), "three"), &[create("a", "v1")]).await;
}
