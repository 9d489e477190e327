//! Clients: what each asks next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::ensure;
use tokio::time::Instant;

use super::{
    bodies::{PushRequest, look, write_pull},
    http::{Connection, is_busy},
};
use crate::{
    tally::Tally,
    workloads::{PULLED_RECORDS, UPDATED_RECORDS, Workload},
};

/// How many different bodies a client has for pushes of a size, so that an update changes what is there.
const BODIES: usize = 3;

/// Operations of a small push in the mixed workload.
const SMALL: u64 = 5;

/// How often a push is made of what is to be there before anything is measured, and the pause before the
/// next time.
const ATTEMPTS: u32 = 240;
const PAUSE: Duration = Duration::from_millis(250);

/// A page of a pull.
const PAGE: u64 = 100;

/// A user as a client knows it.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) token: String,
    /// The number that the next new record gets.
    pub(crate) next: u64,
    /// The cursor of the last page.
    pub(crate) cursor: Option<String>,
    /// Pushes that were updates.
    updates: u64,
    /// Pages since the start of the vault.
    pages: u64,
}

impl User {
    /// One who has records with the numbers below `next`.
    pub(crate) const fn new(token: String, next: u64) -> Self {
        Self { token, next, cursor: None, updates: 0, pages: 0 }
    }

    /// The first of that many numbers that no record has yet.
    const fn take(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        first
    }
}

/// A device of one user, or of several in turn.
#[derive(Debug)]
pub(crate) struct Client {
    host: Arc<str>,
    connection: Connection,
    users: VecDeque<User>,
    bodies: BTreeMap<u64, Vec<PushRequest>>,
    pull: Vec<u8>,
    turn: usize,
}

impl Client {
    /// Connects; there must be a user.
    pub(crate) async fn connect(host: Arc<str>, users: Vec<User>) -> anyhow::Result<Self> {
        let connection = Connection::open(&host).await?;
        ensure!(!users.is_empty(), "a client without a user");
        let (users, bodies) = (users.into(), BTreeMap::new());
        Ok(Self { host, connection, users, bodies, pull: Vec::new(), turn: 0 })
    }

