//! Settings as a whole: sources in, settings or errors out.

mod bad_values;
mod database;
mod precedence;
mod shown;
mod sign_in;

use std::ffi::OsString;

use super::{ConfigErrors, Loaded, Settings, Sources, load};
use crate::settings::TABLE;

/// Publishable keys of `clerk.example.com`: of a test instance and of a production instance.
const PK_TEST: &str = "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k";
const PK_LIVE: &str = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k";

/// Loads settings from an environment, flags by their keys, and the text of a TOML file.
fn load_from(
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
        let key = setting.expect("a setting of the table").key;
        sources.flags.entry(key).or_default().push((*value).to_owned());
    }
    load(&sources)
}

fn settings_from(
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
    toml: &str,
) -> Result<Settings, ConfigErrors> {
    load_from(env, flags, toml).map(|loaded| loaded.settings)
}

/// The error message for settings that are invalid.
fn errors_from(env: &[(&str, &str)], flags: &[(&str, &str)], toml: &str) -> String {
    match settings_from(env, flags, toml) {
        Ok(settings) => panic!("{env:?} {flags:?} {toml:?} are valid: {settings:?}"),
        Err(errors) => errors.to_string(),
    }
}
