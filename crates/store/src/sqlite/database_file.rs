//! The database file as this process opened it: its lock, and whether its path still leads to it.
//!
//! SQLite keeps reading and writing the files that it has open, whatever happens to their names. A file that
//! is deleted or replaced under a running server would take pushes until the server stops, and then they
//! would be gone. The server therefore compares names and open files before it acknowledges a push.
//!
//! A write-ahead log is only valid beside the file it belongs to. SQLite does not check that: a backup that
//! is copied over the file of a killed server would be mixed with what the log has. The lock file therefore
//! has a stamp of the database file, renewed by each checkpoint, and the next start compares the two.
//!
//! Not here: what happens then (`health.rs`), and when checkpoints are made (`log.rs`).

use std::{fs::File, path::PathBuf, sync::Mutex};

use super::beside;
use crate::OpenError;

/// What happened to the files under a running server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileFault {
    pub(super) what: String,
    /// Whether the database file itself is still the one that is open.
    pub(super) file_is_whole: bool,
}

/// An open and locked database file.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    /// The absolute path that the settings name. It may lead through links.
    path: PathBuf,
    /// The path of the file itself. SQLite's other files are beside it.
    canonical: PathBuf,
    /// The open file. It is closed last: closing it releases the locks that SQLite has on it (fcntl(2)).
    file: File,
    /// `FILE.lock`, locked while this process serves from the database. Its content is the stamp.
    lock: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The names that must lead to the same files as long as the database is open.
    names: Vec<(PathBuf, FileId)>,
    /// The database file after this process changed it last. `None` while it is being changed.
    written: Option<Written>,
}

/// A database file as a checkpoint left it.
#[derive(Debug)]
struct Written {
    stamp: Stamp,
    /// SQLite's count of changes, from the file's header.
    changes: u32,
}

impl DatabaseFile {
    pub(super) fn new(path: PathBuf, canonical: PathBuf, file: File, lock: File) -> Self {
        Self { path, canonical, file, lock, state: Mutex::default() }
    }

    pub(super) fn canonical(&self) -> &std::path::Path {
        &self.canonical
    }

    /// The path of the write-ahead log.
    pub(super) fn log_path(&self) -> PathBuf {
        beside(&self.canonical, "-wal")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(not(unix))]
mod other {
    //! Where the system has no inodes, open files cannot be deleted or replaced.

    use std::io;

    use super::{DatabaseFile, FileFault, OpenError};

    #[derive(Debug)]
    pub(super) struct FileId;

    #[derive(Debug)]
    pub(super) struct Stamp;