    /// Connects anew: the server closes a connection that nothing is asked on for a while.
    pub(crate) async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.connection = Connection::open(&self.host).await?;
        Ok(())
    }

    /// Brings the vaults to where the workload begins.
    pub(crate) async fn prepare(&mut self, workload: Workload) -> anyhow::Result<()> {
        let (sizes, records): (&[u64], u64) = match workload {
            Workload::Push1 => (&[1], 0),
            Workload::Push100 => (&[100], 0),
            Workload::Update100 => (&[100], UPDATED_RECORDS),
            Workload::PullAll | Workload::PullIdle => (&[], PULLED_RECORDS),
            Workload::Mixed => (&[1, SMALL], PAGE),
        };
        for size in sizes {
            self.make_bodies(*size)?;
        }
        for _ in 0..self.users.len() {
            self.next_user();
            while self.users[0].next < records {
                self.make_bodies(PAGE)?;
                self.make(PAGE).await?;
            }
            if matches!(workload, Workload::PullIdle | Workload::Mixed) {
                while self.pull().await? {}
            }
        }
        Ok(())
    }

    /// Makes so many new records for each user, and bodies for pushes of every size.
    pub(crate) async fn fill(&mut self, records: u64) -> anyhow::Result<()> {
        let rest = records % PAGE;
        for size in [1, PAGE, rest] {
            self.make_bodies(size)?;
        }
        for _ in 0..self.users.len() {
            self.next_user();
            for _ in 0..records / PAGE {
                self.make(PAGE).await?;
            }
            if rest > 0 {
                self.make(rest).await?;
            }
        }
        Ok(())
    }

    /// Reads every user's vault up to its head.
    pub(crate) async fn catch_up(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.users.len() {
            self.next_user();
            while self.pull().await? {}
        }
        Ok(())
    }

    /// Takes over what another device of the same users has read.
    pub(crate) fn read_as(&mut self, other: &Self) {
        for (user, read) in self.users.iter_mut().zip(&other.users) {
            user.cursor.clone_from(&read.cursor);
        }
    }

    /// Makes requests until then.
    pub(crate) async fn drive(
        &mut self,
        workload: Workload,
        until: Instant,
    ) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut begun = Instant::now();
        while begun < until {
            let records = self.step(workload).await?;
            let ended = Instant::now();
            tally.request(ended - begun, records);
            begun = ended;
        }
        Ok(tally)
    }

    /// Makes one request; how many records it carried.
    async fn step(&mut self, workload: Workload) -> anyhow::Result<u64> {
        self.next_user();
        match workload {
            Workload::Push1 => self.insert(1).await,
            Workload::Push100 => self.insert(100).await,
            Workload::Update100 => self.update(100, UPDATED_RECORDS).await,
            Workload::PullAll => self.walk().await,
            Workload::PullIdle => {
                ensure!(!self.pull().await?, "an idle pull that found a whole page");
                Ok(0)
            }
            Workload::Mixed => {
                self.turn += 1;
                match self.turn % 10 {
                    2 | 9 => self.insert(SMALL).await,
                    5 => self.insert(1).await,
                    7 => self.update(SMALL, PAGE).await,
                    _ => self.pull().await.map(|_| 0),
                }
            }
        }
    }

    fn next_user(&mut self) {
        self.users.rotate_left(1);
    }

    fn make_bodies(&mut self, size: u64) -> anyhow::Result<()> {
        if !self.bodies.contains_key(&size) {
            let operations = usize::try_from(size)?;
            let token = &self.users[0].token;
            let new = || PushRequest::new(&self.host, token, operations);
            let bodies = (0..BODIES).map(|_| new()).collect::<Result<_, _>>()?;
            self.bodies.insert(size, bodies);
        }
        Ok(())
    }

    /// New records that are to be there before anything is measured: a disk that stalls is no reason to give
    /// up what took minutes to fill. The same bytes again are applied once.
    async fn make(&mut self, size: u64) -> anyhow::Result<()> {
        let first = self.users[0].take(size);
        let request = next_request(&mut self.bodies, &self.users[0].token, size, first, None)?;
        for _ in 1..ATTEMPTS {
            match self.connection.exchange(request).await {
                Err(error) if is_busy(&error) => {}
                done => return done.map(drop),
            }
            tokio::time::sleep(PAUSE).await;
            self.connection = Connection::open(&self.host).await?;
        }
        self.connection.exchange(request).await.map(drop)
    }

    async fn insert(&mut self, size: u64) -> anyhow::Result<u64> {
        let first = self.users[0].take(size);
        self.push(size, first, None).await
    }

    /// Updates the next `size` of the first `among` records.
    async fn update(&mut self, size: u64, among: u64) -> anyhow::Result<u64> {
        let batches = among / size;
        let user = &mut self.users[0];
        let (batch, version) = (user.updates % batches, user.updates / batches + 1);
        user.updates += 1;
        self.push(size, batch * size, Some(version)).await
    }

    async fn push(&mut self, size: u64, first: u64, base: Option<u64>) -> anyhow::Result<u64> {
        let request = next_request(&mut self.bodies, &self.users[0].token, size, first, base)?;
        self.connection.exchange(request).await?;
        Ok(size)
    }

    /// Pulls from the cursor; whether the page was full and there is more.
    async fn pull(&mut self) -> anyhow::Result<bool> {
        let user = &mut self.users[0];
        write_pull(&mut self.pull, &self.host, &user.token, user.cursor.as_deref());
        let page = look(self.connection.exchange(&self.pull).await?);
        if let Some(next) = page.next_cursor {
            let cursor = user.cursor.get_or_insert_default();
            cursor.clear();
            cursor.push_str(next);
        }
        Ok(page.has_more)
    }

    /// The next page of the whole vault; from the start again where that was the last.
    async fn walk(&mut self) -> anyhow::Result<u64> {
        let user = &mut self.users[0];
        write_pull(&mut self.pull, &self.host, &user.token, user.cursor.as_deref());
        let page = look(self.connection.exchange(&self.pull).await?);
        if !page.is_full || !page.has_more {
            let pages = user.pages + u64::from(page.is_full);
            ensure!(pages == PULLED_RECORDS / PAGE, "a vault of {pages} pages");
            (user.cursor, user.pages) = (None, 0);
            return Ok(if page.is_full { PAGE } else { 0 });
        }
        user.pages += 1;
        user.cursor = page.next_cursor.map(str::to_owned);
        Ok(PAGE)
    }
}

/// A push of that many records from the number `first` on.
fn next_request<'a>(
    bodies: &'a mut BTreeMap<u64, Vec<PushRequest>>,
    token: &str,
    size: u64,
    first: u64,
    base: Option<u64>,
) -> anyhow::Result<&'a [u8]> {
    let Some(bodies) = bodies.get_mut(&size) else {
        anyhow::bail!("no bodies of {size} operations were made");
    };
    // Another body than the one before, so that no update is taken for a retry.
    bodies.rotate_left(1);
    Ok(bodies[0].fill(token, first, base))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const BUSY: &str = "503 Service Unavailable";

    /// A client of a server that answers its pushes so, one on each connection.
    async fn client_of(answers: [&'static str; 3]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string().into();
        let users = vec![User::new("token".to_owned(), 0)];
        let mut client = Client::connect(host, users).await.unwrap();
        client.make_bodies(1).unwrap();
        let request = next_request(&mut client.bodies, "token", 1, 0, None).unwrap();
        let length = request.len();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        client
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_again_while_vaults_are_filled() {
        client_of([BUSY, BUSY, "200 OK"]).await.make(1).await.unwrap();
        let error = client_of([BUSY, "409 Conflict", "200 OK"]).await.make(1).await.unwrap_err();
        assert!(error.to_string().starts_with("answered HTTP/1.1 409"), "{error}");
    }

    #[tokio::test]
    async fn what_is_measured_is_asked_once() {
        let error = client_of([BUSY, "200 OK", "200 OK"]).await.insert(1).await.unwrap_err();
        assert!(error.to_string().starts_with("answered HTTP/1.1 503"), "{error}");
    }
}
