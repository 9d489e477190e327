//! PgBouncer, before a PostgreSQL server.

use std::fs;
use std::path::Path;

use crate::PostgresServer;
use crate::process_guard::{Kind, ProcessGuard};
use crate::programs::PGBOUNCER;

static KIND: Kind = Kind { stop: "TERM", end: "KILL", is_ready };

/// A PgBouncer of one's own, before every database of a server: it gives a connection away after
/// each transaction, and has fewer than a server needs that counts on keeping one.
#[derive(Debug)]
#[must_use = "a server ends when it is dropped"]
pub struct PgBouncer(ProcessGuard);

impl PgBouncer {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// Where it cannot, with the reason.
    pub fn start(server: &PostgresServer) -> Self {
        let command = [PGBOUNCER.path().into(), "pgbouncer.ini".into()];
        Self(ProcessGuard::start(&KIND, &command, |folder, port| {
            folder.put("users.txt", "\"postgres\" \"\"\n");
            let server_port = server.port();
            folder.put(
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

    /// Its port on 127.0.0.1, the same one after it was started again.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.0.folder().path()
    }

    /// Stops it at once: clients lose their connections.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again after a stop, and waits until it takes connections.
    pub fn start_again(&self) {
        self.0.start_again();
    }
}

/// It says so once it listens, and by which process.
fn is_ready(folder: &Path, process: u32) -> bool {
    let log = fs::read(folder.join("log")).unwrap_or_default();
    let process = format!("[{process}]");
    String::from_utf8_lossy(&log)
        .lines()
        .any(|line| line.contains(&process) && line.contains("process up"))
}
