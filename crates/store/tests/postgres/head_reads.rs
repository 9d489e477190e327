//! Pulls of many vaults at once where nothing is new, which look together.

use std::time::Duration;

use futures_util::future::join_all;
use vaultsync_protocol::{Page, Timestamp};
use vaultsync_store::{Store, Vault};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{applied, open, open_by, try_page, user},
    proxy::Proxy,
    support::postgres_options,
};

/// So many that most of them have to wait for the first few, and look together.
const VAULTS: usize = 40;

/// Vaults with one record each, and where a client that has it stands.
async fn vaults(store: &Store) -> Vec<(Vault, Timestamp)> {
    let vaults = (0..VAULTS).map(|_| async {
        let vault = user();
        applied(store, &vault, &[("old", None, "v1")]).await;
        let page = try_page(store, &vault, None, 10).await.expect("a page");
        (vault, page.next_cursor.expect("a record"))
    });
    join_all(vaults).await
}

async fn pulled(store: &Store, vaults: &[(Vault, Timestamp)]) -> Vec<Page> {
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
async fn pulls_that_come_together_share_flights() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_by(&proxy).await;
    let vaults = vaults(&store).await;
    check_idle(&pulled(&store, &vaults).await, &vaults);
    let flights = proxy.flights(async { check_idle(&pulled(&store, &vaults).await, &vaults) });
    let flights = flights.await;
    assert!(flights < VAULTS / 2, "{flights} flights for {VAULTS} pulls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_wrote_is_on_the_page_of_its_vault_and_no_other() {
    let (here, there) = (open(postgres_options()).await, open(postgres_options()).await);
    let vaults = vaults(&here).await;
    for round in 0..5 {
        let name = format!("new {round}");
        for (vault, _) in vaults.iter().step_by(3) {
            applied(&there, vault, &[(&name, None, "v1")]).await;
        }
        for (number, page) in pulled(&here, &vaults).await.iter().enumerate() {
            let expected = if number % 3 == 0 { round + 1 } else { 0 };
            assert_eq!(page.records.len(), expected, "vault {number}: {page:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_line_breaks_each_pull_is_answered_all_the_same() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let store = open_by(&proxy).await;
    let vaults = vaults(&store).await;
    // Every flight takes 100 ms, so that the first ones are on their way when the line breaks.
    let pulled = proxy.flights(async { check_idle(&pulled(&store, &vaults).await, &vaults) });
    let cut = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.cut();
    };
    tokio::join!(pulled, cut);
}
