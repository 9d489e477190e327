//! Printed settings: the default file, the values in force, the manual page.

use std::path::PathBuf;

use super::super::{TABLE, default_file, in_force, markdown};
use super::{PK_TEST, load_from, settings_from, sign_in::PEM};

#[test]
fn the_default_file_uncommented_gives_the_defaults() {
    let file = default_file();
    let uncommented: Vec<&str> = file
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase()) => {
                setting
            }
            _ => line,
        })
        .collect();
    let uncommented = uncommented.join("\n");
    let keys: toml::Table = uncommented.parse().expect("TOML");
    assert_eq!(keys.len(), TABLE.len());
    assert_eq!(settings_from(&[], &[], &uncommented), settings_from(&[], &[], ""));
    let as_printed: toml::Table = file.parse().expect("TOML");
    assert!(as_printed.is_empty());
}

#[test]
fn values_in_force_are_printed_with_their_origin_and_without_secrets() {
    let env = &[
        ("VAULTSYNC_IDLE_SECONDS", "5"),
        ("VAULTSYNC_CORS_ORIGINS", "https://a.example"),
        ("CLERK_JWT_KEY", PEM),
        ("CLERK_PUBLISHABLE_KEY", PK_TEST),
        ("CLERK_ALLOW_MISSING_AZP", "1"),
    ];
    let flags = &[("rate_limit", "7"), ("admin_listen", "off")];
    let loaded = load_from(env, flags, "data_dir = '/d'").expect("valid settings");
    let shown = in_force(&loaded);
    assert!(!shown.contains("MIIB"));
    let keys: toml::Table = shown.parse().expect("TOML");
    assert_eq!(keys.len(), TABLE.len());

    // The folder of the file differs in each run.
    let file = shown
        .split_once("data_dir = \"/d\" # ")
        .and_then(|(_, rest)| rest.split_once("vaultsync.toml"))
        .map(|(folder, _)| folder.to_owned())
        .expect("the file's folder");
    insta::assert_snapshot!(shown.replace(&file, "FOLDER/"));
}

#[test]
fn the_manual_page_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/CONFIGURATION.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == markdown(),
        "docs/CONFIGURATION.md is out of date; generate it with \
         `cargo run -p vaultsync -- config markdown > docs/CONFIGURATION.md`"
    );
}

#[test]
fn the_names_of_settings_are_unique() {
    let mut names: Vec<String> = TABLE
        .iter()
        .flat_map(|setting| [setting.key.to_owned(), setting.env(), setting.flag()])
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
