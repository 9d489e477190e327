//! The binary, run as operators run it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use vaultsync_testkit::TestDatabase;

/// A running `vaultsync serve`. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    /// Standard output up to the last command to paste, or to its end.
    pub(crate) banner: String,
    /// Address of the API.
    pub(crate) url: String,
}

/// `vaultsync serve` on a free port with its data in `folder`, without metrics unless `flags` have an
/// address for them.
pub(crate) fn serve_command(folder: &Path, flags: &[&str]) -> Command {
    let mut command = vaultsync();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder).args(flags);
    if !flags.contains(&"--admin-listen") {
        command.args(["--admin-listen", "off"]);
    }
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The binary, without the settings in the environment of the test run.
pub(crate) fn vaultsync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vaultsync"));
    let is_setting = |name: &str| {
        name.starts_with("VAULTSYNC_") || name.starts_with("CLERK_") || name == "DATABASE_URL"
    };
    for (name, _) in std::env::vars().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command
}

/// A command that a shell runs after this one, such as one that sets limits.
#[cfg(target_os = "linux")]
pub(crate) fn after(setup: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{setup} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, _) in command.get_envs().filter(|(_, value)| value.is_none()) {
        shell.env_remove(name);
    }
    shell
}

impl Server {
    /// Like [`Self::start`], with `database` instead of the one in the folder.
    pub(crate) fn start_on(database: &TestDatabase, folder: &Path, flags: &[&str]) -> Self {
        Self::start(folder, &[&["--database", &database.url()], flags].concat())
    }

    /// Starts a server on a free port with its data in `folder`, and waits until it has printed its banner.
    pub(crate) fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::spawn(&mut serve_command(folder, flags))
    }

    /// Runs a command that runs the server, and waits until it has printed its banner.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut banner = String::new();
        let watchdog = Watchdog::over(child.id());
        while let Some(line) = lines.next().and_then(Result::ok) {
            banner.push_str(&line);
            banner.push('\n');
            if line.contains("/api/sync/pull") {
                break;
            }
        }
        drop(watchdog);
        let first = banner.lines().next().unwrap_or_default();
        let url = first.split_whitespace().last().expect("a first line").to_owned();
        assert!(url.starts_with("http://"), "{banner}");
        Self { child, banner, url }
    }

    /// Its process id.
    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Host and port of the API.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// URL of the metrics.
    pub(crate) fn metrics_url(&self) -> &str {
        let line = self.banner.lines().find_map(|line| line.trim().strip_prefix("metrics"));
        line.expect("an address for metrics").trim()
    }

    /// Sends a signal, such as `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the process to exit.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the process exits")
    }
}

/// Kills a process that takes longer than any start can, which ends the output that the test reads.
/// Dropping it disarms it.
struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn over(pid: u32) -> Self {
        let (alive, gone) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if gone.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        });
        Self { _alive: alive }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and returns its exit code, standard output and standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    (child.wait().expect("the process exits").code(), out, err)
}

/// Mints a token of the local issuer whose key is in `folder`.
pub(crate) fn token(folder: &Path, user: &str) -> String {
    let (code, out, err) =
        run(vaultsync().args(["token", "--user", user, "--data-dir"]).arg(folder));
    assert_eq!(code, Some(0), "{err}");
    out.trim().to_owned()
}
