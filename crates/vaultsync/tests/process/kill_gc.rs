//! `kill -9` during the removal of old tombstones and replaced versions, by `vaultsync gc` and by a server.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use rusqlite::Connection;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Push, Timestamp};
use vaultsync_server::{Clock as _, Limits, SystemClock, auth::LOCAL_ISSUER};
use vaultsync_store::{PushOutcome, Store, Vault};
use vaultsync_test_servers::query;
use vaultsync_testkit::{Backend, TestDatabase, backends, inconsistencies, operation, push_of};

use crate::support::{Server, run, token, vaultsync};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    a_gc_that_is_killed_is_finished_by_the_next_one,
    a_server_that_is_killed_in_its_gc_is_followed_by_the_next_one,
);

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Vaults. A transaction concerns one of them, so a removal takes two of each.
const USERS: usize = 16;

/// Old tombstones of a vault.
const OLD: usize = 40;

/// Old tombstones of the first vault: more than are removed at a time.
const MANY_OLD: usize = 1200;

/// Records of a vault that are never changed.
const LIVE: usize = 10;

/// The replaced versions of `edited` that are kept: the last of a day, the last of an hour, and all of the last
/// day. See [`fill`].
const KEPT: [i64; 5] = [4, 7, 8, 9, 10];

/// How often a removal is killed, unless it ends before.
const KILLS: usize = 3;

/// Longer than a removal takes on a busy machine.
const REMOVED_MAX: Duration = Duration::from_secs(120);

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn old(number: usize) -> usize {
    if number == 0 { MANY_OLD } else { OLD }
}

/// A database with what is to be removed.
struct Filled {
    database: TestDatabase,
    folder: tempfile::TempDir,
    client: reqwest::Client,
    tokens: Vec<String>,
    /// Since when a client was away that has pulled all creations, and none of the deletions.
    away_since: Timestamp,
}

struct Filling<'a> {
    store: &'a Store,
    vault: Vault,
}

impl Filling<'_> {
    async fn push(&self, at: i64, operations: impl IntoIterator<Item = Value>) {
        let all: Vec<_> = operations.into_iter().collect();
        for batch in all.chunks(100) {
            let body = push_of(batch.iter().cloned()).to_string();
            let push = Push::from_json(body.as_bytes(), usize::MAX).expect("a valid body");
            let outcome = self.store.push(&self.vault, push, Timestamp::from_millis(at), ()).await;
            assert!(matches!(outcome, Ok(PushOutcome::Applied { .. })), "{outcome:?}");
        }
    }

    /// Writes two months of a vault. All times are far from the boundaries of what is kept.
    async fn fill(&self, number: usize, now: i64) {
        let today = now - now % DAY;
        let deleted = |id: String| operation(&id, Some(1), b"");
        let old = || (0..old(number)).map(|n| format!("old-{n}"));
        let recent = || (0..3).map(|n| format!("recent-{n}"));
        let live = (0..LIVE).map(|n| format!("live-{n}"));
        let reserved = "vaultsync.old".to_owned();
        let all = live.chain(old()).chain(recent()).chain([reserved.clone(), "edited".to_owned()]);
        self.push(now - 60 * DAY, all.map(|id| operation(&id, None, b"version 1"))).await;
        self.push(now - 50 * DAY, old().chain([reserved]).map(deleted)).await;
        let (ten, three) = (today - 10 * DAY, today - 3 * DAY + 10 * HOUR);
        let edits = [now - 40 * DAY]
            .into_iter()
            .chain([3, 9, 20].map(|hour| ten + hour * HOUR))
            .chain([5, 20, 50].map(|minute| three + minute * MINUTE))
            .chain([120, 90, 60].map(|minutes| now - minutes * MINUTE));
        for (base, at) in (1..).zip(edits) {
            if base == 2 {
                self.push(now - 20 * DAY, recent().map(deleted)).await;
            }
            let text = format!("version {}", base + 1);
            self.push(at, [operation("edited", Some(base), text.as_bytes())]).await;
        }
    }
}

