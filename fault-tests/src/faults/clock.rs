//! A clock on the wall that jumps while a server runs.
//!
//! A library in C stands between the server and the system (`clock.c`); the machine's own clock is left
//! alone.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A clock that goes right at first.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    control: PathBuf,
    file: File,
}

impl Clock {
    /// Compiles the library.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let library = super::compile(include_str!("clock.c"), folder, "clock")?;
        let control = folder.join("clock");
        let file = File::options().read(true).write(true).create_new(true).open(&control)?;
        // As long as what the library maps.
        file.set_len(4096)?;
        Ok(Self { library, control, file })
    }

    /// The variables of a server that is to have this clock.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("CLOCK_CONTROL", self.control.clone().into()),
        ]
    }

    /// Sets it that many seconds off.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
