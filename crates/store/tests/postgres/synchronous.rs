//! Synchronous replication: no outcome is returned that a replica which takes over could contradict.

use std::time::Duration;

use vaultsync_store::{DatabaseUrl, PostgresOptions, PushOutcome, Store, StoreError, Vault};
use vaultsync_test_servers::{PostgresServer, query};

use crate::dsl::{
    RECOVERY_WITHIN, TIMEOUT, open, options_for, push, push_applied, retry_until_ok, try_page, user,
};

/// A primary whose commits wait for its replica.
struct Pair {
    primary: PostgresServer,
    replica: PostgresServer,
    store: Store,
    vault: Vault,
}

impl Pair {
    /// A pair whose vault has the records `a` and `b` at version 1.
    async fn start() -> Self {
        let primary = PostgresServer::start();
        let replica = primary.standby();
        let url: DatabaseUrl = primary.url("postgres").parse().expect("an address");
        let options = PostgresOptions { timeout: TIMEOUT, ..options_for(vec![url]) };
        let store = open(options).await;
        let vault = user();
        push_applied(&store, &vault, &[("a", None, "v1"), ("b", None, "v1")]).await;
        primary.query("postgres", "alter system set synchronous_standby_names = '*'");
        primary.query("postgres", "select pg_reload_conf()");
        let pair = Self { primary, replica, store, vault };
        pair.wait_until("select sync_state from pg_stat_replication", "sync").await;
        pair
    }

    async fn wait_until(&self, sql: &str, expected: &str) {
        let waiting = async {
            while self.primary.query("postgres", sql).trim() != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(RECOVERY_WITHIN, waiting).await.expect(sql);
    }

    /// Runs `work` while an operator cancels every commit that waits for the replica.
    async fn while_cancelling<T>(&self, work: impl Future<Output = T>) -> T {
        let url = self.primary.url("postgres");
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let cancelling = std::thread::spawn(move || {
            let mut cancelled = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity
                     where wait_event = 'SyncRep'";
                cancelled += query(&url, cancel).trim().parse::<usize>().expect("a number");
            }
            cancelled
        });
        let done = work.await;
        drop(stop);
        let cancelled = cancelling.join().expect("no statement fails");
        assert!(cancelled > 0, "a commit waited for the replica");
        done
    }

    /// The version of a record at the replica.
    fn version_at_replica(&self, id: &str) -> String {
        let sql = format!("select version from records where record_id = '{id}'");
        self.replica.query("postgres", &sql).trim().to_owned()
    }
}

