//! Several nodes on one database.

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
    assert!(seen.conflicts > 0, "no writers conflicted: {counts:?}");
    assert!(seen.replays > 0, "no push was retried after its 200: {counts:?}");
    assert!(
        seen.refused + seen.unknown > 0,
        "every request to the killed node was served: {counts:?}"
    );
    assert!(seen.followers > plan.users, "not every follower reached the end: {counts:?}");
    assert!(seen.guarded > 0, "no push with a guard was applied: {counts:?}");
    assert!(seen.erasures > 0 && seen.refused_as_erased > 0, "nothing was erased: {counts:?}");
    println!("{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_three_nodes_loses_nothing() {
    check(&plan(false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_three_nodes_with_nats_loses_nothing() {
    check(&plan(true)).await;
}
