//! Every way to read a vault, compared with the model.

use std::collections::BTreeMap;

use vaultsync_protocol::{
    DigestedRecord, HistoryQuery, HistoryRequest, KeptVersion, ManifestEntry, ManifestRequest,
    PastState, RecordDigest, RecordId, Timestamp, Usage, VaultSummary, Version,
};
use vaultsync_store::{HistoryOutcome, ManifestOutcome, PushOutcome, RecordsOutcome, Unbounded};

use crate::{
    follower::{Follower, Kind},
    record::{self, PastVersion, RecordModel, RecordView},
    reference::{EpochName, PullAnswer, PullRequest, RECORDS, Status, VaultModel},
    steps::{State, VAULTS},
    support::{batch, known_epoch, operation, records_request},
    system::{FOLLOWERS, System, view},
};

/// Cursors at which the states are read after a history.
const CURSORS: usize = 8;

impl System {
    /// Checks everything that can be read. Then erases every vault, and checks that nothing is left.
    pub(crate) fn finish(mut self, model: &State) {
        for (vault, of) in model.vaults.iter().enumerate() {
            for follower in 0..FOLLOWERS.len() {
                // A vault has few records, so this ends soon even with pages of one.
                while self.follow(model, vault, follower, 1 + follower * 3) {}
                self.followers[vault][follower].check(of);
            }
            self.check_page_sizes(vault, of);
            self.check_records(vault, of);
            self.check_manifest(vault, of);
            self.check_listed(model, vault);
            self.check_history(vault, of);
        }
        self.erase_all(model);
    }

    /// Pages of any size return the same records.
    fn check_page_sizes(&self, vault: usize, model: &VaultModel) {
        for limit in [1, 2, 100] {
            let mut reader = Follower::new(Kind::WithSince);
            while reader.take(self.pull(vault, &reader.request(limit))) {}
            reader.check(model);
        }
    }

    /// Reads all records by id, in as many responses as it takes.
    fn check_records(&self, vault: usize, model: &VaultModel) {
        let (mut found, mut left) = (BTreeMap::new(), RECORDS.to_vec());
        left.push("none");
        while !left.is_empty() {
            let request = records_request(&left, None);
            let reading = self.store.records(&self.vaults[vault], &request);
            let outcome = self.runtime.block_on(reading);
            let RecordsOutcome::Found(response) = outcome else { panic!("{outcome:?}") };
            assert_eq!(response.records.is_empty(), response.missing.len() == left.len());
            left.retain(|id| !response.missing.iter().any(|missing| missing.as_str() == *id));
            for DigestedRecord { record, digest } in response.records {
                assert_eq!(digest, RecordDigest::of(record.ciphertext.as_bytes()));
                left.retain(|id| *id != record.record_id.as_str());
                let (id, record) = view(&record);
                found.insert(id, record);
            }
            assert_eq!(response.has_more, !left.is_empty());
        }
        let expected: BTreeMap<_, _> = views(model).collect();
        assert_eq!(found, expected, "vault {vault}");
    }

    fn check_manifest(&self, vault: usize, model: &VaultModel) {
        let expected: Vec<_> = views(model)
            .map(|(id, record)| ManifestEntry {
                record_id: record_id(&id),
                version: version(record.version),
                deleted: record.deleted,
                updated_at: Timestamp::from_millis(record.updated_at.expect("a record")),
                digest: RecordDigest::of(&record.ciphertext),
            })
            .collect();
        for limit in [1, 4, 1000] {
            assert_eq!(self.manifest(vault, limit), expected, "pages of {limit}, vault {vault}");
        }
    }

    /// The vault's manifest, in pages of `limit`.
    fn manifest(&self, vault: usize, limit: usize) -> Vec<ManifestEntry> {
        let (mut entries, mut after) = (Vec::new(), None);
        loop {
            let request = ManifestRequest { after, limit, epoch: None };
            let reading = self.store.store.manifest(&self.vaults[vault], &request, Unbounded);
            let read = self.runtime.block_on(reading).expect("a manifest");
            let ManifestOutcome::Manifest(page) = read.0 else { panic!("no epoch was named") };
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() {
                return entries;
            }
        }
    }

