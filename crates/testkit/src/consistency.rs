//! A search for rows of a database that contradict each other, without a server of Vaultsync.
//!
//! Not here: whether the rows are those that were written, see [`history`](crate::history).

use std::collections::HashMap;

use rusqlite::{Connection, OpenFlags, types::ValueRef};
use vaultsync_protocol::VaultName;
use vaultsync_store::Vault;

use crate::history::Digest;

/// Rows that contradict each other, in words: counters that are no full count, digests that are not those of the
/// ciphertexts, keys of vaults that are not those of their users, rows of no vault, and replaced versions that
/// their record cannot have had.
///
/// `url` is that of a PostgreSQL database, or `sqlite:` and a path. Nothing may write to it meanwhile.
pub fn inconsistencies(url: &str) -> Vec<String> {
    let tables = url.strip_prefix("sqlite:").map_or_else(|| in_postgres(url), in_sqlite);
    let counts = tables.vaults.iter().map(|vault| (&*vault[0], [0; 4])).collect();
    let mut search = Search { counts, current: HashMap::new(), found: Vec::new() };
    tables.records.iter().for_each(|row| search.check_record(row));
    tables.revisions.iter().for_each(|row| search.check_revision(row));
    tables.vaults.iter().for_each(|row| search.check_vault(row));
    search.found
}

struct Search<'a> {
    /// What was counted of each vault: live records, all records, their bytes, those of replaced versions.
    counts: HashMap<&'a str, [i64; 4]>,
    /// Version and time of each record, by vault and id.
    current: HashMap<(&'a str, &'a str), (i64, i64)>,
    found: Vec<String>,
}

impl<'a> Search<'a> {
    fn check_record(&mut self, row: &'a RecordRow) {
        let [vault, id, version, deleted, bytes, digest, updated_at, created_at, expected] = row;
        let name = format!("record {id} of vault {vault}");
        self.check_digest(&name, digest, expected);
        if (created_at == updated_at) != (version == "1") {
            self.found.push(format!("{name}: version {version} and created_at {created_at}"));
        }
        self.current.insert((vault, id), (number(version), number(updated_at)));
        match self.counts.get_mut(&**vault) {
            None => self.found.push(format!("{name} is in no vault")),
            Some([live, rows, sum, _]) => {
                *live += i64::from(deleted == "0");
                *rows += 1;
                *sum += number(bytes);
            }
        }
    }

    fn check_revision(&mut self, row: &'a RevisionRow) {
        let [vault, id, version, bytes, digest, updated_at, replaced_at, expected] = row;
        let name = format!("replaced version {version} of record {id} of vault {vault}");
        self.check_digest(&name, digest, expected);
        let is_before = |(current, written): &(i64, i64)| {
            number(version) < *current
                && number(updated_at) < number(replaced_at)
                && number(replaced_at) <= *written
        };
        if !self.current.get(&(vault, id)).is_some_and(is_before) {
            self.found.push(format!("{name} does not come before the record"));
        }
        match self.counts.get_mut(&**vault) {
            None => self.found.push(format!("{name} is in no vault")),
            Some([.., history]) => *history += number(bytes),
        }
    }

    fn check_digest(&mut self, name: &str, digest: &str, expected: &str) {
        if digest != expected {
            self.found.push(format!("{name}: digest {digest:?} of ciphertext {expected}"));
        }
    }

    fn check_vault(&mut self, row: &VaultRow) {
        let [id, issuer, subject, name, stored @ ..] = row;
        let counted = self.counts[&**id].map(|count| count.to_string());
        if *stored != counted {
            self.found.push(format!("vault {id}: counters {stored:?}, counted {counted:?}"));
        }
        // An erased vault has no user.
        if !issuer.is_empty() && *id != key(issuer, subject, name) {
            self.found.push(format!("vault {id} is not vault {name:?} of {subject}"));
        }
    }
}

/// Key, issuer, subject, name, live records, all records, their bytes, bytes of replaced versions.
type VaultRow = [String; 8];

/// Vault, id, version, whether it is a tombstone, bytes, digest, `updated_at`, `created_at`, digest of the
/// ciphertext.
type RecordRow = [String; 9];

