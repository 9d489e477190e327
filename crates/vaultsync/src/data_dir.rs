//! The folder that holds what only this server may read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;

/// Makes the folder where there is none, for its owner alone.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// The key that hides record ids in logs, drawn at random at the first start.
pub(crate) fn log_key(folder: &Path) -> anyhow::Result<[u8; 32]> {
    let path = folder.join("log.key");
    let key = match fs::read(&path) {
        Ok(bytes) => bytes.try_into().ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(draw(&path)?),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    key.with_context(|| format!("{} is not 32 bytes long: remove it", path.display()))
}

fn draw(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(&key))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_drawn_once() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create(&inner).unwrap();
        let key = log_key(&inner).unwrap();
        assert_eq!(log_key(&inner).unwrap(), key);
        fs::remove_file(inner.join("log.key")).unwrap();
        assert_ne!(log_key(&inner).unwrap(), key);
        fs::write(inner.join("log.key"), b"short").unwrap();
        assert!(log_key(&inner).is_err());
    }
}
