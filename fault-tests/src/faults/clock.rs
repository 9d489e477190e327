//! A wall clock that jumps while a server runs.
//!
//! A preloaded C library (`clock.c`) shifts the server's clock; the machine's clock is not changed.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// The clock of a server, without an offset at first.
#[derive(Debug)]
pub struct ShiftedClock {
    library: PathBuf,
    control: PathBuf,
    file: File,
}

impl ShiftedClock {
    /// Compiles the library.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let library = super::compile(include_str!("clock.c"), folder, "clock")?;
        let control = folder.join("clock");
        let file = super::create_control_file(&control)?;
        Ok(Self { library, control, file })
    }

    /// The environment variables of a server that uses this clock.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("CLOCK_CONTROL", self.control.clone().into()),
        ]
    }

    /// Sets the offset from the machine's clock.
    pub fn set_offset(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
