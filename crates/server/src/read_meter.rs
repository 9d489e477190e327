//! Charges a user for records that were read for a response which no client waits for any more.
//!
//! A response is charged when it is complete (`rates`). A client that leaves before that would cost the
//! database a read, and nothing in return.

use std::sync::{Arc, Weak};

use vaultsync_store::{ReadBudget, UserId};

use crate::app::App;

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
    use vaultsync_store::{Unbounded, Vault};

    use super::*;
    use crate::{Limits, Parts};

    #[test]
    fn what_was_read_for_a_client_that_left_is_charged() {
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
        let meter = read(&waiting);
        drop(waiting);
        drop(meter);
        assert!(is_limited());
    }
}
