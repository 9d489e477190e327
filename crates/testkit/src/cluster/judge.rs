//! Whether the promises were kept: what writers were told, what followers hold, what the database has.

use std::collections::{BTreeMap, HashMap};

use super::{
    follower::{Follower, Held},
    writer::Writer,
};

/// What there was of everything, in a run that broke no promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Pushes that were refused because of what stood in their way.
    pub conflicts: usize,
    /// Requests that nobody answered, or with 503; they were sent again.
    pub unserved: usize,
    /// Records in the database at the end.
    pub records: usize,
    /// Pages that followers were answered.
    pub pages: usize,
    /// Pulls with a wait that brought something.
    pub woken: usize,
}

pub(super) fn judge(
    database: &str,
    users: &[String],
    writers: &[Writer],
    followers: &[Follower],
) -> Result<Counts, Vec<String>> {
    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for writer in writers {
        counts.conflicts += writer.conflicts;
        counts.unserved += writer.unserved;
        counts.acknowledged += writer.acknowledged.len();
        broken.extend(writer.faults.iter().cloned());
    }
    for (user, name) in users.iter().enumerate() {
        let stored = stored(database, name);
        counts.records += stored.len();
        let of_user = writers.iter().filter(|writer| writer.user == user);
        check_acknowledged(name, of_user, &stored, &mut broken);
        for follower in followers.iter().filter(|follower| follower.user == user) {
            counts.pages += follower.pages;
            counts.woken += follower.woken;
            counts.unserved += follower.unserved;
            broken.extend(follower.faults.iter().map(|fault| format!("{name}: {fault}")));
            if follower.records != stored {
                let (held, there) = (follower.records.len(), stored.len());
                broken.push(format!(
                    "{name}: the follower holds {held} records, the database {there}, and not alike"
                ));
            }
        }
    }
    if broken.is_empty() { Ok(counts) } else { Err(broken) }
}

/// Each version was acknowledged for one write only; the last one acknowledged is there, or one after
/// it that nobody was told of.
fn check_acknowledged<'a>(
    user: &str,
    writers: impl Iterator<Item = &'a Writer>,
    stored: &BTreeMap<String, Held>,
    broken: &mut Vec<String>,
) {
    let mut seen = HashMap::new();
    for (id, version, written) in writers.flat_map(|writer| &writer.acknowledged) {
        if let Some(other) = seen.insert((id, version), written)
            && other != written
        {
            broken.push(format!("{user}: version {version} of {id} is acknowledged twice"));
        }
    }
    for ((id, version), written) in seen {
        match stored.get(id) {
            Some((there, ..)) if there > version => {}
            Some((there, ciphertext, deleted))
                if there == version && *written == format!("{ciphertext} {deleted}") => {}
            found => broken.push(format!("{user}: version {version} of {id} is lost: {found:?}")),
        }
    }
}

/// A user's records as they stand in the database, asked past all nodes.
fn stored(database: &str, user: &str) -> BTreeMap<String, Held> {
    let rows = vaultsync_private_servers::query(
        database,
        &format!(
            "select r.record_id, r.version, r.deleted, translate(encode(r.ciphertext, 'base64'), E'\\n', '')
             from records r join vaults v using (vault_id) where v.subject = '{user}'"
        ),
    );
    let record = |row: &str| {
        let columns: Vec<_> = row.split('|').collect();
        let [id, version, deleted, ciphertext] = columns[..] else {
            panic!("four columns, not {row}");
        };
        let version = version.parse().expect("a version");
        (id.to_owned(), (version, ciphertext.to_owned(), deleted == "t"))
    };
    rows.lines().filter(|row| !row.is_empty()).map(record).collect()
}
