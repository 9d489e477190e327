//! How the programs of the servers, and programs in general, are found.
//!
//! Not here: running or installing them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// How a program is found.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The environment variable with its path, which takes precedence.
    pub variable: &'static str,
    /// Names in `PATH` or full paths, as [`in_path`] takes them.
    pub names: &'static [&'static str],
}

/// The PostgreSQL server. The other programs of PostgreSQL are in the same folder.
pub const POSTGRES: Program = Program {
    variable: "VAULTSYNC_TEST_POSTGRES",
    // Debian has one folder per version, and none of them is in `PATH`.
    names: &["postgres", "/usr/lib/postgresql/*/bin/postgres"],
};

/// PgBouncer.
pub const PGBOUNCER: Program =
    Program { variable: "VAULTSYNC_TEST_PGBOUNCER", names: &["pgbouncer", "/usr/sbin/pgbouncer"] };

/// The NATS server.
pub const NATS_SERVER: Program = Program {
    variable: "VAULTSYNC_TEST_NATS_SERVER",
    names: &["nats-server", "/usr/sbin/nats-server"],
};

/// nginx.
pub const NGINX: Program =
    Program { variable: "VAULTSYNC_TEST_NGINX", names: &["nginx", "/usr/sbin/nginx"] };

/// Caddy.
pub const CADDY: Program = Program { variable: "VAULTSYNC_TEST_CADDY", names: &["caddy"] };

/// HAProxy.
pub const HAPROXY: Program =
    Program { variable: "VAULTSYNC_TEST_HAPROXY", names: &["haproxy", "/usr/sbin/haproxy"] };

impl Program {
    /// The first line that the program prints with an argument that asks for its version.
    #[cfg(unix)]
    pub fn version(&self, argument: &str) -> String {
        let output = std::process::Command::new(self.path()).arg(argument).output();
        let output =
            output.unwrap_or_else(|error| panic!("{} cannot be run: {error}", self.names[0]));
        // nginx prints it to standard error.
        let printed = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&printed).lines().next().unwrap_or_default().to_owned()
    }

    #[cfg(unix)]
    pub(crate) fn path(&self) -> PathBuf {
        let path = env::var_os(self.variable).filter(|path| !path.is_empty());
        let found = match &path {
            Some(path) => in_path(path),
            None => self.names.iter().find_map(in_path),
        };
        found.unwrap_or_else(|| {
            let (name, variable) = (self.names[0], self.variable);
            panic!(
                "{name} was not found: `cargo xtask` installs what its commands need, or says how to. \
                 {variable} may contain its path"
            )
        })
    }
}

/// Finds a program by its name in `PATH`, or at a path. A folder `*` in a path matches any folder; if
/// several match, the one with the highest number is taken.
pub fn in_path(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(env::split_paths(&path), Path::new(program.as_ref()))
}

fn find_in(mut folders: impl Iterator<Item = PathBuf>, program: &Path) -> Option<PathBuf> {
    if program.components().count() == 1 {
        return folders.find_map(|folder| at(&folder.join(program)));
    }
    let mut parts = program.iter();
    let before: PathBuf = parts.by_ref().take_while(|part| *part != "*").collect();
    let after = parts.as_path();
    if before == program {
        return at(program);
    }
    let mut found: Vec<OsString> =
        fs::read_dir(before.as_path()).ok()?.flatten().map(|entry| entry.file_name()).collect();
    found.sort_by_key(|name| name.to_str().and_then(|name| name.parse::<u32>().ok()));
    found.iter().rev().find_map(|name| at(&before.join(name).join(after)))
}

/// The path, if there is a program at it.
fn at(path: &Path) -> Option<PathBuf> {
    is_program(path).then(|| path.to_owned())
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_a_folder_or_at_a_path() {
        let own = env::current_exe().expect("this program's path");
        let folder = own.parent().expect("its folder").to_owned();
        let name = Path::new(own.file_name().expect("its name"));
        let folders = || [PathBuf::from("/nowhere"), folder.clone()].into_iter();
        assert_eq!(find_in(folders(), name), Some(own.clone()));
        assert_eq!(find_in([].into_iter(), &own), Some(own));
        assert_eq!(find_in(folders(), Path::new("no-such-program")), None);
        assert_eq!(find_in(folders(), Path::new("/no/such/program")), None);
    }

    #[test]
    fn the_newest_of_several_versions_is_found() {
        let own = env::current_exe().expect("this program's path");
        let home = tempfile::tempdir().expect("a folder");
        let program = |version: &str| home.path().join(version).join("bin/server");
        for version in ["9", "15", "old", "16"] {
            fs::create_dir_all(program(version).parent().expect("its folder")).expect("a folder");
        }
        assert_eq!(find_in([].into_iter(), &program("*")), None);
        // Version 16 was removed, but its folder is left.
        for version in ["9", "15", "old"] {
            fs::copy(&own, program(version)).expect("a program");
        }
        assert_eq!(find_in([].into_iter(), &program("*")), Some(program("15")));
        assert_eq!(find_in([].into_iter(), Path::new("/nowhere/*/server")), None);
    }
}
