//! Several nodes of the built program on one PostgreSQL database, under load, with one of them killed
//! on the way; and the judgement of what came of it.
//!
//! Not here: expectations about time.

mod follower;
mod judge;
mod node;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use vaultsync_private_servers::{NatsServer, PostgresServer};

pub use self::judge::Counts;
use self::{follower::Follower, node::Nodes, writer::Writer};

/// How large a cluster, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// Processes that serve.
    pub nodes: usize,
    /// Users, each with a follower of their own. Writers are spread over them.
    pub users: usize,
    /// Clients that write, several to one vault.
    pub writers: usize,
    /// How long they write.
    pub time: Duration,
    /// Whether nodes tell each other of changes by NATS, and not by the database's NOTIFY.
    pub nats: bool,
}

/// Runs the plan, and judges it.
///
/// # Errors
///
/// Every promise that was broken, in words.
pub async fn run(plan: &Plan) -> Result<Counts, Vec<String>> {
    let postgres = PostgresServer::start();
    postgres.create_database("vaultsync", None);
    let nats = plan.nats.then(NatsServer::start);
    let folder = TempDir::new().expect("a temporary folder");
    let mut flags = vec!["--database".to_owned(), postgres.url("vaultsync")];
    if let Some(nats) = &nats {
        flags.extend(["--nats-url".to_owned(), nats.url()]);
    }
    let mut nodes = Nodes::start(&plan.program, folder.path(), &flags, plan.nodes).await;
    let addresses = nodes.addresses();
    let users: Vec<_> = (0..plan.users).map(|user| format!("user {user}")).collect();
    let tokens: Vec<_> =
        users.iter().map(|user| token(&plan.program, folder.path(), user)).collect();

    let (stop, written) = (CancellationToken::new(), CancellationToken::new());
    let writers: Vec<_> = (0..plan.writers)
        .map(|number| {
            let user = number % plan.users;
            let writer = Writer::new(number, user, addresses.clone(), tokens[user].clone());
            tokio::spawn(writer.run(stop.clone()))
        })
        .collect();
    let followers: Vec<_> = (0..plan.users)
        .map(|user| {
            let follower = Follower::new(user, addresses.clone(), tokens[user].clone());
            tokio::spawn(follower.run(written.clone()))
        })
        .collect();

    tokio::time::sleep(plan.time / 3).await;
    nodes.kill(plan.nodes - 1);
    tokio::time::sleep(plan.time / 3).await;
    nodes.start_again(plan.nodes - 1).await;
    tokio::time::sleep(plan.time / 3).await;

    stop.cancel();
    let writers = ended(writers).await;
    written.cancel();
    let followers = ended(followers).await;
    judge::judge(&postgres.url("vaultsync"), &users, &writers, &followers)
}

async fn ended<T>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.expect("a client ends without a panic"));
    }
    results
}

/// A token that every node accepts: they share the folder with the local issuer's key.
fn token(program: &Path, folder: &Path, user: &str) -> String {
    let made = std::process::Command::new(program)
        .args(["token", "--ttl", "1d", "--user", user, "--data-dir"])
        .arg(folder)
        .output()
        .expect("the program runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("a token is text").trim().to_owned()
}

/// The nodes' addresses, as clients know them; a node that starts again keeps its own.
type Addresses = Arc<[String]>;
