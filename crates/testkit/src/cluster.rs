//! A cluster under load: several nodes of the built program on one PostgreSQL database, one of which is
//! killed and started again, and a check of the history.
//!
//! Not here: expectations about time; the clients, see [`workload`](crate::workload).

use std::{path::PathBuf, time::Duration};

use tempfile::TempDir;
use vaultsync_test_servers::{NatsServer, PostgresServer};

use crate::{
    history::{self, Recorder, VaultLabel},
    process::{ServerConfig, ServerProcess, addresses},
    stored::stored_in_postgres,
    workload::{Client, Clients, Eraser, Follower, HttpService, Writer, WriterConfig, local_token},
};

const NAME: &str = "notes";

/// What the writers write.
const WRITES: WriterConfig = WriterConfig {
    records: 60,
    batch_max: 5,
    ciphertext_bytes_max: 0,
    replay_one_in: 20,
    guard_one_in: 4,
    pause: Duration::ZERO,
};

/// The size of the cluster, and the length of the run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// Number of server processes.
    pub nodes: usize,
    /// Number of users, each with one follower. The writers are spread over the users. The first user also has a
    /// named vault with clients of its own, which is erased again and again.
    pub users: usize,
    /// Number of writers, several to a vault.
    pub writers: usize,
    /// How long they write.
    pub time: Duration,
    /// Whether nodes notify each other through NATS instead of the database's NOTIFY.
    pub nats: bool,
}

/// Counts of a run that broke no promise.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Counts of the history.
    pub history: history::Counts,
    /// Waiting pulls that returned a change.
    pub woken: usize,
}

/// Runs the plan, and checks its history.
///
/// # Errors
///
/// Every promise that was broken, in words.
pub async fn run(plan: &Plan) -> Result<Counts, Vec<String>> {
    let postgres = PostgresServer::start();
    postgres.create_database("vaultsync", None);
    let database = postgres.url("vaultsync");
    let nats = plan.nats.then(NatsServer::start);
    let folder = TempDir::new().expect("a temporary folder");
    let mut config = ServerConfig::new(&plan.program, folder.path(), database.clone());
    if let Some(nats) = &nats {
        config.flags.extend(["--nats-url".to_owned(), nats.url()]);
    }
    let (woken, recorder) = run_clients(plan, &config)
        .await
        .map_err(|error| vec![format!("the cluster cannot be run: {error:#}")])?;
    let vaults = (0..plan.users).map(|user| VaultLabel::from(user_name(user).as_str()));
    for vault in vaults.chain([named_vault()]) {
        recorder.state(&vault, stored_in_postgres(&database, &vault));
    }
    recorder.verify().map(|history| Counts { history, woken })
}

/// Runs nodes and clients, kills the last node after a third of the time, and starts it again after two
/// thirds.
async fn run_clients(plan: &Plan, config: &ServerConfig) -> anyhow::Result<(usize, Recorder)> {
    let mut nodes = start_nodes(plan.nodes, config).await?;
    let addresses = addresses(&nodes);
    let users = (0..plan.users).map(user_name);
    let tokens = users.map(|user| local_token(&plan.program, &config.data_dir, &user, &[]));
    let tokens = tokens.collect::<anyhow::Result<Vec<_>>>()?;
    let recorder = Recorder::default();
    let service = |user: usize, first: usize| {
        let (addresses, token) = (addresses.clone(), tokens[user].clone());
        HttpService::new(addresses, token, first, std::sync::Arc::default())
    };
    let client = |user: usize, device: &str, first: usize| {
        Client::new(&recorder, user_name(user).as_str(), device, service(user, first))
    };
    let mut clients = Clients::default();
    for number in 0..plan.writers {
        let client = client(number % plan.users, &format!("writer {number}"), number);
        clients.start_writer(Writer::new(client, WRITES, number as u64));
    }
    let in_named_vault = |device: &str, first: usize| {
        Client::new(&recorder, named_vault(), device, service(0, first).in_vault(NAME))
    };
    for number in 0..2 {
        let client = in_named_vault(&format!("writer {number}"), number).naming_epoch_in_pushes();
        clients.start_writer(Writer::new(client, WRITES, number as u64));
    }
    clients.start_follower(Follower::new(in_named_vault("follower", 0)));
    clients.start_eraser(Eraser::new(in_named_vault("eraser", 1)));
    for user in 0..plan.users {
        clients.start_follower(Follower::new(client(user, "follower", user)));
    }

    tokio::time::sleep(plan.time / 3).await;
    let last = plan.nodes - 1;
    nodes[last].kill()?;
    tokio::time::sleep(plan.time / 3).await;
    nodes[last].start_again().await?;
    tokio::time::sleep(plan.time / 3).await;

    Ok((clients.finish().await?, recorder))
}

/// Starts all nodes at the same time, and waits until all of them serve.
async fn start_nodes(count: usize, config: &ServerConfig) -> anyhow::Result<Vec<ServerProcess>> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        let mut node = ServerProcess::prepare(config.clone())?;
        node.spawn()?;
        nodes.push(node);
    }
    for node in &mut nodes {
        node.wait_until_ready().await?;
    }
    Ok(nodes)
}

/// The first user's named vault.
fn named_vault() -> VaultLabel {
    VaultLabel::named(&user_name(0), NAME)
}

fn user_name(number: usize) -> String {
    format!("user {number}")
}
