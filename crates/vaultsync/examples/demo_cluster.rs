//! Demonstration of several nodes on one database. `cargo xtask demo-cluster` builds and runs it.
//!
//! `demo_cluster [SECONDS]` prints counts, and fails if a guarantee was violated.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use vaultsync_testkit::cluster::{Plan, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |seconds| seconds.parse())?;
    let program = program().context("`vaultsync` has not been built")?;
    let time = Duration::from_secs(seconds);
    let plan = Plan { program, nodes: 3, users: 3, writers: 10, time, nats: true };
    println!(
        "PostgreSQL, NATS, {} nodes, {} writers of {} vaults and a follower of each, for {seconds} s;\n\
         one node is killed after a third of that time and restarted after two thirds\n",
        plan.nodes, plan.writers, plan.users,
    );
    match run(&plan).await {
        Ok(counts) => {
            let seen = counts.history;
            println!("writes acknowledged          {:>8}", seen.acknowledged);
            println!("  lost                       {:>8}", 0);
            println!("  acknowledged twice         {:>8}", 0);
            println!("conflicting pushes           {:>8}", seen.conflicts);
            println!("pushes retried after a 200   {:>8}", seen.replays);
            println!("  with another response      {:>8}", 0);
            println!("requests not served          {:>8}", seen.refused + seen.unknown);
            println!("pages pulled                 {:>8}", seen.pages);
            println!("  after a wait               {:>8}", counts.woken);
            println!("records at the end           {:>8}", seen.records);
            println!("\nAll {} followers ended with the state of the database.", seen.followers);
            Ok(())
        }
        Err(broken) => bail!("guarantees were violated:\n{}", broken.join("\n")),
    }
}

/// Path of the binary, which cargo puts one folder above its examples.
fn program() -> Option<PathBuf> {
    let example = std::env::current_exe().ok()?;
    let program = example.parent()?.parent()?.join("vaultsync");
    program.is_file().then_some(program)
}
