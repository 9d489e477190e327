//! Concurrent pushes: nothing is lost, applied twice or partly written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use vaultsync_protocol::{Operation, Timestamp};
use vaultsync_store::{PushOutcome, StoreError, Vault};

use crate::{
    dsl::{NOW, create, creates, operation, poll_once, summary, user, versions},
    support::{TestStore, batch},
};

backends!(
    sixteen_devices_may_create_a_vault_at_once,
    of_sixteen_creates_of_one_record_exactly_one_is_applied,
    sixteen_identical_creates_are_one_write,
    six_writers_on_shared_records_lose_no_update,
    writers_of_different_records_do_not_conflict,
    concurrent_users_do_not_interfere,
    a_push_dropped_early_is_applied_whole_or_not_at_all,
    a_push_dropped_late_is_applied_whole_or_not_at_all,
    a_push_rejected_for_overload_is_not_written,
);

/// Pushes all batches concurrently. Returns the outcomes in the order of the batches.
async fn push_concurrently(
    store: &Arc<TestStore>,
    vault: &Vault,
    batches: Vec<Vec<Operation>>,
) -> Vec<PushOutcome> {
    let tasks = batches.into_iter().map(|operations| {
        let (store, vault) = (Arc::clone(store), vault.clone());
        tokio::spawn(async move { store.try_push(&vault, &operations).await })
    });
    let mut outcomes = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

async fn sixteen_devices_may_create_a_vault_at_once(store: TestStore) {
    let store = Arc::new(store);
    for _ in 0..20 {
        let vault = user();
        let batches = (0..16).map(|device| creates(&format!("{device} "), 3)).collect();
        let outcomes = push_concurrently(&store, &vault, batches).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, PushOutcome::Applied { .. })));
        assert_eq!(store.summaries(&vault).await.len(), 48);
    }
}

async fn of_sixteen_creates_of_one_record_exactly_one_is_applied(store: TestStore) {
    let store = Arc::new(store);
    for round in 0..20 {
        let vault = user();
        let id = format!("r{round}");
        let batches = (0..16).map(|device| {
            let own = create(&format!("{device}"), "own");
            vec![own, create(&id, &format!("device {device}"))]
        });
        let outcomes = push_concurrently(&store, &vault, batches.collect()).await;
        let applied =
            |(_, outcome): &(usize, &PushOutcome)| matches!(outcome, PushOutcome::Applied { .. });
        let winners: Vec<_> = outcomes.iter().enumerate().filter(applied).collect();
        assert_eq!(winners.len(), 1, "exactly one device succeeds");
        let stored = format!("device {}", winners[0].0);
        for outcome in &outcomes {
            if let PushOutcome::Refused(refused) = outcome {
                assert_eq!(refused.conflicts.len(), 1);
                assert_eq!(refused.conflicts[0].ciphertext.as_bytes(), stored.as_bytes());
                assert_eq!(refused.conflicts[0].current_version.get(), 1);
            }
        }
        assert_eq!(store.summaries(&vault).await.len(), 2, "nothing of a refused push is written");
    }
}

