//! The nodes: processes of the built program.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::Addresses;

/// How long a node may take until it serves, on a machine that has much else to do.
const START_MAX: Duration = Duration::from_secs(60);

/// Processes that serve from one database.
pub(super) struct Nodes {
    program: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    ports: Vec<u16>,
    processes: Vec<Option<Child>>,
}

impl Nodes {
    /// Starts `count` of them at once, and waits until all of them serve.
    pub(super) async fn start(
        program: &Path,
        folder: &Path,
        flags: &[String],
        count: usize,
    ) -> Self {
        let mut nodes = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            flags: flags.to_vec(),
            ports: free_ports(count),
            processes: (0..count).map(|_| None).collect(),
        };
        for number in 0..count {
            nodes.spawn(number);
        }
        for number in 0..count {
            nodes.wait_until_ready(number).await;
        }
        nodes
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect()
    }

    /// Ends a node as a power cut would.
    pub(super) fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.processes[number].take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    pub(super) async fn start_again(&mut self, number: usize) {
        self.spawn(number);
        self.wait_until_ready(number).await;
    }

    fn spawn(&mut self, number: usize) {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = ["VAULTSYNC_", "CLERK_", "DATABASE_URL"];
            if ours.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let process = command
            .args(["serve", "--admin-listen", "off", "--rate-limit", "0", "--log", "warn"])
            .args(["--listen", &format!("127.0.0.1:{}", self.ports[number])])
            .arg("--data-dir")
            .arg(&self.folder)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        self.processes[number] = Some(process);
    }

    async fn wait_until_ready(&mut self, number: usize) {
        let url = format!("http://127.0.0.1:{}/readyz", self.ports[number]);
        let process = self.processes[number].as_mut().expect("it was started");
        let ready = async {
            loop {
                let ended = process.try_wait().expect("a child can be asked");
                assert!(ended.is_none(), "node {number} ended at its start: {ended:?}");
                if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(START_MAX, ready).await.expect("a node serves soon");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for number in 0..self.processes.len() {
            self.kill(number);
        }
    }
}

/// Ports that nobody listens on now. All are held until the last is found, so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().expect("a bound address").port())
        .collect()
}
