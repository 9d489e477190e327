//! A store in this process as a client reaches it.

use std::sync::Arc;

use vaultsync_protocol::{Conflict, Cursor, KnownEpoch, Pull, Push, Record, Timestamp};
use vaultsync_store::{
    EraseOutcome, PullOutcome, PushOutcome, Store, StoreError, Unbounded, Vault,
};

use super::{PullRequest, PushRequest, Service, push_body::push_body};
use crate::history::{ConflictEntry, Digest, Outcome, RecordView, WriteResult};

/// A vault of a store. `C` is the clock, which may step in either direction.
#[derive(Clone, Debug)]
pub struct StoreService<C> {
    store: Arc<Store>,
    vault: Vault,
    now: C,
}

impl<C: FnMut() -> Timestamp> StoreService<C> {
    /// A service for a vault of a store, with `now` as its clock.
    pub fn new(store: Arc<Store>, vault: Vault, now: C) -> Self {
        Self { store, vault, now }
    }
}

impl<C: FnMut() -> Timestamp + Send> Service for StoreService<C> {
    async fn push(&mut self, push: PushRequest<'_>) -> Result<Outcome, String> {
        let push = parse(&push)?;
        match self.store.push(&self.vault, push, (self.now)(), ()).await {
            Ok(PushOutcome::Applied { results: written, .. }) => {
                let results = written.into_iter().map(|one| WriteResult {
                    record_id: one.record_id.as_str().into(),
                    version: one.version.get().unsigned_abs(),
                    updated_at: None,
                });
                Ok(Outcome::Acknowledged { results: results.collect() })
            }
            Ok(PushOutcome::Refused(refused)) => {
                let conflicts = refused.conflicts.iter().map(conflict_entry).collect();
                Ok(Outcome::Conflict { conflicts })
            }
            Ok(PushOutcome::VaultErased) => Ok(Outcome::VaultErased),
            Ok(PushOutcome::Erasing) => Ok(Outcome::Refused),
            Ok(
                outcome @ (PushOutcome::EpochChanged
                | PushOutcome::TooManyVaults
                | PushOutcome::QuotaExceeded(_)
                | PushOutcome::CursorExpired),
            ) => Err(format!("no limit is set, and no database was put back: {outcome:?}")),
            Err(error) => outcome_of(&error),
        }
    }

    async fn pull(&mut self, request: PullRequest<'_>) -> Result<Outcome, String> {
        // Nothing waits here, so a follower must not take the writers' time by polling without a break.
        tokio::task::yield_now().await;
        let (cursor, limit) = (request.cursor.map(cursor), request.limit);
        let epoch = request.epoch.map(known_epoch).transpose()?;
        let pull = Pull { cursor, limit, epoch, ..Pull::default() };
        match self.store.pull(&self.vault, &pull, Unbounded).await {
            Ok((PullOutcome::Page(page), _)) => Ok(Outcome::Page {
                records: page.records.iter().map(view).collect(),
                next_cursor: page.next_cursor.map(Timestamp::as_millis),
                has_more: page.has_more,
                epoch: page.epoch.map(|epoch| epoch.to_string().into()),
            }),
            Ok((PullOutcome::VaultErased, _)) => Ok(Outcome::VaultErased),
            Ok((outcome, _)) => Err(format!("no database was put back: {outcome:?}")),
            Err(error) => outcome_of(&error),
        }
    }

    /// Erases the vault and removes its rows.
    async fn erase(&mut self, epoch: &str) -> Result<Outcome, String> {
        let (epoch, now) = (known_epoch(epoch)?, (self.now)());
        let erased = self.store.erase(&self.vault, &epoch, now).await;
        match erased {
            Ok(EraseOutcome::Erased) => {}
            Ok(EraseOutcome::EpochChanged) => return Err("an epoch is not erased".to_owned()),
            Err(error) => return outcome_of(&error),
        }
        match self.store.finish_erasures(now).await {
            Ok(_) => Ok(Outcome::Erased),
            Err(error) => outcome_of(&error),
        }
    }

    async fn pause(&mut self) {
        tokio::task::yield_now().await;
    }
}

/// All records of a vault, in the vault's order.
pub async fn state(store: &Store, vault: &Vault) -> Result<Vec<RecordView>, StoreError> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let pull = Pull { cursor, ..Pull::default() };
        let page = match store.pull(vault, &pull, Unbounded).await?.0 {
            PullOutcome::Page(page) => page,
            refused => {
                return Err(StoreError::Internal(format!("{refused:?}, but no epoch was sent")));
            }
        };
        all.extend(page.records.iter().map(view));
        cursor = page.next_cursor.map(Cursor::from).or(cursor);
        if !page.has_more {
            return Ok(all);
        }
    }
}

fn cursor(millis: i64) -> Cursor {
    Cursor::from(Timestamp::from_millis(millis))
}

fn known_epoch(text: &str) -> Result<KnownEpoch, String> {
    KnownEpoch::new(text).ok_or_else(|| format!("{text} cannot be an epoch"))
}

/// Parses the body of a push: a [`Push`] is only made from a body, so that every push is valid.
fn parse(push: &PushRequest<'_>) -> Result<Push, String> {
    let body = push_body(push);
    Push::from_json(body.as_bytes(), usize::MAX).map_err(|error| format!("{error:?}"))
}

fn outcome_of(error: &StoreError) -> Result<Outcome, String> {
    match error {
        StoreError::Busy(_) | StoreError::Unavailable(_) => Ok(Outcome::Refused),
        StoreError::OutcomeUnknown(_) => Ok(Outcome::Unknown),
        StoreError::Internal(message) => Err(message.clone()),
    }
}

fn view(record: &Record) -> RecordView {
    RecordView {
        record_id: record.record_id.as_str().into(),
        version: record.version.get().unsigned_abs(),
        digest: Digest::of(record.ciphertext.as_bytes()),
        deleted: record.deleted,
        updated_at: record.updated_at.as_millis(),
    }
}

fn conflict_entry(conflict: &Conflict) -> ConflictEntry {
    match conflict.updated_at {
        None => ConflictEntry::Missing(conflict.record_id.as_str().into()),
        Some(updated_at) => ConflictEntry::Record(RecordView {
            record_id: conflict.record_id.as_str().into(),
            version: conflict.current_version.get().unsigned_abs(),
            digest: Digest::of(conflict.ciphertext.as_bytes()),
            deleted: conflict.deleted,
            updated_at: updated_at.as_millis(),
        }),
    }
}
