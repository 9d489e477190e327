//! The shell beside each server, which ends it when this process ends.
//!
//! A destructor is not enough: none runs for a static, or in a process that was killed.
//!
//! Not here: what the server is, and what is in its folder.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::folder::Folder;
use crate::port;
use crate::processes::{any_runs, children, signal, wait_until};

/// How many ports are tried where somebody else is faster each time.
const PORTS_MAX: usize = 5;

/// A kind of server.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The signal that asks it to stop, cleanly.
    pub(crate) stop: &'static str,
    /// The signal that ends it at once.
    pub(crate) end: &'static str,
    /// Whether the server in this folder, which is this process, takes connections: told from
    /// what it writes, because on its port somebody else may answer.
    pub(crate) is_ready: fn(&Path, u32) -> bool,
}

/// A server and its folder, which end with this value or this process, whichever is first.
#[derive(Debug)]
pub(crate) struct ProcessGuard {
    kind: &'static Kind,
    folder: Folder,
    port: u16,
    shell: Mutex<Shell>,
}

impl ProcessGuard {
    /// Prepares a folder for a server on that port, and runs the command in it.
    pub(crate) fn start(
        kind: &'static Kind,
        command: &[OsString],
        prepare: impl Fn(&Folder, u16),
    ) -> Self {
        for _ in 0..PORTS_MAX {
            let folder = Folder::new();
            let shell = Mutex::new(Shell::start(&folder, kind, command));
            let process_guard = Self { kind, folder, port: port::free(), shell };
            prepare(&process_guard.folder, process_guard.port);
            match process_guard.run() {
                Ok(()) => return process_guard,
                Err(why) if why.contains("ddress already in use") => {}
                Err(why) => panic!("{command:?} ended: {why}"),
            }
        }
        panic!("{command:?} found each of {PORTS_MAX} ports taken that were free before");
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops it cleanly, and waits for the end.
    pub(crate) fn stop(&self) {
        let server = self.server();
        signal(self.kind.stop, &[server]);
        self.await_end_of(&[server]);
    }

    /// Kills every process of the server's.
    pub(crate) fn kill(&self) {
        let processes = self.pause();
        signal("KILL", &processes);
        self.await_end_of(&processes);
    }

    /// Starts it again after it was stopped or killed, and waits until it takes connections.
    pub(crate) fn start_again(&self) {
        assert_eq!(self.shell().server, None, "the server was not stopped");
        self.run().unwrap_or_else(|why| panic!("the server did not start again: {why}"));
    }

    /// Stops every process of the server's where it stands, and gives them.
    pub(crate) fn pause(&self) -> Vec<u32> {
        let server = self.server();
        // First, so that it has no more children.
        signal("STOP", &[server]);
        let mut processes = children(server);
        signal("STOP", &processes);
        processes.push(server);
        processes
    }

    /// Lets it go on after a pause.
    pub(crate) fn resume(&self) {
        let server = self.server();
        let mut processes = children(server);
        processes.push(server);
        signal("CONT", &processes);
    }

    /// Runs the server until it takes connections.
    ///
    /// # Errors
    ///
    /// What it wrote, where it ends instead.
    fn run(&self) -> Result<(), String> {
        let server = self.shell().start_server();
        let mut ended = false;
        wait_until(
            || {
                let ready = (self.kind.is_ready)(self.folder.path(), server);
                ended = !ready && !any_runs(&[server]);
                ready || ended
            },
            || format!("the server does not come up:\n{}", self.folder.log_tail()),
        );
        if ended {
            self.shell().reap();
            return Err(self.folder.log_tail());
        }
        Ok(())
    }

    fn await_end_of(&self, processes: &[u32]) {
        wait_until(
            || !any_runs(processes),
            || format!("the server does not stop:\n{}", self.folder.log_tail()),
        );
        self.shell().reap();
    }

    fn server(&self) -> u32 {
        self.shell().server.expect("the server was stopped before")
    }

    fn shell(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Shell {
    child: Child,
    /// Taken when no more orders come.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The server's process, from its start until it was seen to end.
    server: Option<u32>,
}

impl Shell {
    fn start(folder: &Folder, kind: &Kind, command: &[OsString]) -> Self {
        let mut child = folder
            .command("sh")
            .args(["-c", include_str!("process_guard.sh"), "process_guard"])
            .arg(folder.path())
            .arg(kind.end)
            .args(command)
            // Whoever interrupts the tests at a terminal must not interrupt this.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server's user can run sh in its folder");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        Self { child, orders, answers, server: None }
    }

    fn start_server(&mut self) -> u32 {
        let server = self.order("start").trim().parse().expect("the shell tells the process");
        self.server = Some(server);
        server
    }

    /// Lets go of the server that ended.
    fn reap(&mut self) {
        self.order("reap");
        self.server = None;
    }

    fn order(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("it is taken last");
        writeln!(orders, "{order}").expect("the shell reads orders");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the shell answers");
        answer
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Whatever went wrong there, a test that passed did pass.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_hear_its_signal_ends_all_the_same() {
        static DEAF: Kind = Kind { stop: "TERM", end: "QUIT", is_ready: |_, _| true };
        // What a shell starts in the background ignores this signal until it says otherwise.
        let command = ["sleep".into(), "1000".into()];
        let process_guard = ProcessGuard::start(&DEAF, &command, |_, _| {});
        let server = process_guard.server();
        assert!(any_runs(&[server]));
        let end = std::thread::spawn(move || drop(process_guard));
        wait_until(|| end.is_finished(), || "the server does not end".to_owned());
        assert!(!any_runs(&[server]));
    }
}
