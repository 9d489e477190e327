//! A NATS server.

use std::fs;
use std::path::Path;

use crate::process_guard::{Kind, ProcessGuard};
use crate::programs::NATS_SERVER;

static KIND: Kind = Kind { stop_signal: "TERM", kill_signal: "KILL", is_ready };

/// A private NATS server without users or storage.
#[derive(Debug)]
#[must_use = "a server stops when it is dropped"]
pub struct NatsServer(ProcessGuard);

impl NatsServer {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn start() -> Self {
        let command = [NATS_SERVER.path().into(), "-c".into(), "nats.conf".into()];
        Self(ProcessGuard::start(&KIND, &command, |folder, port| {
            folder.write("nats.conf", format!("listen: 127.0.0.1:{port}\nports_file_dir: \".\"\n"));
        }))
    }

    /// Its port on 127.0.0.1, which stays the same when it is started again.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.0.folder().path()
    }

    /// Stops it, and waits until it has exited.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again after a stop, and waits until it accepts connections.
    pub fn start_again(&self) {
        self.0.start_again();
    }

    /// Suspends it: it answers nothing and closes nothing.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Resumes it after a pause.
    pub fn resume(&self) {
        self.0.resume();
    }
}

/// It writes a file with its ports when it listens.
fn is_ready(folder: &Path, process: u32) -> bool {
    let end = format!("_{process}.ports");
    let Ok(mut entries) = fs::read_dir(folder) else { return false };
    entries.any(|entry| entry.is_ok_and(|it| it.file_name().to_string_lossy().ends_with(&end)))
}
