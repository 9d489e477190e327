//! PgBouncer in front of a PostgreSQL server.

use std::fs;
use std::path::Path;

use crate::PostgresServer;
use crate::process_guard::{Kind, ProcessGuard};
use crate::programs::PGBOUNCER;

static KIND: Kind = Kind { stop_signal: "TERM", kill_signal: "KILL", is_ready };

/// A private PgBouncer in front of all databases of a server. It pools by transaction, with too few
/// connections for a client that relies on keeping one.
#[derive(Debug)]
#[must_use = "a server stops when it is dropped"]
pub struct PgBouncer(ProcessGuard);

impl PgBouncer {
    /// Starts a PgBouncer.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn start(server: &PostgresServer) -> Self {
        let command = [PGBOUNCER.path().into(), "pgbouncer.ini".into()];
        Self(ProcessGuard::start(&KIND, &command, |folder, port| {
            folder.write("users.txt", "\"postgres\" \"\"\n");
            let server_port = server.port();
            folder.write(
                "pgbouncer.ini",
                format!(
                    "[databases]\n\
                     * = host=127.0.0.1 port={server_port}\n\
                     [pgbouncer]\n\
                     listen_addr = 127.0.0.1\n\
                     listen_port = {port}\n\
                     unix_socket_dir =\n\
                     auth_type = trust\n\
                     auth_file = users.txt\n\
                     admin_users = postgres\n\
                     pool_mode = transaction\n\
                     default_pool_size = 4\n\
                     max_client_conn = 500\n"
                ),
            );
        }))
    }

    /// Its port on 127.0.0.1, which stays the same when it is started again.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.0.folder().path()
    }

    /// Stops it immediately: clients lose their connections.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again after a stop, and waits until it accepts connections.
    pub fn start_again(&self) {
        self.0.start_again();
    }
}

/// It logs that it listens, with its process id.
fn is_ready(folder: &Path, process: u32) -> bool {
    let log = fs::read(folder.join("log")).unwrap_or_default();
    let process = format!("[{process}]");
    String::from_utf8_lossy(&log)
        .lines()
        .any(|line| line.contains(&process) && line.contains("process up"))
}
