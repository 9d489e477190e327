//! A client: chooses the next request of its workload.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::ensure;
use tokio::time::Instant;

use super::{
    connection::{Connection, is_busy},
    requests::{PushRequest, parse_page_end, write_pull},
};
use crate::{
    record_ids::RecordIds,
    tally::Tally,
    workloads::{PULLED_RECORDS, UPDATED_RECORDS, Workload},
};

/// Number of prepared pushes per size. With several of them, an update changes the content.
const PUSHES_PER_SIZE: usize = 3;

/// Number of operations of a small push in the mixed workload.
const SMALL: u64 = 5;

/// Number of attempts of a push that fills a vault, and the pause between them.
const ATTEMPTS: u32 = 240;
const PAUSE: Duration = Duration::from_millis(250);

/// Number of records in a page, and in a push that fills a vault.
const PAGE: u64 = 100;

/// The state of a user in a client.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) token: String,
    /// The number of the next new record.
    pub(crate) next: u64,
    /// The cursor of the last page.
    pub(crate) cursor: Option<String>,
    /// Number of pushes that were updates.
    updates: u64,
    /// Number of pages read since the start of the vault.
    pages: u64,
}

impl User {
    /// A user whose vault has the records with numbers below `next`.
    pub(crate) const fn new(token: String, next: u64) -> Self {
        Self { token, next, cursor: None, updates: 0, pages: 0 }
    }

    /// Reserves `count` numbers for new records, and returns the first.
    const fn reserve(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        first
    }
}

/// A client that acts for one user, or for several in turn.
#[derive(Debug)]
pub(crate) struct Client {
    host: Arc<str>,
    ids: RecordIds,
    connection: Connection,
    users: VecDeque<User>,
    /// Prepared pushes by their number of operations.
    pushes: BTreeMap<u64, Vec<PushRequest>>,
    pull: Vec<u8>,
    turn: usize,
}

impl Client {
    /// Connects a client that acts for these users, at least one.
    pub(crate) async fn connect(
        host: Arc<str>,
        users: Vec<User>,
        ids: RecordIds,
    ) -> anyhow::Result<Self> {
        let connection = Connection::open(&host).await?;
        ensure!(!users.is_empty(), "the client has no user");
        let (users, pushes) = (users.into(), BTreeMap::new());
        Ok(Self { host, ids, connection, users, pushes, pull: Vec::new(), turn: 0 })
    }

