//! A table that another session has locked: statements end in time, also at the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use vaultsync_store::{PostgresOptions, Store, StoreError, Vault};
use vaultsync_test_servers::{PgBouncer, PostgresServer};

use crate::dsl::{
    RECOVERY_WITHIN, RESPONSE_WITHIN, TIMEOUT, open, options_for, push_applied, retry_until_ok,
    try_page, user,
};

const CONNECTIONS_MAX: usize = 4;
const CLIENTS: usize = 20;

/// The sessions of stores, counted without those that are just ending.
const SESSIONS: &str = "select count(*) from pg_stat_activity
    where application_name = 'vaultsync' and query not like '%deployment%'";

/// Clients that read until they are stopped: pages, and heads.
struct Readers {
    stop: Arc<AtomicBool>,
    responses: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Duration>>,
}

impl Readers {
    fn start(store: &Arc<Store>, vault: &Vault) -> Self {
        let (stop, responses) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let read = async |store: &Store, vault: &Vault, number: usize| match number % 2 {
            0 => try_page(store, vault, None, 10).await.map(drop),
            _ => store.head(vault).await.map(drop),
        };
        let tasks = (0..CLIENTS).map(|number| {
            let (store, vault) = (Arc::clone(store), vault.clone());
            let (stop, responses) = (Arc::clone(&stop), Arc::clone(&responses));
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    match read(&store, &vault, number).await {
                        Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(StoreError::Unavailable(_) | StoreError::Busy(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                    slowest = slowest.max(begun.elapsed());
                    responses.fetch_add(1, Ordering::SeqCst);
                }
                slowest
            })
        });
        let tasks = tasks.collect();
        Self { stop, responses, tasks }
    }

    /// Stops them. Returns the longest that one waited for a response.
    async fn finish(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        let mut slowest = Duration::ZERO;
        for task in self.tasks {
            slowest = slowest.max(task.await.expect("no reader fails"));
        }
        slowest
    }
}

/// Locks the tables for a while under readers. Returns the most sessions that there were at a time.
async fn most_sessions_under_lock(server: &PostgresServer, store: Arc<Store>) -> usize {
    let vault = user();
    push_applied(&store, &vault, &[("a", None, "v1")]).await;
    let readers = Readers::start(&store, &vault);
    let url = server.url("postgres");
    let locking = std::thread::spawn(move || {
        let lock = "begin; lock table vaults, records; select pg_sleep(7); commit";
        vaultsync_test_servers::query(&url, lock)
    });
    let mut most = 0;
    while !locking.is_finished() {
        let sessions = server.query("postgres", SESSIONS);
        most = most.max(sessions.trim().parse().expect("a number"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    locking.join().expect("the tables were locked");
    retry_until_ok(RECOVERY_WITHIN, || try_page(&store, &vault, None, 10)).await;
    let responses = readers.responses.load(Ordering::SeqCst);
    let slowest = readers.finish().await;
    assert!(responses >= CLIENTS, "{responses} responses");
    assert!(slowest < RESPONSE_WITHIN, "a response took {slowest:?}");
    push_applied(&store, &vault, &[("b", None, "v1")]).await;
    println!("at most {most} sessions, {responses} responses, the slowest after {slowest:?}");
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_locked_table_leave_no_statements_behind() {
    let server = PostgresServer::start();
    let url = server.url("postgres").parse().expect("an address");
    let connections_max = CONNECTIONS_MAX;
    let options = PostgresOptions { connections_max, timeout: TIMEOUT, ..options_for(vec![url]) };
    let most = most_sessions_under_lock(&server, Arc::new(open(options).await)).await;
    // One that has just been closed may still be listed.
    assert!(most <= CONNECTIONS_MAX + 2, "{most} sessions");
}

/// A pooler keeps no session's settings. It would open another session in place of each that its client
/// left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_locked_table_behind_a_pooler_leave_no_statements_behind() {
    let server = PostgresServer::start();
    let bouncer = PgBouncer::start(&server);
    let url = bouncer.url("postgres").parse().expect("an address");
    let options = PostgresOptions {
        connections_max: CONNECTIONS_MAX,
        timeout: TIMEOUT,
        prepare: false,
        ..options_for(vec![url])
    };
    let most = most_sessions_under_lock(&server, Arc::new(open(options).await)).await;
    assert!(most <= 2 * CONNECTIONS_MAX, "{most} sessions");
}

/// The settings of a session end what is left of a process that was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_have_timeouts_of_their_own() {
    let server = PostgresServer::start();
    let url = server.url("postgres").parse().expect("an address");
    let options =
        PostgresOptions { connections_max: 1, timeout: TIMEOUT, ..options_for(vec![url]) };
    let (store, vault) = (open(options).await, user());
    push_applied(&store, &vault, &[("a", None, "v1")]).await;
    // A page that shows the settings of the session that reads it.
    let create = "create function timeouts() returns bytea stable language sql as $$
           select convert_to(concat_ws(' ', current_setting('lock_timeout'),
             current_setting('statement_timeout'),
             current_setting('idle_in_transaction_session_timeout')), 'UTF8') $$;
         alter table records rename to stored;
         create view records as select vault_id, record_id, version, deleted, updated_at,
           timeouts() as ciphertext from stored";
    server.query("postgres", create);
    let page = retry_until_ok(RECOVERY_WITHIN, || try_page(&store, &vault, None, 1)).await;
    let timeouts = String::from_utf8(page.records[0].ciphertext.as_bytes().to_vec()).expect("text");
    assert_eq!(timeouts, "1s 4s 4s");
}