    /// The counters must equal a full count.
    pub(crate) fn check_usage(&self, vault: usize, model: &VaultModel) {
        let reading = self.store.store.usage(&self.vaults[vault]);
        let found = self.runtime.block_on(reading).expect("the usage");
        let counted = model.usage();
        let expected = Usage {
            records: Some(counted.records),
            tombstones: Some(counted.tombstones),
            bytes: Some(counted.bytes),
            history_bytes: i64::try_from(model.history_bytes()).expect("a small number"),
            epoch: model.current_epoch().map(|epoch| self.epochs[vault][epoch]),
            head: model.head().map(Timestamp::from_millis),
        };
        assert_eq!(found, expected, "vault {vault}");
    }

    /// The list of vaults of the vault's user.
    fn check_listed(&self, model: &State, vault: usize) {
        let all = VAULTS.iter().zip(&model.vaults).enumerate();
        let of_user = all.filter(|(_, (of, _))| of.0 == VAULTS[vault].0);
        let mut expected: Vec<_> = of_user
            .filter_map(|(index, ((_, name), model))| {
                let usage = model.usage();
                Some(VaultSummary {
                    name: name.map(str::to_owned),
                    epoch: self.epochs[index][model.current_epoch()?],
                    head: Timestamp::from_millis(model.head()?),
                    records: Some(usage.records),
                    bytes: Some(usage.bytes),
                })
            })
            .collect();
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        let listing = self.store.store.vaults(&self.vaults[vault]);
        assert_eq!(self.runtime.block_on(listing).expect("the vaults"), expected);
    }

    fn history(&self, vault: usize, query: HistoryQuery) -> HistoryOutcome {
        let request = HistoryRequest { query, epoch: None };
        let reading = self.store.store.history(&self.vaults[vault], &request, Unbounded);
        self.runtime.block_on(reading).expect("the history").0
    }

    fn check_history(&self, vault: usize, model: &VaultModel) {
        for (id, record) in &model.records {
            let query =
                HistoryQuery::Versions { record_id: record_id(id), before: None, limit: 1000 };
            let outcome = self.history(vault, query);
            let HistoryOutcome::Versions(history) = outcome else { panic!("{outcome:?}") };
            let kept = record.kept().into_iter().rev();
            let expected: Vec<_> =
                kept.map(|number| kept_version(number, &record.versions[number - 1])).collect();
            assert_eq!(history.versions, expected, "vault {vault}, {id}");
            self.check_last_versions(vault, id, record);
        }
        let versions = model.records.values().flat_map(|record| &record.versions);
        let mut times: Vec<_> = versions.map(|version| version.updated_at).collect();
        times.sort_unstable();
        let step = times.len().div_ceil(CURSORS).max(1);
        for at in times.into_iter().step_by(step) {
            self.check_states(vault, model, at);
        }
    }

    /// Of the last versions of a record, those can be read that are current or kept.
    fn check_last_versions(&self, vault: usize, id: &str, record: &RecordModel) {
        let kept = record.kept();
        let before_last = record.versions.len().saturating_sub(3);
        for (number, past) in (1..).zip(&record.versions).skip(before_last) {
            let (record_id, version) = (record_id(id), version_number(number));
            let outcome = self.history(vault, HistoryQuery::Version { record_id, version });
            let HistoryOutcome::Version(found) = outcome else { panic!("{outcome:?}") };
            let is_there = past.replacement.is_none() || kept.contains(&number);
            assert_eq!(found.record.is_some(), is_there, "vault {vault}, {id} {number}");
            if let Some(found) = found.record {
                assert_eq!(found.ciphertext.as_bytes(), past.ciphertext);
                assert_eq!(found.deleted, past.deleted);
                assert_eq!(found.updated_at.as_millis(), past.updated_at);
            }
        }
    }

