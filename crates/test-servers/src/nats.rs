//! A NATS server.

use std::fs;
use std::path::Path;

use crate::process_guard::{Kind, ProcessGuard};
use crate::programs::NATS_SERVER;

static KIND: Kind = Kind { stop: "TERM", end: "KILL", is_ready };

/// A NATS server of one's own, without users or storage.
#[derive(Debug)]
#[must_use = "a server ends when it is dropped"]
pub struct NatsServer(ProcessGuard);

impl NatsServer {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// Where it cannot, with the reason.
    pub fn start() -> Self {
        let command = [NATS_SERVER.path().into(), "-c".into(), "nats.conf".into()];
        Self(ProcessGuard::start(&KIND, &command, |folder, port| {
            folder.put("nats.conf", format!("listen: 127.0.0.1:{port}\nports_file_dir: \".\"\n"));
        }))
    }

    /// Its port on 127.0.0.1, the same one after it was started again.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.0.folder().path()
    }

    /// Stops it, and waits for the end.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again after a stop, and waits until it takes connections.
    pub fn start_again(&self) {
        self.0.start_again();
    }

    /// Stops it where it stands: it answers nobody and closes nothing.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Lets it go on after a pause.
    pub fn resume(&self) {
        self.0.resume();
    }
}

/// It writes a file with its ports once it listens.
fn is_ready(folder: &Path, process: u32) -> bool {
    let end = format!("_{process}.ports");
    let Ok(mut entries) = fs::read_dir(folder) else { return false };
    entries.any(|entry| entry.is_ok_and(|it| it.file_name().to_string_lossy().ends_with(&end)))
}
