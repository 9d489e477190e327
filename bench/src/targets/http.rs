//! A server that speaks the protocol: its users, and the clients they have.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Runtime};
use vaultsync_server::{Clock as _, SystemClock, auth::LocalKey};

use super::{Child, Target};
use crate::{
    cpu::Processes,
    load::{Client, Connection, Generator, User, open_streams},
    tally::Tally,
    workloads::{PULLED_RECORDS, Workload},
};

/// How long a token is good: longer than any run.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Who signs tokens.
pub(crate) enum SignedBy {
    /// The server's local issuer.
    Local(Box<LocalKey>),
    /// The server itself, asked at `/token`.
    Server,
    /// Nobody: the server does not look at them.
    Nobody,
}

/// Fills the vault of a user with [`PULLED_RECORDS`] records.
pub(crate) type Fill = Box<dyn Fn(&str) -> anyhow::Result<()>>;

/// A server and its clients.
pub(crate) struct HttpTarget {
    pub(crate) name: &'static str,
    pub(crate) host: Arc<str>,
    pub(crate) child: Child,
    /// The database's process, where it is one.
    pub(crate) database: Option<u32>,
    pub(crate) signed_by: SignedBy,
    /// How pulled vaults are filled; by pushes where there is none.
    pub(crate) fill: Option<Fill>,
    users_made: u64,
    /// The tokens of users whose vaults are filled, by their clients' numbers.
    filled: BTreeMap<usize, String>,
    generator: Generator,
}

impl HttpTarget {
    /// A server that listens on `host`, with a database of that process.
    pub(crate) fn new(
        name: &'static str,
        host: &str,
        child: Child,
        database: Option<u32>,
        signed_by: SignedBy,
    ) -> anyhow::Result<Self> {
        let (filled, generator) = (BTreeMap::new(), Generator::new()?);
        let host = host.into();
        Ok(Self {
            name,
            host,
            child,
            database,
            signed_by,
            fill: None,
            users_made: 0,
            filled,
            generator,
        })
    }

    /// So many clients, each with that many users of its own, whose vaults are empty.
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

    /// Connects a client for each of these groups of users.
    pub(crate) fn connect(&self, users: Vec<Vec<User>>) -> anyhow::Result<Vec<Client>> {
        let host = &self.host;
        self.runtime().block_on(async {
            let mut clients = Vec::with_capacity(users.len());
            for users in users {
                clients.push(Client::connect(Arc::clone(host), users).await?);
            }
            Ok(clients)
        })
    }

    /// A user that nobody has seen before, and the name.
    pub(crate) fn new_user(&mut self) -> anyhow::Result<(String, User)> {
        self.users_made += 1;
        // All names are of one length, and so are the tokens.
        let name = format!("user-{:09}", self.users_made);
        let token = self.token(&name)?;
        Ok((name, User::new(token, 0)))
    }

    fn token(&self, user: &str) -> anyhow::Result<String> {
        match &self.signed_by {
            SignedBy::Local(key) => Ok(key.mint(user, SystemClock::start().now(), TOKEN_TTL)?),
            SignedBy::Nobody => Ok("nobody".to_owned()),
            SignedBy::Server => self.runtime().block_on(async {
                let request =
                    format!("GET /token?user={user} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
                let mut connection = Connection::open(&self.host).await?;
                let body: Value =
                    serde_json::from_slice(connection.exchange(request.as_bytes()).await?)?;
                Ok(body["token"].as_str().context("no token")?.to_owned())
            }),
        }
    }

    /// The users of vaults that are pulled, the same ones in every round.
    fn pulled(&mut self, clients: usize) -> anyhow::Result<Vec<Client>> {
        let mut all = Vec::with_capacity(clients);
        for number in 0..clients {
            let known = self.filled.get(&number).cloned();
            let is_filled = known.is_some() || self.fill.is_some();
            let token = if let Some(token) = known {
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

    pub(crate) fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// Opens event streams of the users with these tokens.
    pub(crate) fn open_streams(&self, tokens: Vec<String>) -> anyhow::Result<Vec<TcpStream>> {
        open_streams(self.runtime(), &self.host, tokens)
    }

    fn runtime(&self) -> &Runtime {
        self.generator.runtime()
    }
}

impl Target for HttpTarget {
    fn name(&self) -> &'static str {
        self.name
    }

    fn takes(&self, _: Workload) -> bool {
        true
    }

    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()> {
        let clients = if workload.only_reads() {
            self.pulled(clients)?
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
