//! Small pushes of many vaults at once, which go together where they can.

use futures_util::future::join_all;
use tokio_postgres::NoTls;
use vaultsync_store::{PushOutcome, Store, Vault};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{TOLD_WITHIN, applied, open, open_by, push, state, user},
    proxy::Proxy,
    support::postgres_options,
};

/// So many that most of them have to wait for the first few, and go together.
const VAULTS: usize = 40;

async fn vaults(store: &Store) -> Vec<Vault> {
    let vaults: Vec<_> = (0..VAULTS).map(|_| user()).collect();
    join_all(vaults.iter().map(|vault| applied(store, vault, &[("old", None, "v1")]))).await;
    vaults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_that_come_together_share_flights_and_commits() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_by(&proxy).await;
    let vaults = vaults(&store).await;
    let flights = proxy.flights(async {
        let writes = [("new", None, "v1"), ("old", Some(1), "v2")];
        for versions in join_all(vaults.iter().map(|vault| applied(&store, vault, &writes))).await {
            assert_eq!(versions, [1, 2]);
        }
    });
    let flights = flights.await;
    assert!(flights < VAULTS, "{flights} flights for {VAULTS} pushes");
    for vault in &vaults {
        let expected = [("new", 1, "v1"), ("old", 2, "v2")];
        let expected =
            expected.map(|(id, version, text)| (id.to_owned(), version, text.to_owned()));
        assert_eq!(state(&store, vault).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_group_is_judged_by_its_own_vault() {
    let store = open(postgres_options()).await;
    let vaults = vaults(&store).await;
    let pushes = vaults.iter().enumerate().map(|(number, vault)| {
        let (store, first) = (&store, user());
        async move {
            match number % 5 {
                // A conflict, and beside it what would be fine.
                0 => {
                    let writes = [("new", None, "v1"), ("old", Some(7), "mine")];
                    let pushed = push(store, vault, &writes).await;
                    let Ok(PushOutcome::Refused(refused)) = pushed else { panic!("{pushed:?}") };
                    assert_eq!(refused.conflicts.len(), 1);
                    assert_eq!(refused.conflicts[0].current_version.get(), 1);
                    assert_eq!(state(store, vault).await.len(), 1);
                }
                // One that was applied before.
                1 => assert_eq!(applied(store, vault, &[("old", None, "v1")]).await, [1]),
                // The first of a vault.
                2 => assert_eq!(applied(store, &first, &[("old", None, "v1")]).await, [1]),
                // Nothing at all.
                3 => assert!(applied(store, vault, &[]).await.is_empty()),
                _ => assert_eq!(applied(store, vault, &[("old", Some(1), "v2")]).await, [2]),
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
async fn a_push_that_went_with_others_is_remembered_and_so_are_those_before_it() {
    let store = open(postgres_options()).await;
    let vaults = vaults(&store).await;
    // The second time each is a retry, and all but the last are superseded.
    for _ in 0..2 {
        for (base, text) in [(1, "v2"), (2, "v3"), (3, "v4")] {
            let writes = [("old", Some(base), text)];
            let pushes = vaults.iter().map(|vault| applied(&store, vault, &writes));
            for versions in join_all(pushes).await {
                assert_eq!(versions, [base + 1]);
            }
        }
    }
    for vault in &vaults {
        assert_eq!(applied(&store, vault, &[("old", None, "v1")]).await, [1]);
        assert_eq!(state(&store, vault).await, [("old".to_owned(), 4, "v4".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_vault_that_somebody_else_has_locked() {
    let store = open(postgres_options()).await;
    let vaults = vaults(&store).await;
    let (client, connection) =
        tokio_postgres::connect(&shared_postgres().url("vaultsync"), NoTls).await.expect("a line");
    tokio::spawn(connection);
    client.batch_execute("begin").await.expect("it begins");
    let lock = "select from vaults where vault_id = $1 for update";
    let id = uuid::Uuid::from_bytes(*vaults[VAULTS / 2].id().as_bytes());
    assert_eq!(client.execute(lock, &[&id]).await.expect("a lock"), 1);

    let write = |vault| applied(&store, vault, &[("old", Some(1), "v2")]);
    let (locked, others): (Vec<_>, Vec<_>) = {
        let is_locked = |(number, _): &(usize, &Vault)| *number == VAULTS / 2;
        vaults.iter().enumerate().partition(is_locked)
    };
    let waiting = async {
        assert_eq!(write(locked[0].1).await, [2]);
    };
    let going = async {
        let all = join_all(others.iter().map(|(_, vault)| write(vault)));
        let all = tokio::time::timeout(TOLD_WITHIN, all).await;
        assert!(all.expect("nobody waits").iter().all(|versions| versions == &[2]));
        client.batch_execute("rollback").await.expect("it ends");
    };
    tokio::join!(waiting, going);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_commit_is_not_answered_is_applied_once_and_answered() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_by(&proxy).await;
    let vaults = vaults(&store).await;
    for round in 0..10_i64 {
        proxy.lose_answers(2);
        let text = format!("v{}", round + 2);
        let writes = [("old", Some(round + 1), text.as_str())];
        let pushes = vaults.iter().map(|vault| applied(&store, vault, &writes));
        for versions in join_all(pushes).await {
            assert_eq!(versions, [round + 2]);
        }
        // One where all went in one group: each is then found to be applied, and commits nothing.
        assert!(proxy.left_to_lose() < 2, "no answer was lost");
        proxy.lose_answers(0);
        // One only: a push that loses two in a row is told that its outcome is unknown.
        proxy.lose_commits(1);
        let id = format!("new {round}");
        let writes = [(id.as_str(), None, "v1")];
        for versions in join_all(vaults.iter().map(|vault| applied(&store, vault, &writes))).await {
            assert_eq!(versions, [1]);
        }
    }
    for vault in &vaults {
        assert_eq!(state(&store, vault).await.len(), 11);
    }
}