    impl DatabaseFile {
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
        pub(in crate::sqlite) fn refuse_unsafe(&self) -> Result<(), OpenError> {
            Ok(())
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
        pub(in crate::sqlite) fn opened(&self) -> io::Result<()> {
            Ok(())
        }

        #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
        pub(in crate::sqlite) fn check(&self) -> Result<u64, FileFault> {
            Ok(std::fs::metadata(self.log_path()).map_or(0, |log| log.len()))
        }

        pub(in crate::sqlite) fn check_commit(&self) -> Result<u64, FileFault> {
            self.check()
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
        pub(in crate::sqlite) fn begin_change(&self) -> io::Result<()> {
            Ok(())
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
        pub(in crate::sqlite) fn end_change(&self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(not(unix))]
use other::{FileId, Stamp};

#[cfg(unix)]
use unix::{FileId, Stamp};

#[cfg(unix)]
mod unix {
    use std::{
        fs::{self, Metadata},
        io,
        os::unix::fs::{FileExt as _, MetadataExt as _},
        path::Path,
    };

    use super::{DatabaseFile, FileFault, OpenError, Written, beside};

    /// Device and inode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct FileId(u64, u64);

    impl FileId {
        fn of(metadata: &Metadata) -> Self {
            Self(metadata.dev(), metadata.ino())
        }
    }

    /// What shows that a database file is as a checkpoint left it. The inode is no part of it: a folder may
    /// be moved to another disk after a crash, with the times of its files.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Stamp {
        bytes: u64,
        seconds: i64,
        nanos: i64,
    }

    /// The length of the lock file. A stamp that is written only in part has no end.
    const STAMP_BYTES: usize = 64;

    impl Stamp {
        fn of(metadata: &Metadata) -> Self {
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            Self { bytes: metadata.size(), seconds, nanos }
        }

        fn encode(self) -> String {
            let Self { bytes, seconds, nanos } = self;
            format!("{:<width$}.", format!("{bytes} {seconds} {nanos}"), width = STAMP_BYTES - 1)
        }

        /// `None` if the text is not a whole stamp: the file was being changed.
        fn decode(text: &str) -> Option<Self> {
            let mut numbers = text.strip_suffix('.')?.split_whitespace();
            let stamp = Self {
                bytes: numbers.next()?.parse().ok()?,
                seconds: numbers.next()?.parse().ok()?,
                nanos: numbers.next()?.parse().ok()?,
            };
            numbers.next().is_none().then_some(stamp)
        }

        /// Whether the other stamp is of the same content. Archives and some file systems keep no fractions
        /// of seconds.
        fn matches(self, other: Self) -> bool {
            let same_nanos = self.nanos == other.nanos || self.nanos == 0 || other.nanos == 0;
            self.bytes == other.bytes && self.seconds == other.seconds && same_nanos
        }
    }

    /// SQLite's count of the changes of a file, in its header: a backup begins at 1 or has an earlier count
    /// than the file it was made of.
    fn change_count(file: &fs::File) -> io::Result<u32> {
        let mut count = [0; 4];
        file.read_exact_at(&mut count, 24)?;
        Ok(u32::from_be_bytes(count))
    }

    impl DatabaseFile {
        /// Refuses a file that another server could open under another name, and one that was put beside a
        /// write-ahead log of another file.
        pub(in crate::sqlite) fn refuse_unsafe(&self) -> Result<(), OpenError> {
            let io_error = |error| OpenError::Io { path: self.path.clone(), error };
            let metadata = self.file.metadata().map_err(io_error)?;
            if metadata.nlink() > 1 {
                return Err(OpenError::HardLinks {
                    path: self.path.clone(),
                    names: metadata.nlink(),
                });
            }
            let has_log = fs::metadata(self.log_path()).is_ok_and(|log| log.len() > 0);
            let mut text = [0; STAMP_BYTES];
            let recorded = self.lock.read_exact_at(&mut text, 0).ok();
            let recorded = recorded.and_then(|()| Stamp::decode(str::from_utf8(&text).ok()?));
            match recorded {
                Some(stamp) if has_log && !stamp.matches(Stamp::of(&metadata)) => {
                    Err(OpenError::StaleLog { path: self.canonical.clone() })
                }
                _ => Ok(()),
            }
        }

        /// Remembers which files are open. SQLite has opened all of them by now, and keeps them open.
        pub(in crate::sqlite) fn opened(&self) -> io::Result<()> {
            let mut names = vec![(self.path.clone(), FileId::of(&self.file.metadata()?))];
            for suffix in ["-wal", "-shm"] {
                let path = beside(&self.canonical, suffix);
                let id = FileId::of(&fs::metadata(&path)?);
                names.push((path, id));
            }
            self.state().names = names;
            self.end_change()
        }

        /// Checks that the names still lead to the files that are open, and that no other file was copied
        /// into the database file. Returns the length of the log.
        pub(in crate::sqlite) fn check(&self) -> Result<u64, FileFault> {
            self.check_names(usize::MAX)
        }

        /// The same without the index, which only other processes open by its name: two calls of the system.
        pub(in crate::sqlite) fn check_commit(&self) -> Result<u64, FileFault> {
            self.check_names(2)
        }

        fn check_names(&self, names_max: usize) -> Result<u64, FileFault> {
            let mut state = self.state();
            let mut log_bytes = 0;
            let state = &mut *state;
            for (index, (path, id)) in state.names.iter().take(names_max).enumerate() {
                let is_database = index == 0;
                let fault = |what| FileFault { what, file_is_whole: !is_database };
                let Some(found) = check_name(path, *id).map_err(fault)? else { continue };
                match index {
                    0 => self.check_content(&found, &mut state.written).map_err(fault)?,
                    1 => log_bytes = found.len(),
                    _ => {}
                }
            }
            Ok(log_bytes)
        }

        fn check_content(
            &self,
            found: &Metadata,
            written: &mut Option<Written>,
        ) -> Result<(), String> {
            let found = Stamp::of(found);
            let Some(expected) = written.as_mut().filter(|written| written.stamp != found) else {
                return Ok(());
            };
            // Another process has written. That can be a tool that makes checkpoints, or one that compacts the
            // file. A file that is copied over this one seldom has a later count.
            let is_later = change_count(&self.file).is_ok_and(|count| {
                count > expected.changes
                    || count == expected.changes && found.bytes >= expected.stamp.bytes
            });
            if !is_later {
                return Err(format!("another file was copied over {}", self.path.display()));
            }
            expected.stamp = found;
            // For the next start, which would otherwise take this file for another one.
            if let Err(error) = self.lock.write_all_at(found.encode().as_bytes(), 0) {
                tracing::warn!(%error, "the lock file cannot be written");
            }
            Ok(())
        }

        /// Notes durably that the file is about to be changed, so that the next start expects no stamp.
        pub(in crate::sqlite) fn begin_change(&self) -> io::Result<()> {
            self.state().written = None;
            self.lock.write_all_at(format!("{:<STAMP_BYTES$}", "changing").as_bytes(), 0)?;
            self.lock.sync_data()
        }

        /// Notes the file as it is from now on.
        pub(in crate::sqlite) fn end_change(&self) -> io::Result<()> {
            // Its time of change too: after a power failure the file must not have an earlier one.
            self.file.sync_all()?;
            let stamp = Stamp::of(&self.file.metadata()?);
            let changes = change_count(&self.file)?;
            self.state().written = Some(Written { stamp, changes });
            self.lock.write_all_at(stamp.encode().as_bytes(), 0)
        }
    }

    /// The file under a name, if it is the one with this id. `None` if that cannot be said.
    fn check_name(path: &Path, id: FileId) -> Result<Option<Metadata>, String> {
        match fs::metadata(path) {
            Ok(metadata) if FileId::of(&metadata) == id => Ok(Some(metadata)),
            Ok(_) => Err(format!("{} was replaced by another file", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{} was deleted or moved", path.display()))
            }
            // The name may still lead to the open file.
            Err(_) => Ok(None),
        }
    }
}
