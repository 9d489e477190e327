//! Several nodes of the built program on one PostgreSQL database, under load, with one of them killed
//! on the way; and what the checker says of the history.
//!
//! Not here: expectations about time; the clients, see [`workload`](crate::workload).

mod node;
mod state;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use vaultsync_test_servers::{NatsServer, PostgresServer};

use self::node::Nodes;
use crate::{
    history::{self, History, Recorder},
    workload::{Device, Follower, HttpService, Load, Writer},
};

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

/// What there was of everything, in a run that broke no promise.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// What the checker counted.
    pub history: history::Counts,
    /// Pulls with a wait that brought something.
    pub woken: usize,
}

/// Runs the plan, and has its history checked.
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

    let recorder = Recorder::default();
    let device = |user: usize, name: String| Device {
        recorder: recorder.clone(),
        user: users[user].as_str().into(),
        name: name.into(),
    };
    let service =
        |user: usize, first| HttpService::new(addresses.clone(), tokens[user].clone(), first);

    let (stop, written) = (CancellationToken::new(), CancellationToken::new());
    let writers: Vec<_> = (0..plan.writers)
        .map(|number| {
            let user = number % plan.users;
            let device = device(user, format!("writer {number}"));
            let service = service(user, number);
            let writer = Writer::new(device, service, Load::default(), number as u64);
            let stop = stop.clone();
            tokio::spawn(writer.run(move || stop.is_cancelled()))
        })
        .collect();
    let followers: Vec<_> = (0..plan.users)
        .map(|user| {
            let device = device(user, "follower".to_owned());
            let follower = Follower::new(device, service(user, user));
            let written = written.clone();
            tokio::spawn(follower.run(move || written.is_cancelled()))
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

    for user in &users {
        recorder.state(&user.as_str().into(), state::stored(&postgres.url("vaultsync"), user));
    }
    let faults = writers.iter().map(|writer| &writer.faults);
    let faults = faults.chain(followers.iter().map(|follower| &follower.faults));
    let broken: Vec<_> = faults.flatten().cloned().collect();
    let woken = followers.iter().map(|follower| follower.woken).sum();
    judge(&recorder, broken).map(|history| Counts { history, woken })
}

/// What the checker says, besides what clients say should never be answered.
fn judge(recorder: &Recorder, mut broken: Vec<String>) -> Result<history::Counts, Vec<String>> {
    let events = recorder.finish().expect("no file is written");
    let history = match History::new(&events) {
        Ok(history) => history,
        Err(malformed) => {
            broken.push(malformed.to_string());
            return Err(broken);
        }
    };
    match history::check(&history) {
        Ok(counts) if broken.is_empty() => Ok(counts),
        Ok(_) => Err(broken),
        Err(violations) => {
            broken.extend(violations.iter().map(ToString::to_string));
            Err(broken)
        }
    }
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
