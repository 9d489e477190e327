//! Pulls from lagging replicas.

use std::time::Duration;

use vaultsync_protocol::{Cursor, KnownEpoch, Pull, Timestamp};
use vaultsync_store::{DatabaseUrl, PostgresOptions, PullOutcome, Store, Unbounded, Vault};
use vaultsync_test_servers::PostgresServer;

use crate::dsl::{
    RECOVERY_WITHIN, open, options_for, push_applied, retry_until_ok, try_page, user,
};

fn address(server: &PostgresServer) -> DatabaseUrl {
    server.url("postgres").parse().expect("an address")
}

struct Pair {
    primary: PostgresServer,
    replica: PostgresServer,
    /// Uses only the primary.
    store: Store,
    /// Pulls from the replica, and pushes to the primary.
    reader: Store,
}

impl Pair {
    async fn start() -> Self {
        let primary = PostgresServer::start();
        let store = open(options_for(vec![address(&primary)])).await;
        let replica = primary.standby();
        let replicas = vec![address(&replica)];
        let reader = PostgresOptions { replicas, ..options_for(vec![address(&primary)]) };
        let reader = open(reader).await;
        Self { primary, replica, store, reader }
    }

    /// Pauses replication.
    fn pause(&self) {
        self.replica.query("postgres", "select pg_wal_replay_pause()");
        while self.replica.query("postgres", "select pg_get_wal_replay_pause_state()").trim()
            != "paused"
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn resume(&self) {
        self.replica.query("postgres", "select pg_wal_replay_resume()");
    }

    /// Waits until the replica has everything that the primary has.
    async fn catch_up(&self) {
        let at = self.primary.query("postgres", "select pg_current_wal_lsn()");
        let has = format!("select pg_last_wal_replay_lsn() >= '{}'", at.trim());
        let waiting = async {
            while self.replica.query("postgres", &has).trim() != "t" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(RECOVERY_WITHIN, waiting).await.expect("the replica catches up");
    }
}

async fn pull(store: &Store, vault: &Vault, pull: Pull) -> PullOutcome {
    store.pull(vault, &pull, Unbounded).await.expect("the database responds").0
}

fn in_epoch(epoch: &str, cursor: Option<Timestamp>) -> Pull {
    let epoch = KnownEpoch::new(epoch).expect("an epoch");
    Pull { epoch: Some(epoch), cursor: cursor.map(Cursor::from), limit: 10, ..Pull::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_from_a_lagging_replica_skip_nothing() {
    let pair = Pair::start().await;
    let vault = user();
    push_applied(&pair.store, &vault, &[("a", None, "v1")]).await;
    pair.catch_up().await;
    pair.pause();
    push_applied(&pair.store, &vault, &[("b", None, "v1")]).await;

    let page = try_page(&pair.reader, &vault, None, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1, "the page is the replica's");
    let cursor = page.next_cursor;
    let epoch = page.epoch.expect("a vault has one").to_string();
    // The replica has nothing new, and the store was not notified of anything.
    assert!(try_page(&pair.reader, &vault, cursor, 10).await.expect("a page").records.is_empty());
    pair.resume();
    pair.catch_up().await;
    let rest = try_page(&pair.reader, &vault, cursor, 10).await.expect("a page");
    assert_eq!(rest.records.len(), 1, "nothing is skipped");

    // A vault that the replica does not have yet must not be reported as another epoch.
    pair.pause();
    let newer = user();
    push_applied(&pair.store, &newer, &[("a", None, "v1")]).await;
    let page = try_page(&pair.store, &newer, None, 10).await.expect("a page");
    let newest = page.epoch.expect("a vault has one").to_string();
    let outcome = pull(&pair.reader, &newer, in_epoch(&newest, page.next_cursor)).await;
    assert!(matches!(outcome, PullOutcome::Page(_)), "{outcome:?}");

    // A cursor from the primary is not ahead.
    push_applied(&pair.store, &vault, &[("c", None, "v1")]).await;
    let ahead = try_page(&pair.store, &vault, None, 10).await.expect("a page").next_cursor;
    let outcome = pull(&pair.reader, &vault, in_epoch(&epoch, ahead)).await;
    assert!(matches!(outcome, PullOutcome::Page(_)), "{outcome:?}");
    // A later cursor is, which only the primary can report.
    let beyond = ahead.map(|last| last.plus_millis(1));
    let outcome = pull(&pair.reader, &vault, in_epoch(&epoch, beyond)).await;
    assert_eq!(outcome, PullOutcome::CursorAhead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_page_older_than_the_latest_notification_is_read_from_the_primary() {
    let pair = Pair::start().await;
    let vault = user();
    push_applied(&pair.reader, &vault, &[("a", None, "v1")]).await;
    pair.catch_up().await;
    let cursor = try_page(&pair.reader, &vault, None, 10).await.expect("a page").next_cursor;
    pair.pause();
    // Pushed through the store that reads: it knows of the new head.
    push_applied(&pair.reader, &vault, &[("b", None, "v1")]).await;
    let page = try_page(&pair.reader, &vault, cursor, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1);
}

/// A notified client pulls once, and takes the end of the last page for the end of the changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_page_older_than_the_latest_notification_is_read_from_the_primary() {
    let pair = Pair::start().await;
    let vault = user();
    push_applied(&pair.reader, &vault, &[("a", None, "v1")]).await;
    let cursor = try_page(&pair.store, &vault, None, 10).await.expect("a page").next_cursor;
    push_applied(&pair.reader, &vault, &[("b", None, "v1")]).await;
    pair.catch_up().await;
    pair.pause();
    push_applied(&pair.reader, &vault, &[("c", None, "v1")]).await;
    let page = try_page(&pair.reader, &vault, cursor, 10).await.expect("a page");
    assert_eq!(page.records.len(), 2);
    let page = try_page(&pair.reader, &vault, None, 1).await.expect("a page");
    assert!(
        page.records.len() == 1 && page.has_more,
        "a page with more after it may be the replica's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_serves_pulls_while_the_replica_is_down() {
    let pair = Pair::start().await;
    let vault = user();
    push_applied(&pair.store, &vault, &[("a", None, "v1")]).await;
    pair.replica.stop();
    let page = try_page(&pair.reader, &vault, None, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1);
    pair.replica.start_again();
    retry_until_ok(RECOVERY_WITHIN, || try_page(&pair.reader, &vault, None, 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_read_from_a_replica_unless_the_replica_lags() {
    let pair = Pair::start().await;
    let vault = user();
    push_applied(&pair.reader, &vault, &[("a", None, "v1")]).await;
    pair.catch_up().await;
    pair.pause();
    push_applied(&pair.reader, &vault, &[("b", None, "v1")]).await;
    let head = pair.reader.head(&vault).await.expect("a head");
    assert_eq!(head, pair.store.head(&vault).await.expect("a head"), "the primary's");
    pair.resume();
    pair.catch_up().await;
    pair.primary.stop();
    assert_eq!(pair.reader.head(&vault).await.expect("a head"), head, "the replica's");
}
