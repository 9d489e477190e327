//! The built server as a process: started, told to stop, killed, and started again.
//!
//! Not here: what is asked of it.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rand::RngExt as _;
use tokio::time::Instant;

use crate::{load::Addresses, shell};

/// How long a server may take until it serves, on a machine that has much else to do.
const START_MAX: Duration = Duration::from_secs(60);

/// How long it may take to end when it is told to: its drain, and some.
const END_MAX: Duration = Duration::from_secs(60);

const INTERVAL: Duration = Duration::from_millis(10);

/// Below the ports that systems give to whoever asks for any, so that nobody takes one while its
/// server is down.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// How a server is run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// What runs the program, with its arguments: nothing, or another namespace.
    pub within: Vec<String>,
    /// The address it listens on.
    pub host: Ipv4Addr,
    /// The folder of the local issuer's key, which several servers may share.
    pub data_dir: PathBuf,
    /// The database, as the setting has it.
    pub database: String,
    /// Further flags.
    pub flags: Vec<String>,
    /// Variables.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Spec {
    /// A server on this machine, without rates and with all else by default.
    pub fn new(program: &Path, folder: &Path, database: String) -> Self {
        Self {
            program: program.to_owned(),
            within: Vec::new(),
            host: Ipv4Addr::LOCALHOST,
            data_dir: folder.join("data"),
            database,
            flags: vec!["--rate-limit".to_owned(), "0".to_owned()],
            variables: Vec::new(),
        }
    }
}

/// A server. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    spec: Spec,
    port: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts one on a free port, and waits until it serves.
    pub async fn start(spec: Spec) -> anyhow::Result<Self> {
        let mut server = Self::prepare(spec)?;
        server.start_again().await?;
        Ok(server)
    }

    /// One that is not started yet.
    pub fn prepare(spec: Spec) -> anyhow::Result<Self> {
        fs::create_dir_all(&spec.data_dir)?;
        let port = free_port()?;
        let log = spec.data_dir.join(format!("server-{port}.log"));
        Ok(Self { spec, port, log, child: None })
    }

    /// Its address, as clients take it.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.spec.host, self.port)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process, or the one that it runs within.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it where it is not running, and waits until it serves.
    ///
    /// # Errors
    ///
    /// The end of its log, where it ends instead.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        let begun = Instant::now();
        while !self.is_ready().await {
            if let Some(ended) = self.ended()? {
                bail!("the server ended at its start ({ended}):\n{}", self.log_tail());
            }
            if begun.elapsed() > START_MAX {
                bail!("the server does not come up:\n{}", self.log_tail());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Starts its process, and does not wait.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let spec = &self.spec;
        let (first, rest) = match spec.within.split_first() {
            Some((first, rest)) => (PathBuf::from(first), [rest, &[path(&spec.program)]].concat()),
            None => (spec.program.clone(), Vec::new()),
        };
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(first);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = ["VAULTSYNC_", "CLERK_", "DATABASE_URL"];
            if ours.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let child = command
            .args(rest)
            .args(["serve", "--local-issuer=true", "--admin-listen", "off", "--log", "warn"])
            .args(["--listen", &format!("{}:{}", spec.host, self.port)])
            .args(["--data-dir", &path(&spec.data_dir), "--database", &spec.database])
            .args(&spec.flags)
            .envs(spec.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run", spec.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether it says that it can serve.
    pub async fn is_ready(&self) -> bool {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build();
        let asked = client.unwrap_or_default().get(format!("{}/readyz", self.url())).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Ends it as a power cut would end the process.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Tells it to stop, and waits for its end.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let id = self.id().context("the server is not running")?;
        shell::run("sh", &["-c", &format!("kill -TERM {id}")])?;
        let begun = Instant::now();
        loop {
            if let Some(ended) = self.ended()? {
                self.child = None;
                return Ok(ended);
            }
            if begun.elapsed() > END_MAX {
                bail!("the server does not stop:\n{}", self.log_tail());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the server is not running")?;
        Ok(child.try_wait()?)
    }

    /// Whether any of its processes panicked so far.
    pub fn panicked(&self) -> bool {
        fs::read_to_string(&self.log).unwrap_or_default().contains("panicked")
    }

    /// The end of what it said.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// What it has in memory now, in KiB.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let id = self.id().context("the server is not running")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("Linux tells what a process has in memory")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Where these servers are.
pub fn addresses(servers: &[Server]) -> Addresses {
    servers.iter().map(Server::url).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn free_port() -> anyhow::Result<u16> {
    let start = rand::rng().random_range(PORTS);
    (start..PORTS.end)
        .chain(PORTS)
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .context("there is no free port")
}
