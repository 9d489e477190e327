//! Fuzzes the configuration file: loads it and prints it like `vaultsync config print`.
//!
//! Not here: flags and environment variables, which the same code parses as text.

#![no_main]

#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the command uses more of it than this target"
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
use settings::{ConfigErrors, Loaded, Sources};

/// Unnamed file, because nothing is cleaned up when the fuzzer ends. In memory if possible, because
/// every run writes it.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let in_memory = tempfile::tempfile_in(Path::new("/dev/shm"));
    in_memory.or_else(|_| tempfile::tempfile()).expect("a temporary file")
});

fuzz_target!(|text: &str| -> Corpus { check(text) });

fn check(text: &str) -> Corpus {
    // A setting with the suffix `_file` names a file that is read completely, and could be
    // `/dev/zero`.
    if text.parse::<toml::Table>().is_ok_and(|table| table.keys().any(|key| key.ends_with("_file")))
    {
        return Corpus::Reject;
    }
    let loaded = match load(text) {
        Ok(loaded) => loaded,
        Err(errors) => {
            assert!(errors.to_string().contains('\n'), "an error names no problem");
            return Corpus::Keep;
        }
    };
    let printed = settings::in_force(&loaded);
    let table: toml::Table = printed.parse().expect("the printed configuration is TOML");
    // Secrets are masked, so that the printed configuration differs.
    if printed.contains("***") || printed.contains("(set, ") {
        return Corpus::Keep;
    }
    let reloaded = load(&printed).expect("the printed configuration loads");
    let reprinted: toml::Table =
        settings::in_force(&reloaded).parse().expect("the printed configuration is TOML");
    assert_eq!(table, reprinted);
    // Values derived from Clerk's publishable key are printed too, and count as given when
    // reloaded.
    if loaded.settings.sign_in.clerk.is_none() {
        assert_eq!(loaded.settings, reloaded.settings);
    }
    Corpus::Keep
}

fn load(text: &str) -> Result<Loaded, ConfigErrors> {
    let mut file = &*FILE;
    let emptied = file.set_len(0).and_then(|()| file.rewind());
    emptied
        .and_then(|()| file.write_all(text.as_bytes()))
        .expect("a temporary file can be written");
    file.rewind().expect("a temporary file can be rewound");
    let config = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
    settings::load(&Sources { config: Some(config), ..Sources::default() })
}
