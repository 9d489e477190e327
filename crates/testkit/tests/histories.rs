//! Writers and followers of a few vaults on each database, at times that jump, and the checker.
//!
//! Not here: nodes and their ends, see the cluster; mistakes that must be found, see the naive store.

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
    history::{History, Recorder, check},
    workload::{Device, Follower, Load, StoreService, Writer, state},
};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    a_history_of_writers_and_followers_breaks_no_promise,
);

const USERS: usize = 3;
const WRITERS: usize = 4;
const TURNS: usize = 60;

/// In 2024.
const NOW: i64 = 1_705_314_600_000;

/// A clock that goes on with each look at it, and now and then a second back or a minute ahead.
fn bad_clock(seed: u64) -> impl FnMut() -> Timestamp {
    static LOOKS: AtomicI64 = AtomicI64::new(NOW);
    let mut random = StdRng::seed_from_u64(seed);
    move || {
        let now = LOOKS.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_millis(match random.random_range(0..10) {
            0..2 => now - random.random_range(0..1000),
            2 => now + random.random_range(0..60_000),
            _ => now,
        })
    }
}

async fn a_history_of_writers_and_followers_breaks_no_promise(backend: Backend) {
    let database = TestDatabase::new(backend);
    let new_epoch = || Epoch::new(Uuid::new_v4());
    let options = StoreOptions { page_bytes_max: 8 * 1024 * 1024, new_epoch };
    let store = Arc::new(database.open(options).await);
    let recorder = Recorder::default();
    let names: Vec<_> = (0..USERS).map(|user| format!("user {user}")).collect();
    let vault = |name: &str| Vault::of("https://issuer.test", name);
    let device = |user: &str, name: String| Device {
        recorder: recorder.clone(),
        user: user.into(),
        name: name.into(),
    };
    let load = Load { records: 20, ..Load::default() };
    let written = CancellationToken::new();

    let (mut writers, mut followers) = (JoinSet::new(), JoinSet::new());
    for user in &names {
        for number in 0..WRITERS as u64 {
            let service = StoreService::new(Arc::clone(&store), vault(user), bad_clock(number));
            let device = device(user, format!("writer {number}"));
            let mut writer = Writer::new(device, service, load, number);
            writers.spawn(async move {
                for _ in 0..TURNS {
                    writer.turn().await;
                }
                writer.faults
            });
        }
        let service = StoreService::new(Arc::clone(&store), vault(user), bad_clock(0));
        let follower = Follower::new(device(user, "follower".to_owned()), service);
        let written = written.clone();
        followers.spawn(follower.run(move || written.is_cancelled()));
    }
    assert_eq!(writers.join_all().await.concat(), Vec::<String>::new());
    written.cancel();
    for follower in followers.join_all().await {
        assert_eq!(follower.faults, Vec::<String>::new());
    }
    for user in &names {
        let all = state(&store, &vault(user)).await.expect("the store answers");
        recorder.state(&user.as_str().into(), all);
    }
    store.close().await;

    let history = History::new(&recorder.finish().expect("no file is written")).expect("a history");
    let counts = check(&history).unwrap_or_else(|violations| panic!("{violations:#?}"));
    assert!(counts.pushes >= USERS * WRITERS * TURNS, "{counts:?}");
    assert!(counts.acknowledged > 0 && counts.conflicts > 0 && counts.replays > 0, "{counts:?}");
    assert_eq!((counts.followers, counts.vaults), (USERS, USERS), "{counts:?}");
    println!("{backend:?}: {counts:?}");
}
