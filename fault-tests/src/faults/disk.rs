//! A disk that fails, or is full, at a chosen write, sync or truncation of the database's files.
//!
//! A library in C stands between the server and the system (`faults.c`), since SQLite is to be left as
//! it is. It takes its orders from a file that both have mapped, so that a fault comes and goes while
//! the server runs.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A kind of call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Into a file.
    Write,
    /// To the disk.
    Sync,
    /// To another length.
    Truncate,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO, once.
    InputOutput,
    /// EIO, until it is lifted.
    Broken,
    /// ENOSPC until it is lifted, where the first write still writes half.
    Full,
}

/// A disk that does as it is told. It works until then.
#[derive(Debug)]
pub struct Disk {
    library: PathBuf,
    control: PathBuf,
    file: File,
    files: &'static str,
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
const STRUCK: u64 = 6;

impl Disk {
    /// Compiles the library. It looks at files with this in their path.
    pub fn new(folder: &Path, files: &'static str) -> anyhow::Result<Self> {
        let library = super::compile(include_str!("faults.c"), folder, "faults")?;
        let control = folder.join("control");
        let file = File::options().read(true).write(true).create_new(true).open(&control)?;
        // As long as what the library maps.
        file.set_len(4096)?;
        Ok(Self { library, control, file, files })
    }

    /// The variables of a server that is to have this disk.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAULTS_CONTROL", self.control.clone().into()),
            ("FAULTS_FILES", self.files.into()),
        ]
    }

    /// Lets the `n`th call of these kinds fail, counted from now.
    pub fn strike(&self, n: u64, kinds: &[Kind], fault: Fault) -> anyhow::Result<()> {
        let mask = kinds.iter().map(|kind| match kind {
            Kind::Write => 1,
            Kind::Sync => 2,
            Kind::Truncate => 4,
        });
        self.set(FIRST, 0)?;
        self.set(CALLS, 0)?;
        self.set(STRUCK, 0)?;
        self.set(COUNT, if fault == Fault::InputOutput { 1 } else { u64::MAX })?;
        self.set(ERROR, if fault == Fault::Full { ENOSPC } else { EIO })?;
        self.set(HALVE, u64::from(fault == Fault::Full))?;
        self.set(KINDS, mask.sum())?;
        // Last, so that all of it holds when the first call fails.
        self.set(FIRST, n)
    }

    /// Lets everything succeed again.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.set(FIRST, 0)
    }

    /// How many calls have failed since [`Self::strike`].
    pub fn struck(&self) -> anyhow::Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, STRUCK * 8)?;
        Ok(u64::from_ne_bytes(word))
    }

    fn set(&self, word: u64, value: u64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), word * 8)?)
    }
}
