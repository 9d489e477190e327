//! A client that follows a vault by its cursor, in small pages.

use tokio_util::sync::CancellationToken;

use super::{Client, Service};
use crate::history::Outcome;

/// So small that the end of a page often falls inside a push.
const PAGE: usize = 7;

/// Page size for what is left after the last write.
const LAST_PAGES: usize = 100;

/// A follower.
#[derive(Debug)]
pub struct Follower<S> {
    client: Client<S>,
    cursor: Option<i64>,
    /// It gives up after this many pulls: a broken server may lead it in circles.
    pulls_max: usize,
    /// Waiting pulls that returned a change.
    pub woken: usize,
}

impl<S: Service> Follower<S> {
    /// A follower that starts at the beginning of the vault.
    pub fn new(client: Client<S>) -> Self {
        Self { client, cursor: None, pulls_max: usize::MAX, woken: 0 }
    }

    /// Limits the number of pulls.
    #[must_use]
    pub fn with_pulls_max(self, pulls_max: usize) -> Self {
        Self { pulls_max, ..self }
    }

    /// Follows until `written` says that the last write is done, and then to the end.
    pub async fn run(mut self, written: CancellationToken) -> Self {
        for _ in 0..self.pulls_max {
            let all_is_written = written.is_cancelled();
            let limit = if all_is_written { LAST_PAGES } else { PAGE };
            let outcome = tokio::select! {
                biased;
                outcome = self.client.pull(self.cursor, limit, !all_is_written) => outcome,
                // The next pull reads what this one would have returned, without a wait.
                () = written.cancelled(), if !all_is_written => continue,
            };
            if let Outcome::Page { records, next_cursor, has_more, .. } = outcome {
                self.woken += usize::from(!all_is_written && !records.is_empty());
                self.cursor = next_cursor.or(self.cursor);
                if all_is_written && records.is_empty() && !has_more {
                    break;
                }
            } else if outcome == Outcome::VaultErased {
                self.cursor = None;
            } else if self.client.has_fault() {
                break;
            } else {
                self.client.service.pause().await;
            }
        }
        self
    }
}
