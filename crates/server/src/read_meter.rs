//! Reads of the store: within the user's memory and the handler's deadline, and charged even if no client waits
//! for the response any more.
//!
//! A response is charged when it is complete (`rates`). A client that leaves before that would cost the
//! database a read, and nothing in return.

use std::{
    pin::pin,
    sync::{Arc, Weak},
};

use tokio::time::timeout;
use vaultsync_protocol::{Page, Pull};
use vaultsync_store::{
    PullOutcome, ReadBudget, Revisions, RevisionsOutcome, RevisionsRequest, StoreError, UserId,
    Vault,
};

use crate::{
    app::App,
    error::ApiError,
    memory_budget::{PageBudget, Reservation},
};

/// Reads a page of records. Returns what the store returned, and the memory that it takes.
pub(crate) async fn read_page<T, F>(
    app: &App,
    user: UserId,
    read: impl FnOnce(ReadMeter<PageBudget>) -> F,
) -> Result<(T, PageBudget), ApiError>
where
    F: Future<Output = Result<(T, ReadMeter<PageBudget>), StoreError>>,
{
    let waiting = Waiting::new();
    // Pinned, because moving a future moves all the bytes of its largest state. When this one had
    // 12 KiB, moves took a tenth of the time of a pull that finds nothing.
    let reading = pin!(read(ReadMeter::new(app, user, app.memory.page_budget(user), &waiting)));
    // Moved, so that it is dropped before the read: a read that is given up then counts.
    let still_waiting = waiting;
    let (outcome, meter) = in_time(app, reading).await?;
    let budget = meter.into_budget();
    // After the meter has ended: the response is charged, and not the read.
    drop(still_waiting);
    Ok((outcome, budget))
}

/// What the store returns, unless it takes longer than a handler may.
pub(crate) async fn in_time<T>(
    app: &App,
    task: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ApiError> {
    let late = |_| ApiError::Unavailable("the store did not respond in time".to_owned());
    Ok(timeout(app.limits.handler_seconds, task).await.map_err(late)??)
}

/// Reads a page of changes. Does not wait for `pull.wait`.
pub(crate) async fn read_changes(
    app: &App,
    vault: &Vault,
    pull: &Pull,
) -> Result<(Page, Reservation), ApiError> {
    let read = |budget| app.store.pull(vault, pull, budget);
    match read_page(app, vault.user(), read).await? {
        (PullOutcome::Page(page), budget) => {
            let memory = budget.into_reservation(page.records.len())?;
            Ok((page, memory))
        }
        (PullOutcome::EpochChanged, _) => Err(ApiError::EpochChanged),
        (PullOutcome::CursorAhead, _) => Err(ApiError::CursorAhead),
        (PullOutcome::CursorExpired, _) => Err(ApiError::CursorExpired),
        (PullOutcome::VaultErased, _) => Err(ApiError::VaultErased),
    }
}

/// Reads a page of a vault's kept versions.
pub(crate) async fn read_versions(
    app: &App,
    vault: &Vault,
    request: &RevisionsRequest,
) -> Result<(Revisions, Reservation), ApiError> {
    let read = |budget| app.store.revisions(vault, request, budget);
    match read_page(app, vault.user(), read).await? {
        (RevisionsOutcome::Page(page), budget) => {
            let memory = budget.into_reservation(page.versions.len())?;
            Ok((page, memory))
        }
        (RevisionsOutcome::EpochChanged, _) => Err(ApiError::EpochChanged),
        (RevisionsOutcome::VaultErased, _) => Err(ApiError::VaultErased),
    }
}

/// A budget that counts what is read with it.
pub(crate) struct ReadMeter<B> {
    app: App,
    user: UserId,
    /// `None` once it was taken out.
    budget: Option<B>,
    bytes: usize,
    waiting: Weak<()>,
}

/// Held by the route while its client waits for the response.
pub(crate) struct Waiting(Arc<()>);

impl Waiting {
    pub(crate) fn new() -> Self {
        Self(Arc::new(()))
    }
}

impl<B: ReadBudget> ReadMeter<B> {
    pub(crate) fn new(app: &App, user: UserId, budget: B, waiting: &Waiting) -> Self {
        let waiting = Arc::downgrade(&waiting.0);
        Self { app: app.clone(), user, budget: Some(budget), bytes: 0, waiting }
    }

    /// The budget, once the store has returned.
    pub(crate) fn into_budget(mut self) -> B {
        self.budget.take().expect("only this method takes it out, and it consumes the meter")
    }
}

impl<B: ReadBudget> ReadBudget for ReadMeter<B> {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        self.bytes += ciphertext_bytes;
        self.budget.as_mut().is_none_or(|budget| budget.take(ciphertext_bytes))
    }

    fn clear(&mut self) {
        if let Some(budget) = &mut self.budget {
            budget.clear();
        }
    }
}

impl<B> Drop for ReadMeter<B> {
    fn drop(&mut self) {
        if self.bytes > 0 && self.waiting.strong_count() == 0 {
            self.app.rates.debit_user(self.user, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_store::Unbounded;

    use super::*;
    use crate::{Limits, Parts};

    #[tokio::test]
    async fn what_was_read_for_a_client_that_left_is_charged() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { rate_limit_bytes: 1000, ..Limits::default() };
        let app = App::new(Parts { limits, ..Parts::in_folder(folder.path()) });
        let user = Vault::of("issuer", "ada").user();
        let is_limited = || app.rates.charge_user(user).is_err();
        let read = |waiting: &Waiting| {
            let mut meter = ReadMeter::new(&app, user, Unbounded, waiting);
            assert!(meter.take(10_000));
            meter
        };
        let waiting = Waiting::new();
        drop(read(&waiting));
        let _budget: Unbounded = read(&waiting).into_budget();
        assert!(!is_limited(), "its response is charged instead");
        let read_one = async |mut meter: ReadMeter<PageBudget>| {
            assert!(meter.take(10_000));
            Ok(((), meter))
        };
        let page = read_page(&app, user, read_one).await;
        assert!(page.is_ok() && !is_limited(), "likewise");
        let meter = read(&waiting);
        drop(waiting);
        drop(meter);
        assert!(is_limited());
    }
}
