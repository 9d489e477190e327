//! Ways to break what a server stands on, while it runs.

pub mod clock;
pub mod disk;
pub mod network;
pub mod proxy;

use std::path::{Path, PathBuf};

use crate::shell;

/// Compiles C into a library that `LD_PRELOAD` takes.
fn compile(source: &str, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let (file, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    std::fs::write(&file, source)?;
    let (from, to) = (file.to_string_lossy(), library.to_string_lossy());
    shell::run("cc", &["-O1", "-Wall", "-shared", "-fPIC", "-o", &to, &from, "-ldl"])?;
    Ok(library)
}