impl Filled {
    async fn new(backend: Backend) -> Self {
        let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(backend));
        let options = Limits::default().store_options(|| Epoch::new(Uuid::new_v4()));
        let store = database.open(options).await;
        let now = SystemClock::start().now().as_millis();
        for number in 0..USERS {
            let vault = Vault::of(LOCAL_ISSUER, user(number));
            Filling { store: &store, vault }.fill(number, now).await;
        }
        store.close().await;
        drop(store);
        let tokens = (0..USERS).map(|number| token(folder.path(), &user(number))).collect();
        let away_since = Timestamp::from_millis(now - 55 * DAY);
        Self { database, folder, client: reqwest::Client::new(), tokens, away_since }
    }

    /// A server that removes nothing unless `flags` say so.
    fn server(&self, flags: &[&str]) -> Server {
        let flags = [&["--rate-limit", "0", "--tombstone-days", "30"], flags].concat();
        let off: &[&str] = if flags.contains(&"--gc-interval-seconds") {
            &[]
        } else {
            &["--gc-interval-seconds", "0"]
        };
        Server::start_on(&self.database, self.folder.path(), &[&flags, off].concat())
    }

    fn gc(&self) -> std::process::Command {
        let mut command = vaultsync();
        command.args(["gc", "--tombstone-days", "30", "--database", &self.database.url()]);
        command.arg("--data-dir").arg(self.folder.path());
        command
    }

    /// The number of rows that a statement counts.
    fn count(&self, statement: &str) -> usize {
        let url = self.database.url();
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let count = open_sqlite(path).query_row(statement, [], |row| row.get::<_, i64>(0));
                usize::try_from(count.expect("a count")).expect("a count")
            }
            None => query(&url, statement).trim().parse().expect("a count"),
        }
    }

    /// Makes the removal of each vault's tombstones take some tenths of a second, so that a kill after the first
    /// one comes before the last one.
    fn slow_down(&self) {
        let url = self.database.url();
        match url.strip_prefix("sqlite:") {
            Some(path) => execute_sqlite(
                path,
                "create trigger slow before delete on records when old.record_id = 'old-39' begin
                   select count(*) from (
                     with recursive n (i) as (select 1 union all select i + 1 from n where i < 500000)
                     select i from n
                   );
                 end",
            ),
            None => drop(query(
                &url,
                "create function slow() returns trigger language plpgsql as
                   $$ begin
                     if old.record_id = 'old-39' then perform pg_sleep(0.2); end if;
                     return old;
                   end $$;
                 create trigger slow before delete on records for each row execute function slow()",
            )),
        }
    }

    fn speed_up(&self) {
        let url = self.database.url();
        match url.strip_prefix("sqlite:") {
            Some(path) => execute_sqlite(path, "drop trigger slow"),
            None => drop(query(&url, "drop trigger slow on records")),
        }
    }

    /// Tombstones and versions that are still there.
    fn rows(&self) -> usize {
        self.count("select (select count(*) from records) + (select count(*) from revisions)")
    }

    /// Waits until something is removed, or until `ended`. Returns whether something is.
    async fn removes(&self, before: usize, mut ended: impl FnMut() -> bool) -> bool {
        let removing = async {
            loop {
                let has_ended = ended();
                if self.rows() < before {
                    return true;
                }
                if has_ended {
                    return false;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(REMOVED_MAX, removing).await.expect("the removal goes on or ends")
    }

    /// What is left when all is removed.
    fn rows_at_the_end() -> usize {
        // The reserved tombstone has no old version, and those of `recent` and `edited` are kept.
        USERS * (LIVE + 3 + 1 + 1 + 3 + KEPT.len())
    }

    /// Checks what clients see. Returns how many vaults have lost old tombstones, and how many have all.
    async fn check(&self) -> (usize, usize) {
        let server = self.server(&[]);
        let (mut purged, mut whole) = (0, 0);
        for number in 0..USERS {
            let records = self.pull_all(&server, number, None).await.expect("a first pull");
            let olds = records.keys().filter(|id| id.starts_with("old-")).count();
            let live = records.iter().filter(|(_, record)| record["deleted"] == false);
            assert_eq!(live.count(), LIVE + 1, "{}", user(number));
            assert_eq!(records["edited"]["version"], 11);
            for id in ["recent-0", "recent-1", "recent-2", "vaultsync.old"] {
                assert_eq!(records[id]["version"], 2, "{id}");
            }
            match self.pull_all(&server, number, Some(self.away_since)).await {
                Ok(later) => {
                    let later = later.keys().filter(|id| id.starts_with("old-")).count();
                    assert_eq!((later, olds), (old(number), old(number)), "none is missed");
                    whole += 1;
                }
                Err(answer) => {
                    assert!(olds < old(number), "{}: {answer}", user(number));
                    assert_eq!(answer["code"], "cursor_expired");
                    purged += 1;
                }
            }
        }
        assert_eq!(inconsistencies(&self.database.url()), [""; 0]);
        (purged, whole)
    }

    /// The records of a user that are later than a time, by id, or the error.
    async fn pull_all(
        &self,
        server: &Server,
        number: usize,
        since: Option<Timestamp>,
    ) -> Result<BTreeMap<String, Value>, Value> {
        let since = since.map(|since| since.to_string()).unwrap_or_default();
        let (mut records, mut cursor) = (BTreeMap::new(), since.clone());
        loop {
            let url = format!("{}/api/sync/pull?since={since}&cursor={cursor}", server.url);
            let request = self.client.get(url).bearer_auth(&self.tokens[number]);
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            let page: Value = answer.json().await.expect("JSON");
            if status == 410 {
                return Err(page);
            }
            assert_eq!(status, 200, "{page}");
            for record in page["records"].as_array().expect("records") {
                let id = record["recordId"].as_str().expect("an id").to_owned();
                records.insert(id, record.clone());
            }
            if page["hasMore"] == false {
                return Ok(records);
            }
            page["nextCursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        }
    }

    /// Checks that all is removed that has to be, and nothing else.
    async fn check_end(&self) {
        let (purged, whole) = self.check().await;
        assert_eq!((purged, whole), (USERS, 0));
        assert_eq!(self.count("select count(*) from records where record_id like 'old-%'"), 0);
        let edited = "select count(*) from revisions where record_id = 'edited'";
        assert_eq!(self.count(edited), USERS * KEPT.len());
        let kept = KEPT.map(|version| version.to_string()).join(", ");
        assert_eq!(self.count(&format!("{edited} and version in ({kept})")), USERS * KEPT.len());
        assert_eq!(self.rows(), Self::rows_at_the_end());
    }
}

fn open_sqlite(path: &str) -> Connection {
    let connection = Connection::open(path).expect("the file opens");
    connection.busy_timeout(REMOVED_MAX).expect("a timeout");
    connection
}

fn execute_sqlite(path: &str, statement: &str) {
    open_sqlite(path).execute_batch(statement).expect(statement);
}

/// Kills a process that has begun to remove, if it has not ended.
fn kill(pid: u32) {
    let _ = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

async fn a_gc_that_is_killed_is_finished_by_the_next_one(backend: Backend) {
    let filled = Filled::new(backend).await;
    let mut in_the_middle = 0;
    if backend == Backend::Postgres {
        kill_inside_a_transaction(&filled).await;
        in_the_middle += 1;
    }
    filled.slow_down();
    for _ in 0..KILLS {
        let before = filled.rows();
        let mut gc = filled.gc();
        let mut gc = gc.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let ended = || gc.try_wait().expect("a status").is_some();
        let removed = filled.removes(before, ended).await;
        kill(gc.id());
        gc.wait().expect("it exits");
        if !removed {
            break;
        }
        let rows = filled.rows();
        in_the_middle += usize::from(rows > Filled::rows_at_the_end());
        filled.check().await;
    }
    assert!(in_the_middle > 0, "no kill came before the end");
    println!("{in_the_middle} kills in the middle");
    filled.speed_up();
    let (code, out, err) = run(&mut filled.gc());
    assert_eq!(code, Some(0), "{out}{err}");
    filled.check_end().await;
    let (_, out, _) = run(filled.gc().arg("--dry-run"));
    assert!(out.contains("to remove: 0 tombstones") && out.contains(" 0 replaced"), "{out}");
}

/// Kills a removal that waits in the middle of a transaction for a row that another session has locked.
async fn kill_inside_a_transaction(filled: &Filled) {
    let url = filled.database.url();
    query(&url, "create table held ()");
    query(&url, "insert into held default values");
    let locked = "select vault_id from vaults order by vault_id offset 8 limit 1";
    let hold = format!(
        "do $$ begin
           perform 1 from records where vault_id = ({locked}) and record_id = 'old-39' for update;
           while exists (select from held) loop perform pg_sleep(0.02); end loop;
         end $$"
    );
    let holder = std::thread::spawn({
        let url = url.clone();
        move || query(&url, &hold)
    });
    let until = async |statement: &str| {
        while filled.count(statement) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_database = "from pg_stat_activity where datname = current_database() and wait_event";
    timeout(REMOVED_MAX, until(&format!("select count(*) {in_database} = 'PgSleep'")))
        .await
        .expect("the row is locked");
    let mut gc = filled.gc();
    gc.args(["--database-timeout-ms", "60000"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut gc = gc.spawn().expect("it starts");
    timeout(REMOVED_MAX, until(&format!("select count(*) {in_database}_type = 'Lock'")))
        .await
        .expect("the removal waits for the row");
    kill(gc.id());
    gc.wait().expect("it exits");
    query(&url, "delete from held");
    holder.join().expect("the lock is released");
    let waiting = format!("select (count(*) = 0)::int {in_database}_type = 'Lock'");
    timeout(REMOVED_MAX, until(&waiting)).await.expect("the transaction is rolled back");
    query(&url, "drop table held");
    let (purged, whole) = filled.check().await;
    assert_eq!((purged, whole), (8, USERS - 8), "nothing of the transaction is applied");
    // Its versions are thinned in a transaction before.
    let olds = format!("select count(*) from records where vault_id = ({locked}) and deleted");
    assert!(filled.count(&olds) >= OLD);
}

async fn a_server_that_is_killed_in_its_gc_is_followed_by_the_next_one(backend: Backend) {
    let filled = Filled::new(backend).await;
    let mut in_the_middle = 0;
    filled.slow_down();
    for _ in 0..KILLS {
        let before = filled.rows();
        let mut server = filled.server(&["--gc-interval-seconds", "1"]);
        filled.removes(before, || false).await;
        server.signal("KILL");
        server.wait();
        drop(server);
        filled.check().await;
        if filled.rows() == Filled::rows_at_the_end() {
            break;
        }
        in_the_middle += 1;
    }
    assert!(in_the_middle > 0, "no kill came before the end");
    println!("{in_the_middle} kills in the middle");
    filled.speed_up();
    // The claim of the killed server ends.
    let server = filled.server(&["--gc-interval-seconds", "1"]);
    let finished = async {
        while filled.rows() > Filled::rows_at_the_end() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(REMOVED_MAX, finished).await.expect("the next server removes the rest");
    drop(server);
    filled.check_end().await;
}
