//! Secret files: small secrets that are created at the first start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// More than any secret has, so that a wrong file is not read completely.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Who besides the owner may have access to a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No other user: the secret signs users in.
    Owner,
    /// The groups of this process too. Kubernetes gives the group of a volume (`fsGroup`) access to all files
    /// at each start, and that is no danger for a secret that protects no user.
    OwnGroups,
}

/// Why a secret could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file could not be read or created.
    #[error("cannot {attempt} {}: {error}{}", path.display(), advice(error))]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// Users other than the owner have access to the secret.
    #[error(
        "{}: users other than its owner have access to it (mode {mode:03o}). Set its mode to 600, \
         with options of the mount if its file system has no modes. \
         If the secret may have been read, delete the file to create a new one. \
         On Kubernetes, `fsGroup` sets the mode at each start: add `fsGroupChangePolicy: OnRootMismatch`",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// What an operator can do about an error of the system, as further text.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        PermissionDenied => {
            ". The user that runs the server needs to read this file and to create files in its folder"
        }
        ReadOnlyFilesystem => ". Mount a folder that can be written to, and set `data_dir` to it",
        StorageFull | QuotaExceeded => ". Free some space and start again",
        _ => "",
    }
}

/// Reads the file at `path`. If it does not exist, creates it with the content that `make` returns.
///
/// If two processes create it at once, both get the same content. A file to which other users have access
/// than `access` says is refused.
pub fn load_or_create(
    path: &Path,
    access: Access,
    make: impl FnOnce() -> io::Result<Vec<u8>>,
) -> Result<Vec<u8>, SecretFileError> {
    let io_error = |attempt, error| SecretFileError::Io { attempt, path: path.to_owned(), error };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make()
                .and_then(|content| create(path, &content))
                .map_err(|error| io_error("create", error))?;
            File::open(path)
        }
        opened => opened,
    };
    let file = file.map_err(|error| io_error("read", error))?;
    // Of the open file, because the path may name another one by now.
    let metadata = file.metadata().map_err(|error| io_error("read", error))?;
    refuse_exposed(path, &metadata, access)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(|error| io_error("read", error))?;
    Ok(content)
}

/// Creates the file, unless another process was first.
///
/// The file is written under a temporary name, so that its own name appears with the whole content.
fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = beside(path, &Uuid::new_v4().to_string());
    // Unlike a rename, a link never replaces an existing file.
    let published = write_private(&draft, content).and_then(|()| {
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Some file systems have no links: those of Windows and of some clouds. Each says so in its way.
            Err(_) => publish_without_link(&draft, path),
            Ok(()) => Ok(()),
        }
    });
    // The draft is of no further use, if it still has its name.
    let _ = fs::remove_file(&draft);
    published.and_then(|()| sync_folder(path))
}

/// Renames the draft, under a lock that all processes take which create the file so. The system releases the
/// lock if the process ends.
fn publish_without_link(draft: &Path, path: &Path) -> io::Result<()> {
    let lock_path = beside(path, "lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path)?;
    lock.lock()?;
    if !path.try_exists()? {
        fs::rename(draft, path)?;
    }
    // A process that waits for the lock, or takes a new one, finds the file.
    let _ = fs::remove_file(&lock_path);
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    PathBuf::from(name)
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new(".")))?.sync_all() {
        // Some file systems cannot sync a folder.
        Err(error) if is_unsupported(&error) => Ok(()),
        synced => synced,
    }
}

#[cfg(unix)]
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn refuse_exposed(
    path: &Path,
    metadata: &fs::Metadata,
    access: Access,
) -> Result<(), SecretFileError> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = metadata.mode() & 0o777;
    let is_shared_with = |group| access == Access::OwnGroups && own_groups().contains(&group);
    if is_private(mode, || is_shared_with(metadata.gid())) {
        return Ok(());
    }
    Err(SecretFileError::Exposed { path: path.to_owned(), mode })
}

/// Whether only the owner has access, or the group too if it is an own one.
#[cfg(unix)]
fn is_private(mode: u32, is_own_group: impl Fn() -> bool) -> bool {
    let (for_group, for_others) = (mode & 0o070, mode & 0o007);
    for_others == 0 && (for_group == 0 || is_own_group())
}

/// The groups of this process. None where the system does not list them in a file, as only Linux does.
#[cfg(unix)]
fn own_groups() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let groups = |name| {
        let line = status.lines().find_map(move |line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().filter_map(|group| group.parse().ok())
    };
    groups("Gid:").chain(groups("Groups:")).collect()
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &fs::Metadata, _: Access) -> Result<(), SecretFileError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn load(path: &Path, access: Access) -> Result<Vec<u8>, SecretFileError> {
        load_or_create(path, access, || Ok(b"secret".to_vec()))
    }

    #[test]
    fn a_group_may_have_access_only_if_it_is_an_own_one_and_the_secret_allows_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        load(&path, Access::OwnGroups).unwrap();
        let group = fs::metadata(&path).unwrap().gid();
        assert!(!cfg!(target_os = "linux") || own_groups().contains(&group));
        for (mode, of_owner, of_own_groups) in
            [(0o600, true, true), (0o660, false, true), (0o640, false, true), (0o664, false, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&path, Access::Owner).is_ok(), of_owner, "{mode:o}");
            assert_eq!(is_private(mode, || true), of_own_groups, "{mode:o}");
            if cfg!(target_os = "linux") {
                assert_eq!(load(&path, Access::OwnGroups).is_ok(), of_own_groups, "{mode:o}");
            }
            assert_eq!(is_private(mode, || false), of_owner, "{mode:o} of another group");
        }
    }

    #[test]
    fn without_links_all_who_create_a_file_at_once_find_the_same_content() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.key");
            let create = |number: u8| {
                let draft = beside(&path, &format!("draft{number}"));
                write_private(&draft, &[number; 32]).unwrap();
                publish_without_link(&draft, &path).unwrap();
                fs::read(&path).unwrap()
            };
            let contents: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || create(n))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(contents.iter().all(|content| *content == contents[0]), "{contents:?}");
            assert_eq!(contents[0].len(), 32);
            assert!(!beside(&path, "lock").exists());
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/a.key");
        let error = load(&path, Access::Owner).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot create {}: ", path.display())), "{error}");
    }
}
