//! A client that follows a vault by its cursor, in small pages, from whichever server answers.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Addresses, Position, Session};

/// So few that a push is often cut by the end of a page.
const PAGE: usize = 7;

/// What is left when all is written is read in whole pages.
const PAGE_AT_THE_END: usize = 100;

/// How long an empty page waits for a change.
const WAIT: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Follower {
    session: Session,
    addresses: Addresses,
    number: usize,
}

impl Follower {
    pub(super) fn new(session: Session, addresses: Addresses, number: usize) -> Self {
        Self { session, addresses, number }
    }

    /// Follows until `written` says that nothing more is written, and then to the end.
    pub(super) async fn run(self, written: CancellationToken) {
        let mut position = Position::default();
        for attempt in self.number.. {
            let at_the_end = written.is_cancelled();
            let (limit, wait) =
                if at_the_end { (PAGE_AT_THE_END, Duration::ZERO) } else { (PAGE, WAIT) };
            // Another server each time: what one has told, no other may contradict.
            let address = &self.addresses[attempt % self.addresses.len()];
            let pulled = tokio::select! {
                pulled = self.session.pull(address, &position, limit, wait) => pulled,
                // What it would have told is read again below, without a wait.
                () = written.cancelled(), if !at_the_end => continue,
            };
            let Some(page) = pulled else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            position.advance(&page);
            if at_the_end && !page.has_more && page.records == 0 {
                return;
            }
        }
    }
}
