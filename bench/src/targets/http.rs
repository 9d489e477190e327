//! A target that speaks the protocol: a server, its users and their clients.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Runtime};
use vaultsync_server::{Clock as _, SystemClock, auth::LocalKey};

use super::{Child, Target};
use crate::{
    cpu::Processes,
    load::{Client, Connection, LoadGenerator, User, open_event_streams},
    record_ids::RecordIds,
    tally::Tally,
    workloads::{PULLED_RECORDS, Workload},
};

/// Lifetime of a token: longer than any run.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// The source of tokens.
pub(crate) enum TokenSource {
    /// The key of the server's local issuer.
    LocalKey(Box<LocalKey>),
    /// The server's `/token` endpoint.
    Server,
    /// No source: the server does not check tokens.
    None,
}

/// A function that fills the vault of a user with [`PULLED_RECORDS`] records.
pub(crate) type Fill = Box<dyn Fn(&str) -> anyhow::Result<()>>;

/// A server and its clients.
pub(crate) struct HttpTarget {
    pub(crate) name: &'static str,
    pub(crate) host: Arc<str>,
    pub(crate) child: Child,
    /// The process of the database, if it has its own.
    pub(crate) database: Option<u32>,
    pub(crate) token_source: TokenSource,
    /// How pulled vaults are filled; by pushes if `None`.
    pub(crate) fill: Option<Fill>,
    ids: RecordIds,
    users_made: u64,
    /// The tokens of users whose vaults are filled, by the numbers of their clients.
    filled: BTreeMap<usize, String>,
    generator: LoadGenerator,
}

impl HttpTarget {
    /// A server that listens on `host`, with the process of its database.
    pub(crate) fn new(
        name: &'static str,
        host: &str,
        child: Child,
        database: Option<u32>,
        token_source: TokenSource,
        ids: RecordIds,
    ) -> anyhow::Result<Self> {
        let (filled, generator) = (BTreeMap::new(), LoadGenerator::new()?);
        let host = host.into();
        Ok(Self {
            name,
            host,
            child,
            database,
            token_source,
            fill: None,
            ids,
            users_made: 0,
            filled,
            generator,
        })
    }

    /// Connects new clients, each with its own users, whose vaults are empty.
    pub(crate) fn new_clients(
        &mut self,
        clients: usize,
        users_each: usize,
    ) -> anyhow::Result<Vec<Client>> {
        let mut all = Vec::with_capacity(clients);
        for _ in 0..clients {
            let mut users = Vec::with_capacity(users_each);
            for _ in 0..users_each {
                users.push(self.new_user()?.1);
            }
            all.push(users);
        }
        self.connect(all)
    }

    /// Connects one client per group of users.
    pub(crate) fn connect(&self, users: Vec<Vec<User>>) -> anyhow::Result<Vec<Client>> {
        let host = &self.host;
        self.runtime().block_on(async {
            let mut clients = Vec::with_capacity(users.len());
            for users in users {
                clients.push(Client::connect(Arc::clone(host), users, self.ids).await?);
            }
            Ok(clients)
        })
    }

    /// Creates a user, and returns the name too.
    pub(crate) fn new_user(&mut self) -> anyhow::Result<(String, User)> {
        self.users_made += 1;
        // All names have the same length, and so do the tokens.
        let name = format!("user-{:09}", self.users_made);
        let token = self.token(&name)?;
        Ok((name, User::new(token, 0)))
    }

    fn token(&self, user: &str) -> anyhow::Result<String> {
        match &self.token_source {
            TokenSource::LocalKey(key) => {
                Ok(key.mint(user, SystemClock::start().now(), TOKEN_TTL)?)
            }
            TokenSource::None => Ok("none".to_owned()),
            TokenSource::Server => self.runtime().block_on(async {
                let request =
                    format!("GET /token?user={user} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
                let mut connection = Connection::open(&self.host).await?;
                let body: Value =
                    serde_json::from_slice(connection.exchange(request.as_bytes()).await?)?;
                Ok(body["token"].as_str().context("the response has no token")?.to_owned())
            }),
        }
    }

    /// Connects the clients of pulled vaults, with the same users in every round.
    fn pulling_clients(&mut self, clients: usize) -> anyhow::Result<Vec<Client>> {
        let mut all = Vec::with_capacity(clients);
        for number in 0..clients {
            let token = self.filled.get(&number).cloned();
            let is_filled = token.is_some() || self.fill.is_some();
            let token = if let Some(token) = token {
                token
            } else {
                let (name, user) = self.new_user()?;
                if let Some(fill) = &self.fill {
                    fill(&name)?;
                }
                self.filled.insert(number, user.token.clone());
                user.token
            };
            all.push(vec![User::new(token, if is_filled { PULLED_RECORDS } else { 0 })]);
        }
        self.connect(all)
    }

    pub(crate) fn generator(&mut self) -> &mut LoadGenerator {
        &mut self.generator
    }

    /// Opens one event stream per token.
    pub(crate) fn open_event_streams(&self, tokens: Vec<String>) -> anyhow::Result<Vec<TcpStream>> {
        open_event_streams(self.runtime(), &self.host, tokens)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.generator.runtime()
    }
}

impl Target for HttpTarget {
    fn name(&self) -> &'static str {
        self.name
    }

    fn supports(&self, _: Workload) -> bool {
        true
    }

    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()> {
        let clients = if workload.only_reads() {
            self.pulling_clients(clients)?
        } else {
            self.new_clients(clients, 1)?
        };
        self.generator.prepare(workload, clients)
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally> {
        self.generator.run(workload, time)
    }

    fn processes(&self) -> Processes {
        Processes([Some(self.child.id()), self.database].into_iter().flatten().collect())
    }

    fn server(&self) -> Option<u32> {
        Some(self.child.id())
    }
}
