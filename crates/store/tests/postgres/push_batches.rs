//! Batches: small pushes of many vaults at once.

use futures_util::future::join_all;
use tokio_postgres::NoTls;
use vaultsync_store::{PushOutcome, Store, Vault};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{RESPONSE_WITHIN, open, open_through, push, push_applied, state, user},
    proxy::Proxy,
    support::postgres_options,
};

/// So many that most of them have to wait for the first few, and form batches.
const VAULTS: usize = 40;

async fn vaults(store: &Store) -> Vec<Vault> {
    let vaults: Vec<_> = (0..VAULTS).map(|_| user()).collect();
    join_all(vaults.iter().map(|vault| push_applied(store, vault, &[("old", None, "v1")]))).await;
    vaults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_pushes_share_round_trips_and_commits() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_through(&proxy).await;
    let vaults = vaults(&store).await;
    let round_trips = proxy.round_trips(async {
        let writes = [("new", None, "v1"), ("old", Some(1), "v2")];
        for versions in
            join_all(vaults.iter().map(|vault| push_applied(&store, vault, &writes))).await
        {
            assert_eq!(versions, [1, 2]);
        }
    });
    let round_trips = round_trips.await;
    assert!(round_trips < VAULTS, "{round_trips} round_trips for {VAULTS} pushes");
    for vault in &vaults {
        let expected = [("new", 1, "v1"), ("old", 2, "v2")];
        let expected =
            expected.map(|(id, version, text)| (id.to_owned(), version, text.to_owned()));
        assert_eq!(state(&store, vault).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_push_of_a_batch_is_decided_by_its_own_vault() {
    let store = open(postgres_options()).await;
    let vaults = vaults(&store).await;
    let pushes = vaults.iter().enumerate().map(|(number, vault)| {
        let (store, first) = (&store, user());
        async move {
            match number % 5 {
                // A conflict, beside a create that would be applied.
                0 => {
                    let writes = [("new", None, "v1"), ("old", Some(7), "mine")];
                    let pushed = push(store, vault, &writes).await;
                    let Ok(PushOutcome::Refused(refused)) = pushed else { panic!("{pushed:?}") };
                    assert_eq!(refused.conflicts.len(), 1);
                    assert_eq!(refused.conflicts[0].current_version.get(), 1);
                    assert_eq!(state(store, vault).await.len(), 1);
                }
                // A retry.
                1 => assert_eq!(push_applied(store, vault, &[("old", None, "v1")]).await, [1]),
                // The first push of a vault.
                2 => assert_eq!(push_applied(store, &first, &[("old", None, "v1")]).await, [1]),
                // An empty push.
                3 => assert!(push_applied(store, vault, &[]).await.is_empty()),
                _ => assert_eq!(push_applied(store, vault, &[("old", Some(1), "v2")]).await, [2]),
            }
        }
    });
    join_all(pushes).await;
    for (number, vault) in vaults.iter().enumerate() {
        let version = if number % 5 == 4 { 2 } else { 1 };
        let text = format!("v{version}");
        assert_eq!(state(&store, vault).await, [("old".to_owned(), version, text)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_in_a_batch_keeps_its_receipt_and_earlier_ones() {
    let store = open(postgres_options()).await;
    let vaults = vaults(&store).await;
    // The second time each push is a retry, and all but the last are superseded.
    for _ in 0..2 {
        for (base, text) in [(1, "v2"), (2, "v3"), (3, "v4")] {
            let writes = [("old", Some(base), text)];
            let pushes = vaults.iter().map(|vault| push_applied(&store, vault, &writes));
            for versions in join_all(pushes).await {
                assert_eq!(versions, [base + 1]);
            }
        }
    }
    for vault in &vaults {
        assert_eq!(push_applied(&store, vault, &[("old", None, "v1")]).await, [1]);
        assert_eq!(state(&store, vault).await, [("old".to_owned(), 4, "v4".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_vault_does_not_block_the_pushes_of_others() {
    let store = open(postgres_options()).await;
    let vaults = vaults(&store).await;
    let (client, connection) = tokio_postgres::connect(&shared_postgres().url("vaultsync"), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client.batch_execute("begin").await.expect("it begins");
    let lock = "select from vaults where vault_id = $1 for update";
    let id = uuid::Uuid::from_bytes(*vaults[VAULTS / 2].id().as_bytes());
    assert_eq!(client.execute(lock, &[&id]).await.expect("a lock"), 1);

    let write = |vault| push_applied(&store, vault, &[("old", Some(1), "v2")]);
    let (locked, unlocked): (Vec<_>, Vec<_>) = {
        let is_locked = |(number, _): &(usize, &Vault)| *number == VAULTS / 2;
        vaults.iter().enumerate().partition(is_locked)
    };
    let waiting = async {
        assert_eq!(write(locked[0].1).await, [2]);
    };
    let others = async {
        let all = join_all(unlocked.iter().map(|(_, vault)| write(vault)));
        let all = tokio::time::timeout(RESPONSE_WITHIN, all).await;
        assert!(all.expect("no other push waits").iter().all(|versions| versions == &[2]));
        client.batch_execute("rollback").await.expect("it ends");
    };
    tokio::join!(waiting, others);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_commit_response_is_lost_is_applied_once() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_through(&proxy).await;
    let vaults = vaults(&store).await;
    for round in 0..10_i64 {
        proxy.lose_responses(2);
        let text = format!("v{}", round + 2);
        let writes = [("old", Some(round + 1), text.as_str())];
        let pushes = vaults.iter().map(|vault| push_applied(&store, vault, &writes));
        for versions in join_all(pushes).await {
            assert_eq!(versions, [round + 2]);
        }
        // Only one response was lost if all pushes were in one batch: each retry finds its receipt and
        // commits nothing.
        assert!(proxy.left_to_lose() < 2, "no response was lost");
        proxy.lose_responses(0);
        // Only one: a push that loses two commits in a row returns that its outcome is unknown.
        proxy.lose_commits(1);
        let id = format!("new {round}");
        let writes = [(id.as_str(), None, "v1")];
        for versions in
            join_all(vaults.iter().map(|vault| push_applied(&store, vault, &writes))).await
        {
            assert_eq!(versions, [1]);
        }
    }
    for vault in &vaults {
        assert_eq!(state(&store, vault).await.len(), 11);
    }
}
