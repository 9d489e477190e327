//! What the database holds in the end, asked past all nodes.
//!
//! Not here: whether it should; see [`history`](crate::history).

use crate::history::{Digest, Seen};

/// A user's records as they stand in the database.
pub(super) fn stored(database: &str, user: &str) -> Vec<Seen> {
    let rows = vaultsync_test_servers::query(
        database,
        &format!(
            "select r.record_id, r.version, r.deleted, r.updated_at,
                    translate(encode(r.ciphertext, 'base64'), E'\\n', '')
             from records r join vaults v using (vault_id) where v.subject = '{user}'"
        ),
    );
    let record = |row: &str| {
        let columns: Vec<_> = row.split('|').collect();
        let [id, version, deleted, updated_at, ciphertext] = columns[..] else {
            panic!("five columns, not {row}");
        };
        let ciphertext = base64_simd::STANDARD.decode_to_vec(ciphertext).expect("base64");
        Seen {
            record_id: id.into(),
            version: version.parse().expect("a version"),
            digest: Digest::of(&ciphertext),
            deleted: deleted == "t",
            updated_at: updated_at.parse().expect("milliseconds"),
        }
    };
    rows.lines().filter(|row| !row.is_empty()).map(record).collect()
}
