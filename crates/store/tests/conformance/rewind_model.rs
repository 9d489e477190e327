//! Random histories: at every cursor, the states are those of a plain model that remembers every version.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_protocol::{Operation, PastState, RecordDigest, Timestamp, Version};
use vaultsync_store::Vault;

use crate::{
    dsl::{NOW, operation, user},
    history_dsl::{MINUTE, SECOND, id, version},
    support::TestStore,
};

backends!(
    states_at_every_cursor_are_those_of_the_model,
    the_history_has_what_the_rules_keep,
    the_bytes_of_the_history_equal_a_full_count,
);

const RECORDS: [&str; 6] = ["a", "b", "c", "vaultsync.keyring", "vaultsync.pair.x", "é"];

/// One version that a record had.
#[derive(Clone, Debug)]
struct PastVersion {
    deleted: bool,
    ciphertext: Vec<u8>,
    updated_at: i64,
    written_at: i64,
    /// By which time of the vault it was replaced, and whether it is kept.
    replaced: Option<(i64, bool)>,
}

/// All versions that each record had, in order: version 1 is the first.
#[derive(Default)]
struct Model {
    records: BTreeMap<&'static str, Vec<PastVersion>>,
    clock: i64,
}

impl Model {
    /// Applies a write at a time of the wall clock.
    fn write(&mut self, id: &'static str, deleted: bool, ciphertext: Vec<u8>, now: i64) {
        self.clock = now.max(self.clock + 1);
        let versions = self.records.entry(id).or_default();
        if let Some(last) = versions.last_mut() {
            let stood = now - last.written_at >= MINUTE;
            let ten_minutes = 10 * MINUTE;
            let crossed = now.div_euclid(ten_minutes) != last.written_at.div_euclid(ten_minutes);
            let kept = (stood || crossed) && !id.starts_with("vaultsync.pair.");
            last.replaced = Some((self.clock, kept));
        }
        let updated_at = self.clock;
        let version =
            PastVersion { deleted, ciphertext, updated_at, written_at: now, replaced: None };
        versions.push(version);
    }

    /// The states at a cursor.
    fn states(&self, at: i64) -> Vec<PastState> {
        let changed = self
            .records
            .iter()
            .filter(|(_, versions)| versions.last().expect("a version").updated_at > at);
        changed.map(|(record_id, versions)| Self::state(record_id, versions, at)).collect()
    }

    fn state(record_id: &str, versions: &[PastVersion], at: i64) -> PastState {
        let count = |versions: &[_]| version(i64::try_from(versions.len()).expect("a few"));
        let before: Vec<_> = versions.iter().take_while(|one| one.updated_at <= at).collect();
        let last_kept = before.iter().rposition(|one| one.replaced.is_some_and(|(_, kept)| kept));
        let of = |index: usize| before[index];
        PastState {
            record_id: id(record_id),
            current_version: count(versions),
            version: if before.is_empty() {
                Some(Version::NONE)
            } else {
                last_kept.map(|index| count(&versions[..=index]))
            },
            deleted: last_kept.map(|index| of(index).deleted),
            updated_at: last_kept.map(|index| Timestamp::from_millis(of(index).updated_at)),
            bytes: last_kept.map(|index| of(index).ciphertext.len()),
            digest: last_kept.map(|index| RecordDigest::of(&of(index).ciphertext)),
            exact: before.is_empty() || last_kept == Some(before.len() - 1),
        }
    }
}

/// Pushes some batches at random times of the wall clock, which may go back.
async fn write_at_random(store: &TestStore, vault: &Vault, random: &mut StdRng) -> Model {
    let (mut model, mut now) = (Model { clock: i64::MIN, ..Model::default() }, NOW);
    for push in 0..random.random_range(20..60) {
        now += match random.random_range(0..10) {
            0 => -random.random_range(0..5 * MINUTE),
            1..=3 => random.random_range(0..5 * SECOND),
            4..=7 => random.random_range(0..2 * MINUTE),
            _ => random.random_range(0..30 * MINUTE),
        };
        let mut ids = RECORDS.to_vec();
        let mut operations: Vec<Operation> = Vec::new();
        for _ in 0..random.random_range(1..=3) {
            let record_id = ids.swap_remove(random.random_range(0..ids.len()));
            let deleted = random.random_ratio(1, 4);
            let bytes = random.random_range(usize::from(!deleted)..50);
            let mut ciphertext = vec![0; bytes];
            random.fill(&mut ciphertext[..]);
            let base = model.records.get(record_id).map(Vec::len);
            let base = base.map(|count| i64::try_from(count).expect("a few"));
            operations.push(operation(record_id, base, &*ciphertext, deleted));
            model.write(record_id, deleted, ciphertext, now);
        }
        let written = store.push_applied_at(vault, &operations, now).await;
        assert_eq!(written.len(), operations.len(), "push {push}");
    }
    model
}

async fn states_at_every_cursor_are_those_of_the_model(store: TestStore) {
    for seed in 0..8 {
        let (mut random, vault) = (StdRng::seed_from_u64(seed), user());
        let model = write_at_random(&store, &vault, &mut random).await;
        let times = model.records.values().flatten().map(|one| one.updated_at);
        let mut cursors: Vec<_> = times.flat_map(|time| [time - 1, time]).collect();
        cursors.extend([i64::MIN, i64::MAX]);
        for at in cursors {
            let limit = random.random_range(1..=7);
            let states = store.states(&vault, at, limit).await;
            assert_eq!(states, model.states(at), "seed {seed}, cursor {at}");
        }
    }
}

async fn the_history_has_what_the_rules_keep(store: TestStore) {
    for seed in 100..108 {
        let (mut random, vault) = (StdRng::seed_from_u64(seed), user());
        let model = write_at_random(&store, &vault, &mut random).await;
        for (record_id, versions) in &model.records {
            for (number, expected) in (1..).zip(versions) {
                let found = store.found_version(&vault, record_id, number).await.record;
                let is_there = expected.replaced.is_none_or(|(_, kept)| kept);
                assert_eq!(found.is_some(), is_there, "seed {seed}, {record_id} {number}");
                let Some(found) = found else { continue };
                assert_eq!(found.ciphertext.as_bytes(), expected.ciphertext);
                assert_eq!(found.deleted, expected.deleted);
                assert_eq!(found.updated_at.as_millis(), expected.updated_at);
                let replaced = expected.replaced.map(|(at, _)| Timestamp::from_millis(at));
                assert_eq!(found.replaced_at, replaced);
            }
        }
    }
}

async fn the_bytes_of_the_history_equal_a_full_count(store: TestStore) {
    for seed in 200..208 {
        let (mut random, vault) = (StdRng::seed_from_u64(seed), user());
        let model = write_at_random(&store, &vault, &mut random).await;
        let mut counted = 0;
        for record_id in model.records.keys() {
            let kept = store.kept(&vault, record_id).await;
            counted += kept.iter().map(|kept| kept.bytes).sum::<usize>();
        }
        let versions = model.records.values().flatten();
        let kept = versions.filter(|one| one.replaced.is_some_and(|(_, kept)| kept));
        assert_eq!(counted, kept.map(|one| one.ciphertext.len()).sum::<usize>());
        let usage = store.store.usage(&vault).await.expect("the usage");
        assert_eq!(usage.history_bytes, i64::try_from(counted).expect("a few"), "seed {seed}");
    }
}
