//! Checks histories of writers and followers of a few vaults on each database, with a clock that jumps.
//!
//! Not here: servers that are killed, see the cluster; faults that must be found, see the naive store.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Timestamp};
use vaultsync_store::{StoreOptions, Vault};
use vaultsync_testkit::{
    Backend, TestDatabase, backends,
    history::Recorder,
    workload::{Client, Follower, StoreService, Writer, WriterConfig, state},
};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    writers_and_followers_see_no_broken_promise,
);

const USERS: usize = 3;
const WRITERS: usize = 4;
const PUSHES: usize = 60;

/// A time in 2024.
const NOW: i64 = 1_705_314_600_000;

/// A clock that advances with each reading, and sometimes is up to a second slow or a minute fast.
fn bad_clock(seed: u64) -> impl FnMut() -> Timestamp {
    static READINGS: AtomicI64 = AtomicI64::new(NOW);
    let mut random = StdRng::seed_from_u64(seed);
    move || {
        let now = READINGS.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_millis(match random.random_range(0..10) {
            0..2 => now - random.random_range(0..1000),
            2 => now + random.random_range(0..60_000),
            _ => now,
        })
    }
}

async fn writers_and_followers_see_no_broken_promise(backend: Backend) {
    let database = TestDatabase::new(backend);
    let new_epoch = || Epoch::new(Uuid::new_v4());
    let options = StoreOptions { page_bytes_max: 8 * 1024 * 1024, ..StoreOptions::new(new_epoch) };
    let store = Arc::new(database.open(options).await);
    let recorder = Recorder::default();
    let names: Vec<_> = (0..USERS).map(|user| format!("user {user}")).collect();
    let vault = |name: &str| Vault::of("https://issuer.test", name);
    let client = |user: &str, device: &str, clock: u64| {
        let service = StoreService::new(Arc::clone(&store), vault(user), bad_clock(clock));
        Client::new(&recorder, &user.into(), device, service)
    };
    let config = WriterConfig { records: 20, ..WriterConfig::default() };
    let written = CancellationToken::new();

    let (mut writers, mut followers) = (JoinSet::new(), JoinSet::new());
    for user in &names {
        for number in 0..WRITERS as u64 {
            let client = client(user, &format!("writer {number}"), number);
            let mut writer = Writer::new(client, config, number);
            writers.spawn(async move {
                for _ in 0..PUSHES {
                    writer.write_once().await;
                }
            });
        }
        followers.spawn(Follower::new(client(user, "follower", 0)).run(written.clone()));
    }
    writers.join_all().await;
    written.cancel();
    followers.join_all().await;
    for user in &names {
        let all = state(&store, &vault(user)).await.expect("the store answers");
        recorder.state(&user.as_str().into(), all);
    }
    store.close().await;

    let counts = recorder.verify().unwrap_or_else(|broken| panic!("{broken:#?}"));
    assert!(counts.pushes >= USERS * WRITERS * PUSHES, "{counts:?}");
    assert!(counts.acknowledged > 0 && counts.conflicts > 0 && counts.replays > 0, "{counts:?}");
    assert_eq!((counts.followers, counts.vaults), (USERS, USERS), "{counts:?}");
    println!("{backend:?}: {counts:?}");
}
