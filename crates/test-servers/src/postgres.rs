//! A PostgreSQL server.
//!
//! Not here: its tables and their contents.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::folder::{Folder, output_of, plain_command};
use crate::process_guard::{Kind, ProcessGuard};
use crate::programs::POSTGRES;

// SIGINT is its "fast shutdown": clean, but without waiting for clients to disconnect.
static KIND: Kind = Kind { stop_signal: "INT", kill_signal: "QUIT", is_ready };

/// The data directory, relative to the server's folder.
const DATA: &str = "data";

/// Settings of every server. All others have PostgreSQL's defaults, so commits are synced to disk.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "300"),
    ("shared_buffers", "32MB"),
    ("max_wal_size", "256MB"),
    // In files of the folder, so that a killed server leaves no shared memory elsewhere.
    ("dynamic_shared_memory_type", "mmap"),
    // A standby reconnects to its server quickly.
    ("wal_retrieve_retry_interval", "100ms"),
];

/// A private PostgreSQL server, whose superuser `postgres` has no password.
#[derive(Debug)]
#[must_use = "a server stops when it is dropped"]
pub struct PostgresServer(ProcessGuard);

/// One server for this process, started at first use: for tests that only need their own database in it.
pub fn shared_postgres() -> &'static PostgresServer {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    SHARED.get_or_init(PostgresServer::start)
}

impl PostgresServer {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, such as `("wal_level", "logical")`.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_on(|folder| {
            let mut initdb = folder.command(program("initdb"));
            initdb.args(["--auth=trust", "--no-sync", "--username=postgres", "--encoding=UTF8"]);
            output_of(initdb.args(["--locale=C", "--pgdata", DATA]));
            configure(folder, SETTINGS);
            configure(folder, settings);
        })
    }

    /// Starts a hot standby, which follows this server and answers read-only queries.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn standby(&self) -> Self {
        Self::start_on(|folder| {
            let mut copy = folder.command(program("pg_basebackup"));
            copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
            output_of(copy.args(["--pgdata", DATA, "--dbname", &self.url("postgres")]));
        })
    }

    fn start_on(make_data: impl Fn(&Folder)) -> Self {
        let command = [POSTGRES.path().into(), "-D".into(), DATA.into()];
        Self(ProcessGuard::start(&KIND, &command, |folder, port| {
            make_data(folder);
            configure(folder, &[("port", &port.to_string())]);
        }))
    }

    /// Its port on 127.0.0.1, which stays the same when it is started again.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Its data directory.
    pub fn folder(&self) -> PathBuf {
        self.0.folder().path().join(DATA)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Runs one statement in a database: see [`query`].
    pub fn query(&self, database: &str, sql: &str) -> String {
        query(&self.url(database), sql)
    }

    /// Creates a database, empty or as a copy of `template`, to which no client may be connected. Any number
    /// of copies can be created at the same time.
    pub fn create_database(&self, name: &str, template: Option<&str>) {
        let mut sql = format!("create database {}", quoted(name));
        if let Some(template) = template {
            let _ = write!(sql, " template {}", quoted(template));
        }
        self.query("postgres", &sql);
    }

    /// Drops a database, even if clients are connected to it.
    pub fn drop_database(&self, name: &str) {
        self.query("postgres", &format!("drop database if exists {} with (force)", quoted(name)));
    }

    /// Writes a file to its data directory that only the server can read, such as `server.key` or
    /// `pg_hba.conf`. The server reads most of them only when it starts.
    pub fn put_file(&self, name: &str, contents: impl AsRef<[u8]>) {
        self.0.folder().write(Path::new(DATA).join(name), contents);
    }

    /// Adds settings, which take effect when the server is started again.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        configure(self.0.folder(), settings);
    }

    /// Stops it without waiting for clients to disconnect, and waits until it has exited.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Kills all its processes.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Starts it again after a stop or kill, and waits until it accepts connections.
    pub fn start_again(&self) {
        self.0.start_again();
    }

    /// Suspends all its processes: it answers nothing and closes nothing.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Resumes it after a pause.
    pub fn resume(&self) {
        self.0.resume();
    }
}

/// Runs one statement in the database at `url`, and returns the rows, one per line, with `|` between the
/// columns.
///
/// # Panics
///
/// If it fails, with the server's message.
pub fn query(url: &str, sql: &str) -> String {
    let mut psql = plain_command(program("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password"]);
    output_of(psql.args(["--set=ON_ERROR_STOP=1", "--dbname", url, "--command", sql]))
}

/// A program of PostgreSQL other than the server. It is next to the server, not next to a link to it.
fn program(name: &str) -> PathBuf {
    let server = POSTGRES.path();
    server.canonicalize().unwrap_or(server).with_file_name(name)
}

/// Appends settings. If a name occurs twice, the last value takes effect.
fn configure(folder: &Folder, settings: &[(&str, &str)]) {
    let mut text = String::new();
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    OpenOptions::new()
        .append(true)
        .open(folder.path().join(DATA).join("postgresql.conf"))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("the settings can be written");
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// It keeps a file with its process id in the first line and its state in the eighth.
fn is_ready(folder: &Path, process: u32) -> bool {
    let file = fs::read_to_string(folder.join(DATA).join("postmaster.pid")).unwrap_or_default();
    let mut lines = file.lines().map(str::trim);
    lines.next() == Some(&process.to_string()) && lines.nth(6) == Some("ready")
}
