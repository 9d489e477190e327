//! A server's folder, and the user that owns it.
//!
//! Not here: its removal, which must happen even if this process is killed (`process_guard.rs`).

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of lines shown from the end of a log.
const LOG_TAIL_LINES: usize = 30;

/// A folder that only the server's user can open.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The user and group that servers run as, if they differ from those of this process.
    user: Option<(u32, u32)>,
}

impl Folder {
    /// Creates a folder among the temporary files. The caller has to remove it.
    pub(crate) fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("vaultsync-")
            .tempdir()
            .expect("a temporary folder can be created")
            .keep();
        let folder = Self { path, user: server_user() };
        folder.change_owner(&folder.path);
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A program that runs in this folder as the server's user.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = plain_command(program);
        command.current_dir(&self.path);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Writes a file that only the server's user can read, as servers require for their keys.
    pub(crate) fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
        let path = self.path.join(name);
        fs::write(&path, contents).expect("the server's folder can be written");
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .expect("this process owns the file");
        self.change_owner(&path);
    }

    fn change_owner(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).expect("root can change the owner of a file");
        }
    }

    /// The end of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.path.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// A program without the `PG…` variables of the user who runs the tests, and with messages in English.
pub(crate) fn plain_command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C");
    command
}

/// Runs a command, and returns its standard output.
pub(crate) fn output_of(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}): {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// The user and group to run servers as, if this process runs as root: PostgreSQL and PgBouncer refuse to.
/// The user `postgres` exists if Debian installed them, and `nobody` exists everywhere.
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
