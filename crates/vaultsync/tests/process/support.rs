//! The built program, run as its users run it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use vaultsync_testkit::TestDatabase;

/// A running `vaultsync serve`. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// What it said on standard output until it said what to paste, or until it ended.
    pub(crate) banner: String,
    /// Where it listens.
    pub(crate) url: String,
}

/// The program, with none of the settings of whoever runs the tests.
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

impl Server {
    /// Starts a server on that database, as [`Self::start`] does on the one in its folder.
    pub(crate) fn start_on(database: &TestDatabase, folder: &Path, flags: &[&str]) -> Self {
        Self::start(folder, &[&["--database", &database.url()], flags].concat())
    }

    /// Starts a server on free ports with its data in `folder`, and waits until it listens.
    pub(crate) fn start(folder: &Path, flags: &[&str]) -> Self {
        let mut child = vaultsync()
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--data-dir"])
            .arg(folder)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
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

    /// Sends a signal, such as `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

/// Kills a program that takes longer than any start can, so that whoever reads what it says reads its
/// end. Let go in time, it does nothing.
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
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end: its exit code, standard output and standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    (child.wait().expect("it ends").code(), out, err)
}

/// A token of the local issuer whose key is in `folder`.
pub(crate) fn token(folder: &Path, user: &str) -> String {
    let (code, out, err) =
        run(vaultsync().args(["token", "--user", user, "--data-dir"]).arg(folder));
    assert_eq!(code, Some(0), "{err}");
    out.trim().to_owned()
}
