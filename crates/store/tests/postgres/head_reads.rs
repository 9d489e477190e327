//! Batched head reads: idle pulls of many vaults at once.

use std::time::Duration;

use futures_util::future::join_all;
use vaultsync_protocol::{Page, Timestamp};
use vaultsync_store::{Store, Vault};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{open, open_through, push_applied, try_page, user},
    proxy::Proxy,
    support::postgres_options,
};

/// So many that most of them have to wait for the first few, and form batches.
const VAULTS: usize = 40;

/// Vaults with one record each, and the cursor after it.
async fn vaults(store: &Store) -> Vec<(Vault, Timestamp)> {
    let vaults = (0..VAULTS).map(|_| async {
        let vault = user();
        push_applied(store, &vault, &[("old", None, "v1")]).await;
        let page = try_page(store, &vault, None, 10).await.expect("a page");
        (vault, page.next_cursor.expect("a record"))
    });
    join_all(vaults).await
}

async fn pull_all(store: &Store, vaults: &[(Vault, Timestamp)]) -> Vec<Page> {
    let pulls = vaults.iter().map(|(vault, cursor)| try_page(store, vault, Some(*cursor), 10));
    join_all(pulls).await.into_iter().map(|page| page.expect("a page")).collect()
}

fn check_idle(pages: &[Page], vaults: &[(Vault, Timestamp)]) {
    for (page, (_, cursor)) in pages.iter().zip(vaults) {
        assert!(page.records.is_empty() && !page.has_more, "{page:?}");
        assert_eq!((page.head, page.next_cursor), (Some(*cursor), None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_idle_pulls_share_round_trips() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_through(&proxy).await;
    let vaults = vaults(&store).await;
    check_idle(&pull_all(&store, &vaults).await, &vaults);
    let round_trips =
        proxy.round_trips(async { check_idle(&pull_all(&store, &vaults).await, &vaults) });
    let round_trips = round_trips.await;
    assert!(round_trips < VAULTS / 2, "{round_trips} round_trips for {VAULTS} pulls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_another_process_is_returned_for_its_vault_only() {
    let (here, there) = (open(postgres_options()).await, open(postgres_options()).await);
    let vaults = vaults(&here).await;
    for round in 0..5 {
        let name = format!("new {round}");
        for (vault, _) in vaults.iter().step_by(3) {
            push_applied(&there, vault, &[(&name, None, "v1")]).await;
        }
        for (number, page) in pull_all(&here, &vaults).await.iter().enumerate() {
            let expected = if number % 3 == 0 { round + 1 } else { 0 };
            assert_eq!(page.records.len(), expected, "vault {number}: {page:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_succeed_although_the_connection_breaks() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_through(&proxy).await;
    let vaults = vaults(&store).await;
    // Every round trip takes 100 ms, so the first ones are in flight when the connection breaks.
    let pulls = proxy.round_trips(async { check_idle(&pull_all(&store, &vaults).await, &vaults) });
    let cut = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.cut();
    };
    tokio::join!(pulls, cut);
}
