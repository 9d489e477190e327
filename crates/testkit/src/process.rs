//! The built server as a process: started, stopped, killed, and started again.
//!
//! Not here: requests to it.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;
use vaultsync_test_servers::free_port;

use crate::workload::Addresses;

/// How long a server may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a server may take to stop: its drain, and a margin.
const STOP_MAX: Duration = Duration::from_secs(60);

const INTERVAL: Duration = Duration::from_millis(10);

/// How a server is run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// A command, with its arguments, that runs the program: empty, or one that enters a namespace.
    pub wrapper: Vec<String>,
    /// The address it listens on.
    pub host: IpAddr,
    /// The folder of the local issuer's key, which several servers may share.
    pub data_dir: PathBuf,
    /// The value of `--database`.
    pub database: String,
    /// The level of its log.
    pub log: &'static str,
    /// Further flags.
    pub flags: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(&'static str, OsString)>,
}

impl ServerConfig {
    /// A server on this machine without rate limits, and with defaults for everything else.
    pub fn new(program: &Path, folder: &Path, database: String) -> Self {
        Self {
            program: program.to_owned(),
            wrapper: Vec::new(),
            host: Ipv4Addr::LOCALHOST.into(),
            data_dir: folder.join("data"),
            database,
            log: "warn",
            flags: vec!["--rate-limit".to_owned(), "0".to_owned()],
            variables: Vec::new(),
        }
    }
}

/// A server process. It is killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    config: ServerConfig,
    port: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl ServerProcess {
    /// Starts a server on a free port, and waits until it serves.
    pub async fn start(config: ServerConfig) -> anyhow::Result<Self> {
        let mut server = Self::prepare(config)?;
        server.start_again().await?;
        Ok(server)
    }

    /// Prepares a server that is not started yet.
    pub fn prepare(config: ServerConfig) -> anyhow::Result<Self> {
        fs::create_dir_all(&config.data_dir)?;
        let port = free_port();
        let log = config.data_dir.join(format!("server-{port}.log"));
        Ok(Self { config, port, log, child: None })
    }

    /// The address it listens on.
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.config.host, self.port)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The id of its process, or of the wrapper's.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it when it is not running, and waits until it serves.
    ///
    /// # Errors
    ///
    /// The end of its log, if it exits instead.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// Starts its process without waiting.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let config = &self.config;
        let program = path(&config.program);
        let command_line = [&config.wrapper[..], &[program]].concat();
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&command_line[0]);
        for (name, _) in std::env::vars_os() {
            let is_setting = ["VAULTSYNC_", "CLERK_", "DATABASE_URL"]
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix));
            if is_setting {
                command.env_remove(name);
            }
        }
        let child = command
            .args(&command_line[1..])
            .args(["serve", "--local-issuer=true", "--admin-listen", "off", "--log", config.log])
            .args(["--listen", &self.address().to_string()])
            .args(["--data-dir", &path(&config.data_dir), "--database", &config.database])
            .args(&config.flags)
            .envs(config.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run", config.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it serves.
    ///
    /// # Errors
    ///
    /// The end of its log, if it exits instead.
    pub async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.is_ready().await {
            if let Some(status) = self.exit_status()? {
                bail!("the server exited while starting ({status}):\n{}", self.log_tail());
            }
            if started.elapsed() > START_MAX {
                bail!("the server does not become ready:\n{}", self.log_tail());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Whether it reports that it is ready.
    pub async fn is_ready(&self) -> bool {
        is_ready(&self.url()).await
    }

    /// Kills it, as a power failure would end the process.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Sends it SIGTERM, and waits until it exits.
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let id = self.id().context("the server is not running")?;
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status()?;
        ensure!(sent.success(), "SIGTERM cannot be sent to the server");
        let started = Instant::now();
        loop {
            if let Some(status) = self.exit_status()? {
                self.child = None;
                return Ok(status);
            }
            if started.elapsed() > STOP_MAX {
                bail!("the server does not stop:\n{}", self.log_tail());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Its exit status, if it has exited.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the server is not running")?;
        Ok(child.try_wait()?)
    }

    /// Whether any of its processes has panicked so far.
    pub fn has_panicked(&self) -> bool {
        self.has_logged("panicked")
    }

    /// Whether any of its processes has logged this text so far.
    pub fn has_logged(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).unwrap_or_default().contains(text)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Its resident memory in KiB, which only Linux reports.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let id = self.id().context("the server is not running")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("/proc has no resident memory of the server")?.parse()?)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.kill();
    }
}

/// Whether the server with this base URL reports that it is ready.
pub async fn is_ready(url: &str) -> bool {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build();
    let response = client.unwrap_or_default().get(format!("{url}/readyz")).send().await;
    response.is_ok_and(|response| response.status().is_success())
}

/// The base URLs of servers.
pub fn addresses(servers: &[ServerProcess]) -> Addresses {
    servers.iter().map(ServerProcess::url).collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
