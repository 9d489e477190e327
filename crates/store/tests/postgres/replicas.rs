//! Pulls from replicas that lag.

use std::time::Duration;

use vaultsync_protocol::{Cursor, KnownEpoch, Pull, Timestamp};
use vaultsync_store::{DatabaseUrl, PostgresOptions, PullOutcome, Store, Unbounded, Vault};
use vaultsync_test_servers::PostgresServer;

use crate::dsl::{BACK_WITHIN, applied, by, open, try_page, until_ok, user};

fn address(server: &PostgresServer) -> DatabaseUrl {
    server.url("postgres").parse().expect("an address")
}

struct Pair {
    primary: PostgresServer,
    replica: PostgresServer,
    /// Pushes and pulls at the primary only.
    store: Store,
    /// Pulls from the replica.
    reader: Store,
}

impl Pair {
    async fn start() -> Self {
        let primary = PostgresServer::start();
        let store = open(by(vec![address(&primary)])).await;
        let replica = primary.standby();
        let replicas = vec![address(&replica)];
        let reader = PostgresOptions { replicas, ..by(vec![address(&primary)]) };
        let reader = open(reader).await;
        Self { primary, replica, store, reader }
    }

    /// The replica hears no more of what the primary does.
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

    /// Waits until the replica has all that the primary has.
    async fn caught_up(&self) {
        let at = self.primary.query("postgres", "select pg_current_wal_lsn()");
        let has = format!("select pg_last_wal_replay_lsn() >= '{}'", at.trim());
        let waiting = async {
            while self.replica.query("postgres", &has).trim() != "t" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(BACK_WITHIN, waiting).await.expect("the replica follows");
    }
}

async fn pull(store: &Store, vault: &Vault, pull: Pull) -> PullOutcome {
    store.pull(vault, &pull, Unbounded).await.expect("the database answers").0
}

fn in_epoch(epoch: &str, cursor: Option<Timestamp>) -> Pull {
    let epoch = KnownEpoch::new(epoch).expect("an epoch's text");
    Pull { epoch: Some(epoch), cursor: cursor.map(Cursor::from), limit: 10, ..Pull::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_read_from_the_replica_and_lag_without_harm() {
    let pair = Pair::start().await;
    let vault = user();
    applied(&pair.store, &vault, &[("a", None, "v1")]).await;
    pair.caught_up().await;
    pair.pause();
    applied(&pair.store, &vault, &[("b", None, "v1")]).await;

    let page = try_page(&pair.reader, &vault, None, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1, "the replica is asked, and does not know better");
    let cursor = page.next_cursor;
    let epoch = page.epoch.expect("a vault has one").to_string();
    // Nothing is new there, and nobody here has heard of anything.
    assert!(try_page(&pair.reader, &vault, cursor, 10).await.expect("a page").records.is_empty());
    pair.resume();
    pair.caught_up().await;
    let rest = try_page(&pair.reader, &vault, cursor, 10).await.expect("a page");
    assert_eq!(rest.records.len(), 1, "nothing is skipped");

    // A vault that the replica does not know yet has a history all the same.
    pair.pause();
    let newer = user();
    applied(&pair.store, &newer, &[("a", None, "v1")]).await;
    let page = try_page(&pair.store, &newer, None, 10).await.expect("a page");
    let newest = page.epoch.expect("a vault has one").to_string();
    let told = pull(&pair.reader, &newer, in_epoch(&newest, page.next_cursor)).await;
    assert!(matches!(told, PullOutcome::Page(_)), "{told:?}");

    // A cursor that the primary gave out is not ahead.
    applied(&pair.store, &vault, &[("c", None, "v1")]).await;
    let ahead = try_page(&pair.store, &vault, None, 10).await.expect("a page").next_cursor;
    let told = pull(&pair.reader, &vault, in_epoch(&epoch, ahead)).await;
    assert!(matches!(told, PullOutcome::Page(_)), "{told:?}");
    // One that nobody gave out is, and the primary says so.
    let beyond = ahead.map(|last| last.plus_millis(1));
    let told = pull(&pair.reader, &vault, in_epoch(&epoch, beyond)).await;
    assert_eq!(told, PullOutcome::CursorAhead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_page_older_than_the_last_hint_is_read_from_the_primary() {
    let pair = Pair::start().await;
    let vault = user();
    applied(&pair.reader, &vault, &[("a", None, "v1")]).await;
    pair.caught_up().await;
    let cursor = try_page(&pair.reader, &vault, None, 10).await.expect("a page").next_cursor;
    pair.pause();
    // By the store that reads: it knows that there is something new.
    applied(&pair.reader, &vault, &[("b", None, "v1")]).await;
    let page = try_page(&pair.reader, &vault, cursor, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1);
}

/// Whoever was told of a change pulls once, and takes the end of a page for the end of what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_the_last_page_where_it_is_older_than_the_last_hint() {
    let pair = Pair::start().await;
    let vault = user();
    applied(&pair.reader, &vault, &[("a", None, "v1")]).await;
    let cursor = try_page(&pair.store, &vault, None, 10).await.expect("a page").next_cursor;
    applied(&pair.reader, &vault, &[("b", None, "v1")]).await;
    pair.caught_up().await;
    pair.pause();
    applied(&pair.reader, &vault, &[("c", None, "v1")]).await;
    let page = try_page(&pair.reader, &vault, cursor, 10).await.expect("a page");
    assert_eq!(page.records.len(), 2);
    let page = try_page(&pair.reader, &vault, None, 1).await.expect("a page");
    assert!(page.records.len() == 1 && page.has_more, "a page that goes on may be the replica's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_replica_is_away_the_primary_answers() {
    let pair = Pair::start().await;
    let vault = user();
    applied(&pair.store, &vault, &[("a", None, "v1")]).await;
    pair.replica.stop();
    let page = try_page(&pair.reader, &vault, None, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1);
    pair.replica.start_again();
    until_ok(BACK_WITHIN, || try_page(&pair.reader, &vault, None, 10)).await;
}
