//! nginx, Caddy and HAProxy with a configuration file of the caller.
//!
//! Not here: the load balancer that the tests of a restart need (`nginx.rs`).

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::process_guard::{Kind, ProcessGuard};
use crate::programs::{CADDY, HAPROXY, NGINX};

/// A program that forwards HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProgram {
    /// nginx. Its configuration must log to `log`, and have the paths of temporary files set.
    Nginx,
    /// Caddy, with a Caddyfile. It must turn the address for control off, or have a free one.
    Caddy,
    /// HAProxy.
    HaProxy,
}

/// A private reverse proxy on a free port of 127.0.0.1.
#[derive(Debug)]
#[must_use = "a server stops when it is dropped"]
pub struct ReverseProxy(ProcessGuard);

impl ReverseProxy {
    /// Starts a proxy. `config` returns its configuration file for a port.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn start(program: ProxyProgram, config: impl Fn(u16) -> String) -> Self {
        let (kind, command) = program.command();
        Self(ProcessGuard::start(kind, &command, |folder, port| {
            folder.write(CONFIG, config(port));
        }))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}

/// The configuration file, in the folder of the server.
const CONFIG: &str = "config";

// If the main process of nginx or HAProxy were killed, the others would go on.
static NGINX_KIND: Kind =
    Kind { stop_signal: "TERM", kill_signal: "TERM", is_ready: has_written_pid };

static CADDY_KIND: Kind = Kind {
    stop_signal: "TERM",
    kill_signal: "KILL",
    is_ready: |folder, _| has_logged(folder, "serving initial configuration"),
};

static HAPROXY_KIND: Kind = Kind {
    stop_signal: "TERM",
    kill_signal: "TERM",
    is_ready: |folder, _| has_logged(folder, "Loading success"),
};

impl ProxyProgram {
    fn command(self) -> (&'static Kind, Vec<OsString>) {
        let with = |program: OsString, arguments: &[&str]| {
            [program].into_iter().chain(arguments.iter().map(Into::into)).collect()
        };
        match self {
            Self::Nginx => {
                let settings = "daemon off; pid nginx.pid;";
                let arguments = ["-p", ".", "-e", "log", "-c", CONFIG, "-g", settings];
                (&NGINX_KIND, with(NGINX.path().into(), &arguments))
            }
            Self::Caddy => {
                let program = CADDY.path();
                let arguments = [
                    "HOME=.",
                    &program.to_string_lossy(),
                    "run",
                    "--config",
                    CONFIG,
                    "--adapter",
                    "caddyfile",
                ];
                (&CADDY_KIND, with("env".into(), &arguments))
            }
            // With a main process, which logs when the others serve.
            Self::HaProxy => (&HAPROXY_KIND, with(HAPROXY.path().into(), &["-W", "-f", CONFIG])),
        }
    }

    /// Its name and version.
    pub fn version(self) -> String {
        let (name, printed) = match self {
            Self::Nginx => ("nginx", NGINX.version("-v").replace("nginx version: nginx/", "")),
            Self::Caddy => ("Caddy", CADDY.version("version")),
            Self::HaProxy => ("HAProxy", HAPROXY.version("-v").replace("HAProxy version ", "")),
        };
        format!("{name} {}", printed.split(' ').next().unwrap_or_default())
    }
}

/// Whether nginx has written its process id, which it does when it listens.
pub(crate) fn has_written_pid(folder: &Path, process: u32) -> bool {
    let written = fs::read_to_string(folder.join("nginx.pid")).unwrap_or_default();
    written.trim() == process.to_string()
}

fn has_logged(folder: &Path, text: &str) -> bool {
    let log = fs::read(folder.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&log).contains(text)
}
