//! The records in a PostgreSQL database, read without a server of Vaultsync.
//!
//! Not here: whether they are right, see [`history`](crate::history).

use crate::history::{Digest, RecordView, VaultLabel};

/// The records of a vault, read from the database at `url`.
pub fn stored_in_postgres(url: &str, vault: &VaultLabel) -> Vec<RecordView> {
    let (user, name) = (&vault.user, vault.name.as_deref().unwrap_or_default());
    let rows = vaultsync_test_servers::query(
        url,
        &format!(
            "select r.record_id, r.version, r.deleted, r.updated_at,
                    translate(encode(r.ciphertext, 'base64'), E'\\n', '')
             from records r join vaults v using (vault_id) where v.subject = '{user}'
               and v.name = '{name}'"
        ),
    );
    rows.lines().filter(|row| !row.is_empty()).map(parse).collect()
}

fn parse(row: &str) -> RecordView {
    let columns: Vec<_> = row.split('|').collect();
    let [id, version, deleted, updated_at, ciphertext] = columns[..] else {
        panic!("five columns, not {row}");
    };
    let ciphertext = base64_simd::STANDARD.decode_to_vec(ciphertext).expect("base64");
    RecordView {
        record_id: id.into(),
        version: version.parse().expect("a version"),
        digest: Digest::of(&ciphertext),
        deleted: deleted == "t",
        updated_at: updated_at.parse().expect("milliseconds"),
    }
}