    /// The states at a cursor, in pages that look at two records each.
    pub(crate) fn check_states(&self, vault: usize, model: &VaultModel, at: i64) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let at = Timestamp::from_millis(at).into();
            let outcome = self.history(vault, HistoryQuery::States { at, after, limit: 2 });
            let HistoryOutcome::States(page) = outcome else { panic!("{outcome:?}") };
            found.extend(page.entries);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let states = model.records.iter();
        let states = states.filter_map(|(id, record)| Some((id, record, record.state(at)?)));
        let expected: Vec<_> =
            states.map(|(id, record, state)| past_state(id, record, &state)).collect();
        assert_eq!(found, expected, "vault {vault} at {at}");
    }

    /// Erases every vault. Nothing is left, and every epoch is refused.
    fn erase_all(&self, model: &State) {
        for (vault, of) in model.vaults.iter().enumerate() {
            if let Some(epoch) = of.current_epoch() {
                assert!(self.erase(vault, Some(EpochName::Own(epoch))));
            }
        }
        self.finish_erasures();
        for (vault, of) in model.vaults.iter().enumerate() {
            let status = if of.epochs > 0 { Status::Erased } else { Status::Absent };
            let nothing = VaultModel { status, epochs: of.epochs, ..VaultModel::default() };
            self.check_records(vault, &nothing);
            self.check_manifest(vault, &nothing);
            self.check_usage(vault, &nothing);
            for epoch in 0..of.epochs {
                self.check_refused(vault, epoch);
            }
        }
    }

    /// Every request that names an erased epoch is refused.
    fn check_refused(&self, vault: usize, epoch: usize) {
        let (of, erased) = (&self.vaults[vault], self.epochs[vault][epoch]);
        let known = known_epoch(erased);
        let name = Some(EpochName::Own(epoch));
        let pull = PullRequest { limit: 1, epoch: name, ..PullRequest::default() };
        assert_eq!(self.pull(vault, &pull), PullAnswer::VaultErased);
        let push = batch(&[operation("a", None, "x", false)], Some(&erased.to_string()));
        let outcome = self.runtime.block_on(self.store.push(of, push, 0));
        assert_eq!(outcome, PushOutcome::VaultErased);
        let records = records_request(&["a"], Some(&erased.to_string()));
        let read = self.runtime.block_on(self.store.records(of, &records));
        assert_eq!(read, RecordsOutcome::VaultErased);
        let manifest = ManifestRequest { after: None, limit: 1, epoch: Some(known.clone()) };
        let read = self.store.store.manifest(of, &manifest, Unbounded);
        assert_eq!(self.runtime.block_on(read).unwrap().0, ManifestOutcome::VaultErased);
        let at = Timestamp::from_millis(0).into();
        let query = HistoryQuery::States { at, after: None, limit: 1 };
        let history = HistoryRequest { query, epoch: Some(known) };
        let read = self.store.store.history(of, &history, Unbounded);
        assert_eq!(self.runtime.block_on(read).unwrap().0, HistoryOutcome::VaultErased);
    }
}

fn views(model: &VaultModel) -> impl Iterator<Item = (String, RecordView)> {
    model.records.iter().map(|(id, record)| (id.clone(), record.view()))
}

fn record_id(id: &str) -> RecordId {
    RecordId::new(id).expect(id)
}

fn version(number: i64) -> Version {
    Version::new(number).expect("a version")
}

fn version_number(number: usize) -> Version {
    version(i64::try_from(number).expect("a small number"))
}

fn kept_version(number: usize, past: &PastVersion) -> KeptVersion {
    KeptVersion {
        version: version_number(number),
        deleted: past.deleted,
        updated_at: Timestamp::from_millis(past.updated_at),
        replaced_at: Timestamp::from_millis(past.replacement.expect("a kept one").at),
        bytes: past.ciphertext.len(),
        digest: RecordDigest::of(&past.ciphertext),
    }
}

fn past_state(id: &str, record: &RecordModel, state: &record::PastState) -> PastState {
    let (number, exact) = match state {
        record::PastState::Absent => (Some(0), true),
        record::PastState::At { version, exact } => (Some(*version), *exact),
        record::PastState::Unknown => (None, false),
    };
    let past = number.and_then(|number| record.versions.get(number.checked_sub(1)?));
    PastState {
        record_id: record_id(id),
        current_version: version(record.version()),
        version: number.map(version_number),
        deleted: past.map(|past| past.deleted),
        updated_at: past.map(|past| Timestamp::from_millis(past.updated_at)),
        bytes: past.map(|past| past.ciphertext.len()),
        digest: past.map(|past| RecordDigest::of(&past.ciphertext)),
        exact,
    }
}
