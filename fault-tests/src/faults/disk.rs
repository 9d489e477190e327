//! A disk that fails, or is full, at a chosen write, sync or truncation of the database's files.
//!
//! A preloaded C library (`disk.c`) intercepts the server's system calls, so that SQLite runs unmodified. It
//! is controlled by a file that both processes use, so that a fault starts and ends while the server runs.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A kind of system call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A write to a file.
    Write,
    /// A sync to the disk.
    Sync,
    /// A change of the file's length.
    Truncate,
}

/// How the calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One call fails with EIO.
    IoErrorOnce,
    /// All calls fail with EIO until the fault is cleared.
    IoError,
    /// All calls fail with ENOSPC until the fault is cleared. The first write still writes half.
    DiskFull,
}

/// The disk of a server. It works until a fault is injected.
#[derive(Debug)]
pub struct FaultyDisk {
    library: PathBuf,
    control: PathBuf,
    file: File,
    path_part: &'static str,
}

const EIO: u64 = 5;
const ENOSPC: u64 = 28;

/// The words of the control file.
const CALLS: u64 = 0;
const FIRST: u64 = 1;
const COUNT: u64 = 2;
const ERROR: u64 = 3;
const KINDS: u64 = 4;
const HALVE: u64 = 5;
const FAILED: u64 = 6;

impl FaultyDisk {
    /// Compiles the library. Only files with `path_part` in their path are affected.
    pub fn new(folder: &Path, path_part: &'static str) -> anyhow::Result<Self> {
        let library = super::compile(include_str!("disk.c"), folder, "disk")?;
        let control = folder.join("control");
        let file = super::create_control_file(&control)?;
        Ok(Self { library, control, file, path_part })
    }

    /// The environment variables of a server that uses this disk.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAULTS_CONTROL", self.control.clone().into()),
            ("FAULTS_FILES", self.path_part.into()),
        ]
    }

    /// Makes the `n`th call of these kinds fail, counted from now.
    pub fn inject(&self, n: u64, calls: &[Call], fault: Fault) -> anyhow::Result<()> {
        let mask = calls.iter().map(|call| match call {
            Call::Write => 1,
            Call::Sync => 2,
            Call::Truncate => 4,
        });
        self.set(FIRST, 0)?;
        self.set(CALLS, 0)?;
        self.set(FAILED, 0)?;
        self.set(COUNT, if fault == Fault::IoErrorOnce { 1 } else { u64::MAX })?;
        self.set(ERROR, if fault == Fault::DiskFull { ENOSPC } else { EIO })?;
        self.set(HALVE, u64::from(fault == Fault::DiskFull))?;
        self.set(KINDS, mask.sum())?;
        // Last, so that all other words are set when the first call fails.
        self.set(FIRST, n)
    }

    /// Clears the fault: all calls succeed again.
    pub fn clear(&self) -> anyhow::Result<()> {
        self.set(FIRST, 0)
    }

    /// Number of calls that have failed since [`Self::inject`].
    pub fn failed_calls(&self) -> anyhow::Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, FAILED * 8)?;
        Ok(u64::from_ne_bytes(word))
    }

    fn set(&self, word: u64, value: u64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), word * 8)?)
    }
}
