//! A server's folder, and the user that it belongs to.
//!
//! Not here: its removal, which must happen even where this process is killed (`process_guard.rs`).

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much of the end of a log is shown.
const LOG_TAIL_LINES: usize = 30;

/// A folder that only the server's user can open.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The user and group that servers run as, where that is another than this process.
    user: Option<(u32, u32)>,
}

impl Folder {
    /// A new one, among the temporary files. Nobody removes it yet.
    pub(crate) fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("vaultsync-")
            .tempdir()
            .expect("a temporary folder can be made")
            .keep();
        let folder = Self { path, user: server_user() };
        folder.give(&folder.path);
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A program that runs there, as the server's user.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = plain_command(program);
        command.current_dir(&self.path);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Writes a file that only the server's user can read, as servers demand of their keys.
    pub(crate) fn put(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
        let path = self.path.join(name);
        fs::write(&path, contents).expect("the server's folder can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
        self.give(&path);
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).expect("root can give files away");
        }
    }

    /// The end of what the server wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.path.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// A program without the settings of whoever runs the tests, whose messages are in English.
pub(crate) fn plain_command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C");
    command
}

/// Runs it to its end and gives what it printed.
pub(crate) fn output_of(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}): {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// PostgreSQL and PgBouncer refuse to run as root: `postgres` is there where Debian installed
/// them, and `nobody` everywhere.
fn server_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let user = ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)));
    Some(user.expect("root has a user `nobody` to run servers as"))
}
