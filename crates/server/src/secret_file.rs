//! Secret files: small secrets that are created at the first start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// More than any secret has, so that a wrong file is not read completely.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why a secret could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file could not be read or created.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// Users other than the owner have access to the secret.
    #[error(
        "{}: users other than its owner have access to it (mode {mode:03o}). Set its mode to 600. \
         If the secret may have been read, delete the file to create a new one",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Reads the file at `path`. If it does not exist, creates it with the content that `make` returns.
///
/// If two processes create it at once, both get the same content. A file to which users other than
/// its owner have access is refused.
pub fn load_or_create(
    path: &Path,
    make: impl FnOnce() -> io::Result<Vec<u8>>,
) -> Result<Vec<u8>, SecretFileError> {
    let io_error = |error| SecretFileError::Io { path: path.to_owned(), error };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make().and_then(|content| create(path, &content)).map_err(io_error)?;
            File::open(path)
        }
        opened => opened,
    };
    let file = file.map_err(io_error)?;
    // Of the open file, because the path may name another one by now.
    refuse_exposed(path, &file.metadata().map_err(io_error)?)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(io_error)?;
    Ok(content)
}

/// Creates the file, unless another process was first.
///
/// The file is written under a temporary name and then linked, so that its name appears with the
/// whole content. Unlike a rename, a link never replaces an existing file.
fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", Uuid::new_v4()));
    let draft = Path::new(&draft);
    let linked = write_private(draft, content).and_then(|()| match fs::hard_link(draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    // The draft is of no further use, whether or not the link was created.
    let removed = fs::remove_file(draft);
    linked.and(removed).and_then(|()| sync_folder(path))
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
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), SecretFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    Err(SecretFileError::Exposed { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &fs::Metadata) -> Result<(), SecretFileError> {
    Ok(())
}