async fn sixteen_identical_creates_are_one_write(store: TestStore) {
    let store = Arc::new(store);
    for _ in 0..10 {
        let vault = user();
        let batches = (0..16).map(|_| creates("r", 3)).collect();
        for outcome in push_concurrently(&store, &vault, batches).await {
            let PushOutcome::Applied { results: written, .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(versions(&written), [("r0", 1), ("r1", 1), ("r2", 1)]);
        }
        assert_eq!(store.head(&vault).await, NOW + 2, "written once");
        assert_eq!(store.summaries(&vault).await.len(), 3);
    }
}

/// Updates shared records as one device. Returns its acknowledged writes, by `(record, version)`.
async fn count_up(
    store: Arc<TestStore>,
    vault: Vault,
    device: u64,
) -> Vec<((String, i64), Vec<u8>)> {
    let mut random = StdRng::seed_from_u64(device);
    let (mut known, mut acknowledged) = (HashMap::<String, i64>::new(), Vec::new());
    for turn in 0..60 {
        let mut ids: Vec<_> = (0..24).collect();
        let count = random.random_range(1..=4);
        let operations: Vec<_> = (0..count)
            .map(|_| {
                let id = format!("r{}", ids.swap_remove(random.random_range(0..ids.len())));
                let base = known.get(&id).copied();
                operation(&id, base, format!("{device} {turn} {id}"), false)
            })
            .collect();
        match store.try_push(&vault, &operations).await {
            PushOutcome::Applied { results: written, .. } => {
                for (one, operation) in written.iter().zip(operations) {
                    let id = one.record_id.as_str().to_owned();
                    known.insert(id.clone(), one.version.get());
                    let bytes = operation.ciphertext.as_bytes().to_vec();
                    acknowledged.push(((id, one.version.get()), bytes));
                }
            }
            PushOutcome::Refused(refused) => {
                for conflict in refused.conflicts {
                    let id = conflict.record_id.as_str().to_owned();
                    known.insert(id, conflict.current_version.get());
                }
            }
            other => panic!("neither an epoch nor a limit is set: {other:?}"),
        }
    }
    acknowledged
}

async fn six_writers_on_shared_records_lose_no_update(store: TestStore) {
    let (store, vault) = (Arc::new(store), user());
    let mut writers = JoinSet::new();
    for device in 0..6 {
        writers.spawn(count_up(Arc::clone(&store), vault.clone(), device));
    }
    let mut by_version = BTreeMap::new();
    for ((id, version), ciphertext) in writers.join_all().await.into_iter().flatten() {
        let twice = by_version.insert((id.clone(), version), ciphertext);
        assert!(twice.is_none(), "version {version} of {id} is acknowledged twice");
    }
    let records = store.pull_all(&vault, 100).await;
    for (id, version, ciphertext, _) in records.iter().map(summary) {
        let acknowledged = by_version.keys().filter(|(of, _)| *of == id).count();
        assert_eq!(i64::try_from(acknowledged).unwrap(), version, "updates of {id} are lost");
        assert_eq!(by_version[&(id, version)], ciphertext);
    }
    assert!(by_version.len() > 100, "the writers made progress: {}", by_version.len());
}

async fn writers_of_different_records_do_not_conflict(store: TestStore) {
    let (store, vault) = (Arc::new(store), user());
    let mut writers = JoinSet::new();
    for device in 0..8 {
        let (store, vault) = (Arc::clone(&store), vault.clone());
        writers.spawn(async move {
            for turn in 0..25 {
                let base = (turn > 0).then_some(turn);
                let ids = ["a", "b", "c"].map(|id| format!("{device} {id}"));
                let batch = ids.map(|id| operation(&id, base, format!("turn {turn}"), false));
                store.push_applied(&vault, &batch).await;
            }
        });
    }
    writers.join_all().await;
    let all = store.summaries(&vault).await;
    assert_eq!(all.len(), 24);
    assert!(all.iter().all(|(_, version, text, _)| *version == 25 && text == b"turn 24"));
    assert_eq!(store.head(&vault).await, NOW + 8 * 25 * 3 - 1, "one millisecond for each write");
}

async fn concurrent_users_do_not_interfere(store: TestStore) {
    let store = Arc::new(store);
    let mut users = JoinSet::new();
    for n in 0..16 {
        let store = Arc::clone(&store);
        users.spawn(async move {
            let vault = user();
            for turn in 0..10 {
                let base = (turn > 0).then_some(turn);
                let text = format!("user {n} turn {turn}");
                store.push_applied(&vault, &[operation("a", base, text, false)]).await;
            }
            let text = format!("user {n} turn 9");
            assert_eq!(store.summaries(&vault).await, [crate::dsl::live("a", 10, &text)]);
            assert_eq!(store.head(&vault).await, NOW + 9);
        });
    }
    users.join_all().await;
}

/// All records of each batch must exist, or none. Returns how many batches were applied.
async fn check_all_or_nothing(
    store: &TestStore,
    vault: &Vault,
    batches: usize,
    size: usize,
) -> usize {
    // A vault's pushes run one after the other: when this one returns, earlier ones have ended.
    store.push_applied(vault, &[create("last", "v1")]).await;
    let ids: Vec<_> = store.summaries(vault).await.into_iter().map(|(id, ..)| id).collect();
    let mut applied = 0;
    for n in 0..batches {
        let found = ids.iter().filter(|id| id.starts_with(&format!("{n} "))).count();
        assert!(found == 0 || found == size, "{found} of {size} records of a push exist");
        applied += usize::from(found == size);
    }
    applied
}

async fn a_push_dropped_early_is_applied_whole_or_not_at_all(store: TestStore) {
    let vault = user();
    for n in 0..60 {
        let push = batch(&creates(&format!("{n} "), 20), None);
        let mut push = Box::pin(store.store.push(&vault, push, Timestamp::from_millis(NOW), ()));
        for _ in 0..n % 5 {
            if poll_once(&mut push).is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    check_all_or_nothing(&store, &vault, 60, 20).await;
}

async fn a_push_dropped_late_is_applied_whole_or_not_at_all(store: TestStore) {
    let vault = user();
    for n in 0..40 {
        let push = batch(&creates(&format!("{n} "), 20), None);
        let push = store.store.push(&vault, push, Timestamp::from_millis(NOW), ());
        let _ = tokio::time::timeout(Duration::from_micros(n % 20 * 200), push).await;
    }
    check_all_or_nothing(&store, &vault, 40, 20).await;
}

async fn a_push_rejected_for_overload_is_not_written(store: TestStore) {
    let vault = user();
    let pushes = (0..2000).map(|n| {
        let operations = [create(&format!("r{n}"), "v1")];
        store.store.push(&vault, batch(&operations, None), Timestamp::from_millis(NOW), ())
    });
    let mut pushes: Vec<_> = pushes.map(Box::pin).collect();
    let early: Vec<_> = pushes.iter_mut().map(poll_once).collect();
    let mut acknowledged = Vec::new();
    for (n, (push, early)) in pushes.into_iter().zip(early).enumerate() {
        let result = match early {
            Some(result) => result,
            None => push.await,
        };
        match result {
            Ok(PushOutcome::Applied { .. }) => acknowledged.push(format!("r{n}")),
            Err(StoreError::Busy(_) | StoreError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let found: Vec<_> = store.summaries(&vault).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(found.len(), acknowledged.len());
    assert!(acknowledged.iter().all(|id| found.contains(id)));
}
