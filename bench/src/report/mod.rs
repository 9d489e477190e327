//! What is told of a run.

mod table;

use std::{fs, path::PathBuf};

use crate::rounds::{Plan, Sample};

/// What was measured, and on what.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) postgres: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) plan: Plan,
    pub(crate) notes: Vec<String>,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// Prints the tables, and writes them to `target/bench`.
    pub(crate) fn write(&self, _docs: bool) -> anyhow::Result<()> {
        let tables = table::tables(&self.setting, &self.samples);
        println!("{tables}");
        let folder = PathBuf::from("target/bench");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("performance.md"), tables)?;
        Ok(())
    }
}
