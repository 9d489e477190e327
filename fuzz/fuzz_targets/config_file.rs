//! The configuration file, read and shown as `vaultsync config print` shows it.
//!
//! Not here: flags and variables, which reach the same readers as text.

#![no_main]

#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the command uses more of it than a target does"
)]
#[path = "../../crates/vaultsync/src/settings/mod.rs"]
mod settings;

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use libfuzzer_sys::{Corpus, fuzz_target};
use settings::{Loaded, ConfigErrors, Sources};

/// A file without a name, because nothing is tidied up when the fuzzer ends; in memory where there is
/// such a folder, because it is written for every run.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let memory = tempfile::tempfile_in(Path::new("/dev/shm"));
    memory.or_else(|_| tempfile::tempfile()).expect("a temporary file")
});

fuzz_target!(|text: &str| -> Corpus { check(text) });

fn check(text: &str) -> Corpus {
    // What the `_file` of a setting names is read whole, and could be `/dev/zero`.
    if text.parse::<toml::Table>().is_ok_and(|table| table.keys().any(|key| key.ends_with("_file")))
    {
        return Corpus::Reject;
    }
    let loaded = match load(text) {
        Ok(loaded) => loaded,
        Err(problems) => {
            assert!(problems.to_string().contains('\n'), "nobody is told what is wrong");
            return Corpus::Keep;
        }
    };
    let printed = settings::in_force(&loaded);
    let table: toml::Table = printed.parse().expect("what is printed is TOML");
    // Shown without its secrets, it is another configuration.
    if printed.contains("***") || printed.contains("(set, ") {
        return Corpus::Keep;
    }
    let again = load(&printed).expect("what is printed is read");
    let same: toml::Table = settings::in_force(&again).parse().expect("what is printed is TOML");
    assert_eq!(table, same);
    // What follows from Clerk's key is printed too, and is then as good as given.
    if loaded.settings.sign_in.clerk.is_none() {
        assert_eq!(loaded.settings, again.settings);
    }
    Corpus::Keep
}

fn load(text: &str) -> Result<Loaded, ConfigErrors> {
    let mut file = &*FILE;
    let written = file.set_len(0).and_then(|()| file.rewind());
    written
        .and_then(|()| file.write_all(text.as_bytes()))
        .expect("a temporary file can be written");
    file.rewind().expect("a temporary file has a beginning");
    let config = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
    settings::load(&Sources { config: Some(config), ..Sources::default() })
}
