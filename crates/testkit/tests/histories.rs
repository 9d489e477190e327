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
use vaultsync_protocol::{Epoch, Timestamp, VaultName};
use vaultsync_store::{StoreOptions, Vault};
use vaultsync_testkit::{
    Backend, TestDatabase, backends,
    history::{Recorder, VaultLabel},
    workload::{Client, Eraser, Follower, StoreService, Writer, WriterConfig, state},
};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    writers_and_followers_see_no_broken_promise,
);

const USERS: usize = 3;
const WRITERS: usize = 4;
const PUSHES: usize = 60;

/// The named vault, and how often it is erased.
const NAME: &str = "notes";
const ERASURES: usize = 3;

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

fn vault_of(label: &VaultLabel) -> Vault {
    let vault = Vault::of("https://issuer.test", &*label.user);
    match &label.name {
        None => vault,
        Some(name) => vault.named(VaultName::new(name).expect("a name")),
    }
}

async fn writers_and_followers_see_no_broken_promise(backend: Backend) {
    let database = TestDatabase::new(backend);
    let new_epoch = || Epoch::new(Uuid::new_v4());
    let options = StoreOptions { page_bytes_max: 8 * 1024 * 1024, ..StoreOptions::new(new_epoch) };
    let store = Arc::new(database.open(options).await);
    let recorder = Recorder::default();
    // Each user has a default vault, and the first one a named vault that is erased several times.
    let mut vaults: Vec<_> =
        (0..USERS).map(|user| VaultLabel::from(format!("user {user}").as_str())).collect();
    vaults.push(VaultLabel::named("user 0", NAME));
    let client = |vault: &VaultLabel, device: &str, clock: u64| {
        let service = StoreService::new(Arc::clone(&store), vault_of(vault), bad_clock(clock));
        let client = Client::new(&recorder, vault.clone(), device, service);
        if vault.name.is_some() { client.naming_epoch_in_pushes() } else { client }
    };
    let config = WriterConfig { records: 20, guard_one_in: 4, ..WriterConfig::default() };
    let written = CancellationToken::new();

    let (mut writers, mut followers) = (JoinSet::new(), JoinSet::new());
    for vault in &vaults {
        for number in 0..WRITERS as u64 {
            let client = client(vault, &format!("writer {number}"), number);
            let mut writer = Writer::new(client, config, number);
            writers.spawn(async move {
                for _ in 0..PUSHES {
                    writer.write_once().await;
                }
            });
        }
        followers.spawn(Follower::new(client(vault, "follower", 0)).run(written.clone()));
        if vault.name.is_some() {
            let service = StoreService::new(Arc::clone(&store), vault_of(vault), bad_clock(0));
            let client = Client::new(&recorder, vault.clone(), "eraser", service);
            writers.spawn(Eraser::new(client).run(ERASURES, CancellationToken::new()));
        }
    }
    writers.join_all().await;
    written.cancel();
    followers.join_all().await;
    for vault in &vaults {
        let all = state(&store, &vault_of(vault)).await.expect("the store answers");
        recorder.state(vault, all);
    }
    store.close().await;

    let counts = recorder.verify().unwrap_or_else(|broken| panic!("{broken:#?}"));
    assert!(counts.pushes >= USERS * WRITERS * PUSHES, "{counts:?}");
    assert!(counts.acknowledged > 0 && counts.conflicts > 0 && counts.replays > 0, "{counts:?}");
    assert!(counts.guarded > 0 && counts.refused_as_erased > 0, "{counts:?}");
    assert_eq!((counts.erasures, counts.vaults), (ERASURES, USERS + 1), "{counts:?}");
    assert!(counts.followers > USERS, "{counts:?}");
    println!("{backend:?}: {counts:?}");
}