fn check_unacknowledged(outcome: &Result<PushOutcome, StoreError>) {
    use StoreError::{Busy, OutcomeUnknown, Unavailable};
    let is_unknown = matches!(outcome, Err(OutcomeUnknown(_) | Unavailable(_) | Busy(_)));
    assert!(is_unknown, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_wait_for_the_replica_is_cancelled_is_not_acknowledged() {
    let pair = Pair::start().await;
    let (store, vault) = (&pair.store, &pair.vault);
    pair.replica.pause();
    let write = [("a", Some(1), "v2")];
    let pushed = pair.while_cancelling(push(store, vault, &write)).await;
    check_unacknowledged(&pushed);
    // It is committed at the primary all the same, and its receipt is there.
    pair.wait_until("select max(version) from records", "2").await;
    let again = pair.while_cancelling(push(store, vault, &write)).await;
    check_unacknowledged(&again);
    pair.replica.resume();
    let found = retry_until_ok(RECOVERY_WITHIN, || push(store, vault, &write)).await;
    let PushOutcome::Applied { results: written, .. } = found else { panic!("{found:?}") };
    assert_eq!(written[0].version.get(), 2);
    assert_eq!(pair.version_at_replica("a"), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_until_the_replica_has_the_first_attempt() {
    let pair = Pair::start().await;
    let (store, vault) = (&pair.store, &pair.vault);
    pair.replica.pause();
    let write = [("a", Some(1), "v2"), ("new", None, "v1")];
    check_unacknowledged(&pair.while_cancelling(push(store, vault, &write)).await);
    // The replica stays silent, and this wait is not cancelled.
    check_unacknowledged(&push(store, vault, &write).await);
    pair.replica.resume();
    let found = retry_until_ok(RECOVERY_WITHIN, || push(store, vault, &write)).await;
    assert!(matches!(found, PushOutcome::Applied { .. }), "{found:?}");
    assert_eq!(
        (pair.version_at_replica("a"), pair.version_at_replica("new")),
        ("2".to_owned(), "1".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_not_returned_before_the_replica_has_the_conflicting_record() {
    let pair = Pair::start().await;
    let (store, vault) = (&pair.store, &pair.vault);
    pair.replica.pause();
    let theirs = [("a", Some(1), "theirs")];
    check_unacknowledged(&pair.while_cancelling(push(store, vault, &theirs)).await);
    pair.wait_until("select max(version) from records", "2").await;
    let mine = [("a", Some(1), "mine")];
    check_unacknowledged(&pair.while_cancelling(push(store, vault, &mine)).await);
    pair.replica.resume();
    let refused = retry_until_ok(RECOVERY_WITHIN, || push(store, vault, &mine)).await;
    let PushOutcome::Refused(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.conflicts[0].current_version.get(), 2);
    assert_eq!(pair.version_at_replica("a"), "2");
}

/// A warning of another statement of the connection is none of the commit's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_before_the_commit_do_not_matter() {
    let url = crate::dsl::new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    let options = PostgresOptions { connections_max: 1, ..options_for(vec![url]) };
    let (store, vault) = (open(options).await, user());
    push_applied(&store, &vault, &[("a", None, "v1")]).await;
    let warn = "create function warn() returns trigger language plpgsql as
           $$ begin raise warning 'of the lock'; return new; end $$;
         create trigger warn before insert on vaults for each row execute function warn()";
    query(&vaultsync_test_servers::shared_postgres().url(&name), warn);
    for base in 1..4 {
        assert_eq!(push_applied(&store, &vault, &[("a", Some(base), "v")]).await, [base + 1]);
    }
    assert_eq!(try_page(&store, &vault, None, 10).await.expect("a page").records.len(), 1);
}

/// A replica that is gone stops pushes, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_for_an_absent_replica_leave_sessions_for_pulls() {
    const CONNECTIONS_MAX: usize = 3;
    const STAGGER: Duration = Duration::from_millis(150);
    let server = PostgresServer::start();
    let url: DatabaseUrl = server.url("postgres").parse().expect("an address");
    let options = PostgresOptions {
        connections_max: CONNECTIONS_MAX,
        timeout: Duration::from_secs(1),
        ..options_for(vec![url])
    };
    let store = open(options).await;
    let vaults: Vec<_> = (0..12).map(|_| user()).collect();
    for vault in &vaults {
        push_applied(&store, vault, &[("a", None, "v1")]).await;
    }
    server.query("postgres", "alter system set synchronous_standby_names = 'absent'");
    server.query("postgres", "select pg_reload_conf()");
    let store = std::sync::Arc::new(store);
    let started = tokio::time::Instant::now();
    let pushes: Vec<_> = (0_u32..)
        .zip(&vaults)
        .map(|(number, vault)| {
            let (store, vault) = (store.clone(), vault.clone());
            tokio::spawn(async move {
                // In turn, so that some wait for a connection when the first ones are given up.
                tokio::time::sleep_until(started + number * STAGGER).await;
                for round in 0..4 {
                    // Too many records for a batch, so each push has a commit of its own.
                    let ids: Vec<_> = (0..17).map(|number| format!("{round}-{number}")).collect();
                    let writes: Vec<_> = ids.iter().map(|id| (id.as_str(), None, "v1")).collect();
                    // Some commit before the settings are reloaded.
                    drop(push(&store, &vault, &writes).await);
                }
            })
        })
        .collect();
    let sessions = "select count(*) from pg_stat_activity where application_name = 'vaultsync'";
    let mut most = 0;
    while !pushes.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(server.query("postgres", sessions).trim().parse().expect("a number"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(most <= 2 * CONNECTIONS_MAX + 1, "{most} sessions");
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    assert_ne!(server.query("postgres", waiting).trim(), "0", "commits wait");
    retry_until_ok(RECOVERY_WITHIN, || try_page(&store, &vaults[0], None, 10)).await;
    server.query("postgres", "alter system set synchronous_standby_names = ''");
    server.query("postgres", "select pg_reload_conf()");
    for vault in &vaults {
        retry_until_ok(RECOVERY_WITHIN, || push(&store, vault, &[("b", None, "v1")])).await;
    }
}
