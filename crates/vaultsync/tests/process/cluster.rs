//! Several nodes of the built program on one database.

use std::{path::PathBuf, time::Duration};

use vaultsync_testkit::cluster::{Plan, run};

fn plan(nats: bool) -> Plan {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_vaultsync"));
    Plan { program, nodes: 3, users: 3, writers: 6, time: Duration::from_secs(6), nats }
}

async fn check(plan: &Plan) {
    let counts = run(plan).await.unwrap_or_else(|broken| panic!("{}", broken.join("\n")));
    let seen = counts.history;
    assert!(seen.acknowledged > 0 && seen.records > 0 && counts.woken > 0, "{counts:?}");
    assert!(seen.conflicts > 0, "writers got in each other's way: {counts:?}");
    assert!(seen.replays > 0, "pushes were sent again after their 200: {counts:?}");
    assert!(
        seen.refused + seen.unknown > 0,
        "somebody was not served by the killed node: {counts:?}"
    );
    assert_eq!(seen.followers, plan.users, "all were followed to the end: {counts:?}");
    println!("{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_one_of_them_killed_lose_nothing_and_followers_end_alike() {
    check(&plan(false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_where_nodes_tell_each_other_by_nats() {
    check(&plan(true)).await;
}
