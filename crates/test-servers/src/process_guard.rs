//! The guard of a server: a shell beside it that stops the server when this process ends.
//!
//! A destructor is not enough: none runs for a static, or in a process that is killed.
//!
//! Not here: which server it is, and the contents of its folder.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::folder::Folder;
use crate::port;
use crate::processes::{any_runs, children, signal, wait_until};

/// Number of ports to try if another process takes a free port first each time.
const PORTS_MAX: usize = 5;

/// A kind of server.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The signal that asks the server to stop cleanly.
    pub(crate) stop_signal: &'static str,
    /// The signal that stops the server immediately.
    pub(crate) kill_signal: &'static str,
    /// Whether the server with this folder and process id accepts connections. It checks what the server
    /// writes, because another process may answer on its port.
    pub(crate) is_ready: fn(&Path, u32) -> bool,
}

/// A server and its folder, which end with this value or with this process, whichever ends first.
#[derive(Debug)]
pub(crate) struct ProcessGuard {
    kind: &'static Kind,
    folder: Folder,
    port: u16,
    shell: Mutex<Shell>,
}

impl ProcessGuard {
    /// Prepares a folder for a server on a free port, and runs the server's command in it.
    pub(crate) fn start(
        kind: &'static Kind,
        command: &[OsString],
        prepare: impl Fn(&Folder, u16),
    ) -> Self {
        for _ in 0..PORTS_MAX {
            let folder = Folder::new();
            let shell = Mutex::new(Shell::start(&folder, kind, command));
            let guard = Self { kind, folder, port: port::free(), shell };
            prepare(&guard.folder, guard.port);
            match guard.run() {
                Ok(()) => return guard,
                Err(log) if log.contains("ddress already in use") => {}
                Err(log) => panic!("{command:?} exited: {log}"),
            }
        }
        panic!("{command:?} found each of {PORTS_MAX} ports in use that were free before");
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server cleanly, and waits until it has exited.
    pub(crate) fn stop(&self) {
        let server = self.server();
        signal(self.kind.stop_signal, &[server]);
        self.wait_for_exit(&[server]);
    }

    /// Kills every process of the server.
    pub(crate) fn kill(&self) {
        let processes = self.pause();
        signal("KILL", &processes);
        self.wait_for_exit(&processes);
    }

    /// Starts the server again after it was stopped or killed, and waits until it accepts connections.
    pub(crate) fn start_again(&self) {
        assert_eq!(self.shell().server, None, "the server was not stopped");
        self.run().unwrap_or_else(|log| panic!("the server did not start again: {log}"));
    }

    /// Suspends every process of the server, and returns their ids.
    pub(crate) fn pause(&self) -> Vec<u32> {
        let server = self.server();
        // First, so that it starts no more children.
        signal("STOP", &[server]);
        let mut processes = children(server);
        signal("STOP", &processes);
        processes.push(server);
        processes
    }

    /// Resumes the server after a pause.
    pub(crate) fn resume(&self) {
        let server = self.server();
        let mut processes = children(server);
        processes.push(server);
        signal("CONT", &processes);
    }

    /// Runs the server, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// The end of its log, if it exits instead.
    fn run(&self) -> Result<(), String> {
        let server = self.shell().start_server();
        let mut has_exited = false;
        wait_until(
            || {
                let is_ready = (self.kind.is_ready)(self.folder.path(), server);
                has_exited = !is_ready && !any_runs(&[server]);
                is_ready || has_exited
            },
            || format!("the server does not become ready:\n{}", self.folder.log_tail()),
        );
        if has_exited {
            self.shell().reap();
            return Err(self.folder.log_tail());
        }
        Ok(())
    }

    fn wait_for_exit(&self, processes: &[u32]) {
        wait_until(
            || !any_runs(processes),
            || format!("the server does not stop:\n{}", self.folder.log_tail()),
        );
        self.shell().reap();
    }

    /// Its process id.
    pub(crate) fn server(&self) -> u32 {
        self.shell().server.expect("the server was stopped before")
    }

    fn shell(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Shell {
    child: Child,
    /// Closed when there are no more commands.
    commands: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// The server's process id, from its start until its exit was noticed.
    server: Option<u32>,
}

impl Shell {
    fn start(folder: &Folder, kind: &Kind, command: &[OsString]) -> Self {
        let mut child = folder
            .command("sh")
            .args(["-c", include_str!("process_guard.sh"), "process_guard"])
            .arg(folder.path())
            .arg(kind.kill_signal)
            .args(command)
            // An interrupt of the tests at a terminal must not interrupt the shell.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server's user can run sh in its folder");
        let commands = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, commands, replies, server: None }
    }

    fn start_server(&mut self) -> u32 {
        let server = self.run("start").trim().parse().expect("the shell prints the process id");
        self.server = Some(server);
        server
    }

    /// Reaps the server after it has exited.
    fn reap(&mut self) {
        self.run("reap");
        self.server = None;
    }

    fn run(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("it is closed only on drop");
        writeln!(commands, "{command}").expect("the shell reads commands");
        let mut reply = String::new();
        self.replies.read_line(&mut reply).expect("the shell replies");
        reply
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.commands.take());
        // An error here does not make a test fail that has passed.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ignores_its_signal_is_killed() {
        static DEAF: Kind =
            Kind { stop_signal: "TERM", kill_signal: "QUIT", is_ready: |_, _| true };
        // A background process of a shell ignores SIGQUIT by default.
        let command = ["sleep".into(), "1000".into()];
        let guard = ProcessGuard::start(&DEAF, &command, |_, _| {});
        let server = guard.server();
        assert!(any_runs(&[server]));
        let dropped = std::thread::spawn(move || drop(guard));
        wait_until(|| dropped.is_finished(), || "the server does not stop".to_owned());
        assert!(!any_runs(&[server]));
    }
}
