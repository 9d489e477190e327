//! The statements that write the records of one push.
//!
//! They are `insert … values` with one row for each record, because Citus sends those to one node without
//! looking at any other shard. With `insert … select`, a shard that moves to another node delays the
//! pushes of all vaults (decision 0012).

use std::sync::LazyLock;

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{
    connection::Sql,
    rows::{self, RecordColumns},
};

/// The numbers of rows that a statement can have. A push is written by the few of them that add up to its
/// records, so a connection prepares these and not one statement for each number.
const ROWS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// The types of a record's values, which follow the vault and the time of the push.
const RECORD_TYPES: [Type; 6] =
    [Type::TEXT, Type::INT8, Type::BOOL, Type::BYTEA, Type::INT8, Type::BYTEA];

/// The place of `updated_at` among them.
const UPDATED_AT: usize = 4;

/// Writes records that do not exist. If one does exist, because another writer ignored the lock, the
/// primary key fails the transaction. [`WRITE`] looks for each record first, which costs the database
/// +25 % for each new record.
static INSERT: LazyLock<[Sql; ROWS.len()]> = LazyLock::new(|| statements(""));

/// Writes records, existing ones included. A record that is not at the version that was loaded, because
/// another writer ignored the lock, gets version 0, and the table's check fails the transaction.
static WRITE: LazyLock<[Sql; ROWS.len()]> =
    LazyLock::new(|| statements(rows::on_conflict_update!()));

/// Replaces a kept version with the same number. It can only be left over from a partial restore, and must not make
/// the record unwritable.
macro_rules! on_kept_conflict {
    () => {
        " on conflict (vault_id, record_id, version) do update set deleted = excluded.deleted,
           ciphertext = excluded.ciphertext, digest = excluded.digest,
           updated_at = excluded.updated_at, replaced_at = excluded.replaced_at,
           replaced_wall = excluded.replaced_wall"
    };
}
pub(super) use on_kept_conflict;

/// Copies the versions that are kept, before they are overwritten. Ciphertexts do not leave the database.
pub(super) const KEEP: Sql = Sql {
    text: concat!(
        "insert into revisions (vault_id, record_id, version, deleted, ciphertext, digest, updated_at,
           replaced_at, replaced_wall)
         select r.*, x.replaced_at, $2 from unnest($3::text[], $4::bigint[]) as x (record_id, replaced_at)
         cross join lateral (
           select vault_id, record_id, version, deleted, ciphertext, ",
        rows::record_digest!(),
        ", updated_at from records where vault_id = $1 and record_id = x.record_id offset 0
         ) r",
        on_kept_conflict!()
    ),
    types: &[Type::UUID, Type::INT8, Type::TEXT_ARRAY, Type::INT8_ARRAY],
};

/// A statement for each number of rows. They live as long as the process.
fn statements(on_conflict: &str) -> [Sql; ROWS.len()] {
    ROWS.map(|count| {
        let columns = RECORD_TYPES.len();
        let row = |row: usize| {
            let value = |column: usize| 3 + row * columns + column;
            let values: Vec<_> = (0..columns).map(|column| format!("${}", value(column))).collect();
            // A new record was created at its `updated_at`.
            format!("($1, {}, ${}, $2)", values.join(", "), value(UPDATED_AT))
        };
        let rows = (0..count).map(row).collect::<Vec<_>>().join(", ");
        let text = format!(
            "insert into records as r
               (vault_id, record_id, version, deleted, ciphertext, updated_at, digest, created_at,
                written_at)
             values {rows}{on_conflict}"
        );
        let mut types = vec![Type::UUID, Type::INT8];
        types.extend((0..count).flat_map(|_| RECORD_TYPES));
        Sql { text: text.leak(), types: types.leak() }
    })
}

/// The statements that a push is written with, for tests that explain them: of one record, of two.
pub(super) fn examples() -> [(&'static str, &'static str); 4] {
    let [.., insert_two, insert_one] = &*INSERT;
    let [.., write_two, write_one] = &*WRITE;
    [
        ("insert", insert_one.text),
        ("insert two", insert_two.text),
        ("write", write_one.text),
        ("write two", write_two.text),
    ]
}

/// Some of a push's records, and the statement that writes them.
pub(super) struct RecordsWrite<'a> {
    pub(super) sql: &'static Sql,
    pub(super) values: Vec<&'a (dyn ToSql + Sync)>,
    pub(super) rows: usize,
}

/// Divides records into statements.
pub(super) fn split<'a>(
    vault: &'a Uuid,
    written_at: &'a i64,
    columns: &'a RecordColumns<'_>,
) -> Vec<RecordsWrite<'a>> {
    let statements = if columns.are_new() { &*INSERT } else { &*WRITE };
    let (mut writes, mut start) = (Vec::new(), 0);
    for (rows, sql) in ROWS.into_iter().zip(statements) {
        while columns.ids.len() - start >= rows {
            let mut values: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(sql.types.len());
            values.push(vault);
            values.push(written_at);
            for index in start..start + rows {
                values.extend([
                    &columns.ids[index] as &(dyn ToSql + Sync),
                    &columns.versions[index],
                    &columns.deleted[index],
                    &columns.ciphertexts[index],
                    &columns.updated_at[index],
                    &columns.digests[index],
                ]);
            }
            writes.push(RecordsWrite { sql, values, rows });
            start += rows;
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_written_once_and_in_order() {
        let vault = Uuid::from_bytes([1; 16]);
        for count in 0..=200_usize {
            let ids: Vec<_> = (0..count).map(|number| number.to_string()).collect();
            let mut columns = RecordColumns::default();
            for (number, id) in (1..).zip(&ids) {
                columns.ids.push(id);
                columns.versions.push(1);
                columns.deleted.push(false);
                columns.ciphertexts.push(&[]);
                columns.updated_at.push(number);
                columns.digests.push(Vec::new());
            }
            let writes = split(&vault, &0, &columns);
            assert!(writes.len() <= 10, "{count}: {} statements", writes.len());
            let mut written = Vec::new();
            for write in &writes {
                assert_eq!(write.values.len(), write.sql.types.len());
                assert_eq!(write.values.len(), 2 + write.rows * RECORD_TYPES.len());
                let (last, updated_at) = (write.values.len(), write.values.len() - 1);
                assert!(write.sql.text.ends_with(&format!("${last}, ${updated_at}, $2)")));
                let ids = write.values.iter().skip(2).step_by(RECORD_TYPES.len());
                written.extend(ids.map(|id| format!("{id:?}").replace('"', "")));
            }
            assert_eq!(written, ids);
        }
    }

    #[test]
    fn a_record_that_exists_is_updated() {
        let vault = Uuid::from_bytes([1; 16]);
        let mut columns = RecordColumns::default();
        for version in [1, 2] {
            columns.ids.push("r");
            columns.versions.push(version);
            columns.deleted.push(false);
            columns.ciphertexts.push(&[]);
            columns.updated_at.push(version);
            columns.digests.push(Vec::new());
            let has_update = split(&vault, &0, &columns)[0].sql.text.contains("on conflict");
            assert_eq!(has_update, version == 2);
        }
    }
}
