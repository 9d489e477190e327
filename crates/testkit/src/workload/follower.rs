//! A client that follows a vault by its cursor, in small pages.

use super::{Device, Service};
use crate::history::{Outcome, Request};

/// So few that a push is often cut by the end of a page.
const PAGE: usize = 7;

/// A follower, and afterwards what it says of the server.
#[derive(Debug)]
pub struct Follower<S> {
    device: Device,
    service: S,
    cursor: Option<i64>,
    /// Pulls after which it gives up: a broken server may lead it in circles.
    pulls_max: usize,
    /// Waits that a change ended.
    pub woken: usize,
    /// Requests that were refused, or of unknown outcome.
    pub unserved: usize,
    /// What should never be answered.
    pub faults: Vec<String>,
}

impl<S: Service> Follower<S> {
    /// One that starts at the beginning.
    pub fn new(device: Device, service: S) -> Self {
        Self {
            device,
            service,
            cursor: None,
            pulls_max: usize::MAX,
            woken: 0,
            unserved: 0,
            faults: Vec::new(),
        }
    }

    /// The same, but it gives up after that many pulls.
    #[must_use]
    pub fn with_pulls_max(self, pulls_max: usize) -> Self {
        Self { pulls_max, ..self }
    }

    /// Follows until `written` says that nothing more is written, and then to the end.
    #[must_use = "it has what the server did wrong"]
    pub async fn run(mut self, written: impl Fn() -> bool) -> Self {
        for _ in 0..self.pulls_max {
            let at_the_end = written();
            let is_last = self.turn(!at_the_end).await;
            if at_the_end && is_last || !self.faults.is_empty() {
                break;
            }
        }
        self
    }

    /// Pulls once; whether the page was empty, and so the last.
    async fn turn(&mut self, wait: bool) -> bool {
        let Device { recorder, user, name } = &self.device;
        let request = Request::Pull { cursor: self.cursor, limit: PAGE };
        let number = recorder.begin(user, name, request);
        let answer = self.service.pull(self.cursor, PAGE, wait).await;
        let outcome = answer.unwrap_or_else(|fault| {
            self.faults.push(format!("{user}, {name}: {fault}"));
            Outcome::Unknown
        });
        recorder.end(number, outcome.clone());
        if let Outcome::Page { records, next_cursor, has_more } = outcome {
            self.woken += usize::from(wait && !records.is_empty());
            self.cursor = next_cursor.or(self.cursor);
            records.is_empty() && !has_more
        } else {
            self.unserved += 1;
            self.service.pause().await;
            false
        }
    }
}
