//! Embedded migrations of both databases.
//!
//! A new migration is a file in `migrations/` and its name in a list here.
//! The lists are explicit because the macro that reads the directories would build refinery, `time`,
//! `url` and `regex` a second time, for the host.

use refinery_core::{Migration, Runner};

macro_rules! embed {
    ($directory:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../migrations/", $directory, "/", $name, ".sql")))),+]
    };
}

const POSTGRES: &[(&str, &str)] = embed!("postgres":
    "V1__vaults_and_records", "V2__vault_names_and_counters", "V3__record_digests_and_times",
    "V4__vaults_of_a_user", "V5__history_purge_and_erase", "V6__revisions", "V7__revisions_outside_rows",
    "V8__tombstones", "V9__vaults_that_are_erased", "V10__erased_epochs", "V11__maintenance_lease");
const SQLITE: &[(&str, &str)] = embed!("sqlite":
    "V1__vaults_and_records", "V2__vaults_by_rowid", "V3__digests_names_and_counters",
    "V4__history_purge_and_erase");

/// Runner of the migrations of PostgreSQL.
pub(crate) fn postgres() -> Runner {
    runner(POSTGRES)
}

/// Runner of the migrations of SQLite.
pub(crate) fn sqlite() -> Runner {
    runner(SQLITE)
}

/// The version of the newest migration of SQLite.
pub(crate) fn newest_of_sqlite() -> i64 {
    sqlite().get_migrations().iter().map(|one| i64::from(one.version())).max().unwrap_or(0)
}

fn runner(files: &[(&str, &str)]) -> Runner {
    let migrations: Result<Vec<_>, _> =
        files.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    Runner::new(&migrations.expect("the names of the migrations are valid"))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_migration_file_is_embedded() {
        for (directory, embedded) in [("postgres", POSTGRES), ("sqlite", SQLITE)] {
            let directory =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(directory);
            let mut files: Vec<_> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let mut names: Vec<_> =
                embedded.iter().map(|(name, _)| format!("{name}.sql")).collect();
            names.sort();
            assert_eq!(names, files);
        }
    }

    #[test]
    fn the_names_of_the_migrations_are_valid() {
        assert_eq!(postgres().get_migrations().len(), POSTGRES.len());
        assert_eq!(sqlite().get_migrations().len(), SQLITE.len());
    }
}
