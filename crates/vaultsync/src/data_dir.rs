//! Folder of the files that only this server may read.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use vaultsync_server::secret_file::{self, Access};

/// Creates the folder if it is missing, accessible only to its owner.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(|| {
        format!(
            "cannot create the folder {} (setting `data_dir`): create it for the user that runs the \
             server, or name another one",
            folder.display()
        )
    })
}

/// Key that hashes record ids in logs. It is generated at the first start. It protects no user's data, so a
/// group of the process may read it.
pub(crate) fn log_key(folder: &Path) -> anyhow::Result<[u8; 32]> {
    let path = folder.join("log.key");
    let key = secret_file::load_or_create(&path, Access::OwnGroups, || {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(key)
    })?;
    key.try_into()
        .ok()
        .with_context(|| format!("{} is not 32 bytes long: remove the file", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_generated_once() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create(&inner).unwrap();
        let key = log_key(&inner).unwrap();
        assert_eq!(log_key(&inner).unwrap(), key);
        fs::remove_file(inner.join("log.key")).unwrap();
        assert_ne!(log_key(&inner).unwrap(), key);
        // Overwrites the file: a new one would be readable by other users, which is another error.
        fs::write(inner.join("log.key"), b"short").unwrap();
        assert!(log_key(&inner).is_err());
    }
}