    /// Opens a new connection: the server closes a connection that is idle for a while.
    pub(crate) async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.connection = Connection::open(&self.host).await?;
        Ok(())
    }

    /// Fills the vaults as the workload needs them.
    pub(crate) async fn prepare(&mut self, workload: Workload) -> anyhow::Result<()> {
        let (sizes, records): (&[u64], u64) = match workload {
            Workload::Push1 => (&[1], 0),
            Workload::Push100 => (&[100], 0),
            Workload::Update100 => (&[100], UPDATED_RECORDS),
            Workload::PullAll | Workload::PullIdle => (&[], PULLED_RECORDS),
            Workload::Mixed => (&[1, SMALL], PAGE),
        };
        for size in sizes {
            self.prepare_pushes(*size)?;
        }
        for _ in 0..self.users.len() {
            self.next_user();
            while self.users[0].next < records {
                self.prepare_pushes(PAGE)?;
                self.insert_with_retries(PAGE).await?;
            }
            if matches!(workload, Workload::PullIdle | Workload::Mixed) {
                while self.pull().await? {}
            }
        }
        Ok(())
    }

    /// Inserts this many records for each user, and prepares pushes of every size.
    pub(crate) async fn fill(&mut self, records: u64) -> anyhow::Result<()> {
        let rest = records % PAGE;
        for size in [1, PAGE, rest] {
            self.prepare_pushes(size)?;
        }
        for _ in 0..self.users.len() {
            self.next_user();
            for _ in 0..records / PAGE {
                self.insert_with_retries(PAGE).await?;
            }
            if rest > 0 {
                self.insert_with_retries(rest).await?;
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

    /// Copies the cursors of another device of the same users.
    pub(crate) fn copy_cursors(&mut self, other: &Self) {
        for (user, other) in self.users.iter_mut().zip(&other.users) {
            user.cursor.clone_from(&other.cursor);
        }
    }

    /// Makes requests until a point in time.
    pub(crate) async fn run(
        &mut self,
        workload: Workload,
        until: Instant,
    ) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut started = Instant::now();
        while started < until {
            let records = self.step(workload).await?;
            let ended = Instant::now();
            tally.add_request(ended - started, records);
            started = ended;
        }
        Ok(tally)
    }

    /// Makes one request, and returns how many records it had.
    async fn step(&mut self, workload: Workload) -> anyhow::Result<u64> {
        self.next_user();
        match workload {
            Workload::Push1 => self.insert(1).await,
            Workload::Push100 => self.insert(100).await,
            Workload::Update100 => self.update(100, UPDATED_RECORDS).await,
            Workload::PullAll => self.pull_next_page().await,
            Workload::PullIdle => {
                ensure!(!self.pull().await?, "an idle pull returned a full page");
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

    fn prepare_pushes(&mut self, size: u64) -> anyhow::Result<()> {
        if !self.pushes.contains_key(&size) {
            let operations = usize::try_from(size)?;
            let token = &self.users[0].token;
            let new = || PushRequest::new(&self.host, token, operations, self.ids);
            let pushes = (0..PUSHES_PER_SIZE).map(|_| new()).collect::<Result<_, _>>()?;
            self.pushes.insert(size, pushes);
        }
        Ok(())
    }

    /// Inserts records before the measurement. It retries if the server is busy, because a stalled disk should
    /// not discard what took minutes to fill. The same bytes are applied only once.
    async fn insert_with_retries(&mut self, size: u64) -> anyhow::Result<()> {
        let first = self.users[0].reserve(size);
        let request = next_push(&mut self.pushes, &self.users[0].token, size, first, None)?;
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
        let first = self.users[0].reserve(size);
        self.push(size, first, None).await
    }

    /// Updates the next `size` of the first `records` records.
    async fn update(&mut self, size: u64, records: u64) -> anyhow::Result<u64> {
        let batches = records / size;
        let user = &mut self.users[0];
        let (batch, version) = (user.updates % batches, user.updates / batches + 1);
        user.updates += 1;
        self.push(size, batch * size, Some(version)).await
    }

    async fn push(&mut self, size: u64, first: u64, base: Option<u64>) -> anyhow::Result<u64> {
        let request = next_push(&mut self.pushes, &self.users[0].token, size, first, base)?;
        self.connection.exchange(request).await?;
        Ok(size)
    }

    /// Pulls from the cursor, and returns whether there is more.
    async fn pull(&mut self) -> anyhow::Result<bool> {
        let user = &mut self.users[0];
        write_pull(&mut self.pull, &self.host, &user.token, user.cursor.as_deref());
        let page = parse_page_end(self.connection.exchange(&self.pull).await?);
        if let Some(next) = page.next_cursor {
            let cursor = user.cursor.get_or_insert_default();
            cursor.clear();
            cursor.push_str(next);
        }
        Ok(page.has_more)
    }

    /// Pulls the next page of the whole vault; after the last page it starts again.
    async fn pull_next_page(&mut self) -> anyhow::Result<u64> {
        let user = &mut self.users[0];
        write_pull(&mut self.pull, &self.host, &user.token, user.cursor.as_deref());
        let page = parse_page_end(self.connection.exchange(&self.pull).await?);
        if !page.is_full || !page.has_more {
            let pages = user.pages + u64::from(page.is_full);
            ensure!(pages == PULLED_RECORDS / PAGE, "the vault has {pages} pages");
            (user.cursor, user.pages) = (None, 0);
            return Ok(if page.is_full { PAGE } else { 0 });
        }
        user.pages += 1;
        user.cursor = page.next_cursor.map(str::to_owned);
        Ok(PAGE)
    }
}

/// A push of `size` records from number `first` on.
fn next_push<'a>(
    pushes: &'a mut BTreeMap<u64, Vec<PushRequest>>,
    token: &str,
    size: u64,
    first: u64,
    base: Option<u64>,
) -> anyhow::Result<&'a [u8]> {
    let Some(pushes) = pushes.get_mut(&size) else {
        anyhow::bail!("no push of {size} operations was prepared");
    };
    // Another body than before, so that the server takes no update for a retry.
    pushes.rotate_left(1);
    Ok(pushes[0].update(token, first, base))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const BUSY: &str = "503 Service Unavailable";

    /// A client of a server that gives these responses to its pushes, one per connection.
    async fn client_of(responses: [&'static str; 3]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string().into();
        let users = vec![User::new("token".to_owned(), 0)];
        let mut client = Client::connect(host, users, RecordIds::Random).await.unwrap();
        client.prepare_pushes(1).unwrap();
        let request = next_push(&mut client.pushes, "token", 1, 0, None).unwrap();
        let length = request.len();
        tokio::spawn(async move {
            for response in responses {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                let response = format!("HTTP/1.1 {response}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        client
    }

    #[tokio::test]
    async fn pushes_that_fill_vaults_are_retried_if_the_server_is_busy() {
        client_of([BUSY, BUSY, "200 OK"]).await.insert_with_retries(1).await.unwrap();
        let error = client_of([BUSY, "409 Conflict", "200 OK"])
            .await
            .insert_with_retries(1)
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("the response is HTTP/1.1 409"), "{error}");
    }

    #[tokio::test]
    async fn measured_requests_are_never_retried() {
        let error = client_of([BUSY, "200 OK", "200 OK"]).await.insert(1).await.unwrap_err();
        assert!(error.to_string().starts_with("the response is HTTP/1.1 503"), "{error}");
    }
}
