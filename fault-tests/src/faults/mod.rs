//! Faults that are injected below a running server.

pub mod clock;
pub mod disk;
pub mod network;
pub mod proxy;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use crate::shell;

/// Size of a control file, which the libraries map into memory.
const CONTROL_BYTES: u64 = 4096;

/// Compiles C source into a library for `LD_PRELOAD`.
fn compile(source: &str, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let (file, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    std::fs::write(&file, source)?;
    let (from, to) = (file.to_string_lossy(), library.to_string_lossy());
    shell::run("cc", &["-O1", "-Wall", "-shared", "-fPIC", "-o", &to, &from, "-ldl"])?;
    Ok(library)
}

/// Creates the file by which a library is controlled.
fn create_control_file(path: &Path) -> anyhow::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    file.set_len(CONTROL_BYTES)?;
    Ok(file)
}
