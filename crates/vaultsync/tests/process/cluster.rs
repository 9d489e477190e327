//! Several nodes of the built program on one database.

use std::{path::PathBuf, time::Duration};

use vaultsync_testkit::cluster::{Plan, run};

fn plan(nats: bool) -> Plan {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_vaultsync"));
    Plan { program, nodes: 3, users: 3, writers: 6, time: Duration::from_secs(6), nats }
}

async fn check(plan: &Plan) {
    let counts = run(plan).await.unwrap_or_else(|broken| panic!("{}", broken.join("\n")));
    assert!(counts.acknowledged > 0 && counts.records > 0 && counts.woken > 0, "{counts:?}");
    assert!(counts.conflicts > 0, "writers got in each other's way: {counts:?}");
    assert!(counts.unserved > 0, "somebody was not served by the killed node: {counts:?}");
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