/// Vault, id, version, bytes, digest, `updated_at`, `replaced_at`, digest of the ciphertext.
type RevisionRow = [String; 8];

/// The columns that are compared, as text. An unknown value is empty, and a flag is 0 or 1.
struct Tables {
    vaults: Vec<VaultRow>,
    records: Vec<RecordRow>,
    revisions: Vec<RevisionRow>,
}

fn in_postgres(url: &str) -> Tables {
    let vault = "translate(vault_id::text, '-', '')";
    let digest = "encode(digest, 'hex')";
    let of_ciphertext = "encode(substr(sha256(ciphertext), 1, 16), 'hex')";
    Tables {
        vaults: rows_of_postgres(
            url,
            &format!(
                "select {vault}, issuer, subject, name, live_records, record_rows, bytes, history_bytes
                 from vaults"
            ),
        ),
        records: rows_of_postgres(
            url,
            &format!(
                "select {vault}, record_id, version, deleted::int, octet_length(ciphertext), {digest},
                   updated_at, created_at, {of_ciphertext}
                 from records"
            ),
        ),
        revisions: rows_of_postgres(
            url,
            &format!(
                "select {vault}, record_id, version, octet_length(ciphertext), {digest}, updated_at,
                   replaced_at, {of_ciphertext}
                 from revisions"
            ),
        ),
    }
}

fn rows_of_postgres<const N: usize>(url: &str, select: &str) -> Vec<[String; N]> {
    let rows = vaultsync_test_servers::query(url, select);
    let columns = |row: &str| {
        let columns: Vec<_> = row.split('|').map(str::to_owned).collect();
        columns.try_into().unwrap_or_else(|row| panic!("{N} columns, not {row:?}"))
    };
    rows.lines().filter(|row| !row.is_empty()).map(columns).collect()
}

fn in_sqlite(path: &str) -> Tables {
    // Read and write: the last reader of a leftover log may have to recover it.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    // SQLite has no SHA-256, so the last column is the ciphertext.
    let with_digest = |mut columns: Vec<ValueRef<'_>>| {
        let Some(ValueRef::Blob(ciphertext)) = columns.pop() else { panic!("a ciphertext") };
        let digest = Digest::of(ciphertext).to_string();
        columns.iter().map(text).chain([digest]).collect()
    };
    Tables {
        vaults: rows_of_sqlite(
            &connection,
            "select vault_id, issuer, subject, name, live_records, record_rows, bytes, history_bytes
             from vaults",
            |columns| columns.iter().map(text).collect(),
        ),
        records: rows_of_sqlite(
            &connection,
            "select v.vault_id, record_id, version, deleted, length(ciphertext), digest, updated_at,
               created_at, ciphertext
             from records r left join vaults v using (vault_key)",
            with_digest,
        ),
        revisions: rows_of_sqlite(
            &connection,
            "select v.vault_id, record_id, version, length(ciphertext), digest, updated_at,
               r.replaced_at, ciphertext
             from revisions r left join vaults v using (vault_key)",
            with_digest,
        ),
    }
}

fn rows_of_sqlite<const N: usize>(
    connection: &Connection,
    select: &str,
    convert: impl Fn(Vec<ValueRef<'_>>) -> Vec<String>,
) -> Vec<[String; N]> {
    let mut statement = connection.prepare(select).expect("a statement");
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("rows");
    let mut converted = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        let values = (0..columns).map(|index| row.get_ref(index).expect("a column")).collect();
        let values = convert(values).try_into();
        converted.push(values.unwrap_or_else(|row| panic!("{N} columns, not {row:?}")));
    }
    converted
}

fn text(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        // Keys and digests.
        ValueRef::Blob(bytes) => {
            let number = <[u8; 16]>::try_from(*bytes).expect("16 bytes");
            format!("{:032x}", u128::from_be_bytes(number))
        }
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("a number, not {text:?}"))
}

/// The key that the vault of a user has.
fn key(issuer: &str, subject: &str, name: &str) -> String {
    let default = Vault::of(issuer, subject);
    let vault = match name {
        "" => default,
        name => default.named(VaultName::new(name).expect("a name")),
    };
    vault.id().to_string()
}
