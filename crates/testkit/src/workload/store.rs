//! A store in this process as a client reaches it.

use std::sync::Arc;

use vaultsync_protocol::{Conflict, Cursor, Operation, Pull, Push, Record, Timestamp};
use vaultsync_store::{PullOutcome, PushOutcome, Store, StoreError, Unbounded, Vault};

use super::{Service, push_body::push_body};
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
    async fn push(&mut self, operations: &[Operation]) -> Result<Outcome, String> {
        let push = parse(operations)?;
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
            Ok(
                outcome @ (PushOutcome::EpochChanged
                | PushOutcome::VaultErased
                | PushOutcome::Erasing
                | PushOutcome::TooManyVaults
                | PushOutcome::QuotaExceeded(_)
                | PushOutcome::CursorExpired),
            ) => Err(format!("neither an epoch nor a limit is set: {outcome:?}")),
            Err(error) => outcome_of(&error),
        }
    }

    async fn pull(
        &mut self,
        cursor: Option<i64>,
        limit: usize,
        _: bool,
    ) -> Result<Outcome, String> {
        // Nothing waits here, so a follower must not take the writers' time by polling without a break.
        tokio::task::yield_now().await;
        match page(&self.store, &self.vault, cursor, limit).await {
            Ok((records, next_cursor, has_more)) => {
                Ok(Outcome::Page { records, next_cursor, has_more })
            }
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
        let (records, next_cursor, has_more) = page(store, vault, cursor, 100).await?;
        all.extend(records);
        cursor = next_cursor.or(cursor);
        if !has_more {
            return Ok(all);
        }
    }
}

async fn page(
    store: &Store,
    vault: &Vault,
    cursor: Option<i64>,
    limit: usize,
) -> Result<(Vec<RecordView>, Option<i64>, bool), StoreError> {
    let cursor = cursor.map(|millis| Cursor::from(Timestamp::from_millis(millis)));
    let pull = Pull { cursor, limit, ..Pull::default() };
    match store.pull(vault, &pull, Unbounded).await?.0 {
        PullOutcome::Page(page) => {
            let records = page.records.iter().map(view).collect();
            Ok((records, page.next_cursor.map(Timestamp::as_millis), page.has_more))
        }
        refused => Err(StoreError::Internal(format!("{refused:?}, but no epoch was sent"))),
    }
}

/// Parses the body of a push: a [`Push`] is only made from a body, so that every push is valid.
fn parse(operations: &[Operation]) -> Result<Push, String> {
    let body = push_body(operations);
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
