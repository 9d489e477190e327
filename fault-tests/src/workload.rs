//! The users of a scenario, and the clients that write and follow while faults are injected.
//!
//! Not here: the clients themselves, which are in `vaultsync-testkit`; the check of what they saw.

use std::{ffi::OsString, path::Path, sync::Arc, time::Duration};

use vaultsync_protocol::{Ciphertext, Operation, RecordId, Version};
use vaultsync_testkit::{
    history::Recorder,
    workload::{
        Addresses, Client, Clients, Follower, HttpService, Tally, Writer, WriterConfig, local_token,
    },
};

/// What the writers write unless a scenario says otherwise.
pub const WRITES: WriterConfig = WriterConfig {
    records: 60,
    batch_max: 6,
    ciphertext_bytes_max: 1500,
    replay_one_in: 0,
    guard_one_in: 0,
    pause: Duration::ZERO,
};

/// How many clients run, and what they write.
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan {
    /// Number of users, each with a vault.
    pub users: usize,
    /// Writers of each vault.
    pub writers: usize,
    /// Followers of each vault.
    pub followers: usize,
    /// What the writers write.
    pub writes: WriterConfig,
}

impl Default for LoadPlan {
    fn default() -> Self {
        Self { users: 2, writers: 3, followers: 1, writes: WRITES }
    }
}

/// The users of a scenario, their tokens, and what their clients record.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The history of all clients.
    pub recorder: Recorder,
    /// The users.
    pub users: Vec<Arc<str>>,
    /// What the clients count.
    pub tally: Arc<Tally>,
    tokens: Vec<String>,
    /// How often the tokens were renewed; part of the clients' names.
    generation: usize,
}

impl Workload {
    /// A workload for servers with this data directory.
    pub fn new(program: &Path, data_dir: &Path, users: usize) -> anyhow::Result<Self> {
        let mut workload = Self {
            recorder: Recorder::default(),
            users: (0..users).map(|user| format!("user-{user}").into()).collect(),
            tally: Arc::default(),
            tokens: Vec::new(),
            generation: 0,
        };
        workload.renew_tokens(program, data_dir, &[])?;
        Ok(workload)
    }

    /// Mints new tokens, with these environment variables. Clients started from now on have new names.
    pub fn renew_tokens(
        &mut self,
        program: &Path,
        data_dir: &Path,
        variables: &[(&'static str, OsString)],
    ) -> anyhow::Result<()> {
        let tokens = self.users.iter().map(|user| local_token(program, data_dir, user, variables));
        self.tokens = tokens.collect::<anyhow::Result<_>>()?;
        self.generation += 1;
        Ok(())
    }

    /// A workload of the same users with an empty history and empty counts.
    #[must_use]
    pub fn with_empty_history(&self) -> Self {
        Self { recorder: Recorder::default(), tally: Arc::default(), ..self.clone() }
    }

    /// The same workload, whose clients are counted apart.
    #[must_use]
    pub fn with_own_tally(&self) -> Self {
        Self { tally: Arc::default(), ..self.clone() }
    }

    /// A user's token.
    pub fn token(&self, user: usize) -> &str {
        &self.tokens[user]
    }

    /// A client of a user. Its first request goes to the address at index `first`.
    pub fn client(
        &self,
        user: usize,
        device: &str,
        addresses: &Addresses,
        first: usize,
    ) -> Client<HttpService> {
        let (token, tally) = (self.tokens[user].clone(), Arc::clone(&self.tally));
        let service = HttpService::new(Arc::clone(addresses), token, first, tally);
        Client::new(&self.recorder, &*self.users[user], device, service)
    }

    /// Starts all writers and followers of a plan.
    pub fn start(&self, addresses: &Addresses, plan: &LoadPlan) -> Clients {
        let mut clients = Clients::default();
        for user in 0..self.users.len() {
            let client = |kind: &str, number: usize| {
                let device = format!("{kind}-{number}-{}", self.generation);
                self.client(user, &device, addresses, number)
            };
            for number in 0..plan.writers {
                let writer = Writer::new(client("writer", number), plan.writes, number as u64);
                clients.start_writer(writer);
            }
            for number in 0..plan.followers {
                clients.start_follower(Follower::new(client("follower", number)));
            }
        }
        clients
    }
}

/// One operation of a push.
pub fn operation(record_id: &str, base_version: Option<Version>, ciphertext: Vec<u8>) -> Operation {
    Operation {
        record_id: RecordId::new(record_id).expect("a valid record id"),
        base_version,
        ciphertext: Ciphertext::from_bytes(ciphertext),
        deleted: false,
    }
}
