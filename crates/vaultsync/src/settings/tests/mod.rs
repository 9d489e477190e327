//! The settings layer as a whole: sources in, settings or problems out.

mod bad_values;
mod database;
mod precedence;
mod shown;
mod sign_in;

use std::ffi::OsString;

use super::{ConfigErrors, Loaded, Settings, Sources, load};
use crate::settings::TABLE;

/// The publishable key of `clerk.example.com`, of a test and of a live instance.
const PK_TEST: &str = "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k";
const PK_LIVE: &str = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k";

/// Loads settings from an environment, flags (by key) and the text of a TOML file.
fn check_loaded(
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
    toml: &str,
) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("vaultsync.toml");
    std::fs::write(&file, toml).expect("a file in a temporary folder");
    let mut sources = Sources {
        config: Some(file),
        env: env
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
        ..Sources::default()
    };
    for (key, value) in flags {
        let setting = TABLE.iter().find(|setting| setting.key == *key);
        let key = setting.expect("a setting of that name").key;
        sources.flags.entry(key).or_default().push((*value).to_owned());
    }
    load(&sources)
}

fn check(
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
    toml: &str,
) -> Result<Settings, ConfigErrors> {
    check_loaded(env, flags, toml).map(|loaded| loaded.settings)
}

/// What is said of settings that cannot be used.
fn refusal(env: &[(&str, &str)], flags: &[(&str, &str)], toml: &str) -> String {
    match check(env, flags, toml) {
        Ok(settings) => panic!("{env:?} {flags:?} {toml:?} gave {settings:?}"),
        Err(problems) => problems.to_string(),
    }
}
