//! Free space of the file system that holds a database.

use std::path::Path;

use crate::StoreError;

/// Free space below which a disk counts as full, in bytes: enough for a push of the largest record of the
/// default size, in the write-ahead log and in the database.
pub const DISK_FREE_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Fails if the file system of a file or folder is almost full, or if it cannot be asked. A missing file is
/// no question of room. May block.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let free = match free_bytes(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        free => free.map_err(|error| StoreError::Unavailable(error.to_string()))?,
    };
    if free < DISK_FREE_BYTES_MIN {
        return Err(StoreError::Unavailable(format!("{free} bytes are free on the disk")));
    }
    Ok(())
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let file_system = rustix::fs::statvfs(path)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

/// Not known without a system call that the standard library does not have.
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> std::io::Result<u64> {
    Ok(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_room_passes_and_one_that_cannot_be_asked_does_not() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path()).unwrap();
        check(&folder.path().join("missing")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(cfg!(not(unix)) || check(&folder.path().join("file/no-folder")).is_err());
    }
}
