//! The heads of a vault, as they are told to one who listens.
//!
//! A hint is never the truth, and this does not rely on one: it reads before it waits, and again
//! where it has heard nothing for a while. Whoever gets no hint learns of a change late, not never.
//!
//! Not here: how a head is written to the wire (`routes/events.rs`).

use std::time::Duration;

use serde::Serialize;
use vaultsync_protocol::{Pull, Timestamp};
use vaultsync_store::{PullOutcome, Subscription, Vault};

use crate::{app::App, response::ApiError, telemetry::Open};

/// How long nothing is heard of a vault before its head is read: a hint that is lost delays a client
/// by no more than that, and ten thousand idle streams cost a few hundred look-ups a second.
pub(crate) const REREAD_AFTER: Duration = Duration::from_secs(30);

/// How long a stream is silent before it says that it is alive: proxies close what is silent for a
/// minute, some of them for half of that.
const HEARTBEAT_AFTER: Duration = Duration::from_secs(15);

/// How many silences are as long as [`REREAD_AFTER`].
const SILENCES_MAX: u8 = 2;

/// 9999-12-31T23:59:59.999Z, later than any record: a page after it has the vault's head and nothing
/// else, so that reading it costs one look-up.
const FAR_END: Timestamp = Timestamp::from_millis(253_402_300_799_999);

/// That the vault's clock stands at `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HeadEvent {
    head: Timestamp,
}

/// What a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    Head(HeadEvent),
    /// Nothing new, for a while.
    Alive,
}

/// An open stream. It takes one of its user's places to wait until it is dropped.
pub(crate) struct Events {
    app: App,
    vault: Vault,
    changes: Subscription,
    /// When the token that opened it is no longer good enough.
    ends_at: Timestamp,
    /// The last head heard of, or read.
    seen: Option<Timestamp>,
    told: Option<Timestamp>,
    /// How often in a row nothing was heard.
    silences: u8,
    _open: Open,
}

impl Events {
    /// Begins to listen with a token that expires at `expires_at`.
    pub(crate) async fn open(
        app: App,
        vault: Vault,
        expires_at: Timestamp,
    ) -> Result<Self, ApiError> {
        let heads = app.store.notifier();
        let changes = heads
            .subscribe(vault.id(), app.limits.waits_per_user_max)
            .ok_or(ApiError::TooManyWaits)?;
        Self::listening(app, vault, expires_at, changes).await
    }

    /// Reads the present head, after listening has begun: what is committed later is heard.
    async fn listening(
        app: App,
        vault: Vault,
        expires_at: Timestamp,
        changes: Subscription,
    ) -> Result<Self, ApiError> {
        let grace = i64::try_from(app.limits.stream_grace.as_millis()).unwrap_or(i64::MAX);
        let ends_at = expires_at.plus_millis(grace);
        let seen = read(&app, &vault).await?;
        let (told, silences) = (None, 0);
        Ok(Self { app, vault, changes, ends_at, seen, told, silences, _open: Open::event_stream() })
    }

    /// Waits for a head that was not told last, or for long enough without one; `None` where the stream
    /// is over.
    ///
    /// One timer for both silence and looking: a second one, of axum's `KeepAlive`, takes 128 bytes a
    /// stream.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            let left = self.left()?;
            if let Some(head) = self.seen.filter(|_| self.seen != self.told) {
                self.told = self.seen;
                metrics::counter!("vaultsync_events_published_total").increment(1);
                return Some(StreamEvent::Head(HeadEvent { head }));
            }
            let told = tokio::select! {
                () = self.app.stop.cancelled() => return None,
                told = self.changes.changed() => Some(told),
                () = tokio::time::sleep(left.min(HEARTBEAT_AFTER)) => None,
            };
            match told {
                Some(Some(head)) => (self.seen, self.silences) = (Some(head), 0),
                None if self.silences + 1 < SILENCES_MAX => self.silences += 1,
                None | Some(None) => (self.seen, self.silences) = (self.look().await?, 0),
            }
            if self.seen == self.told && self.left().is_some() {
                return Some(StreamEvent::Alive);
            }
        }
    }

    /// How long the stream may go on; `None` where it may not.
    fn left(&self) -> Option<Duration> {
        let left = self.ends_at.as_millis().saturating_sub(self.app.clock.now().as_millis());
        let left =
            u64::try_from(left).ok().filter(|left| *left > 0 && !self.app.stop.is_cancelled());
        left.map(Duration::from_millis)
    }

    /// Reads the head, or takes the last one where it cannot be had now; `None` where the server
    /// stops meanwhile.
    async fn look(&self) -> Option<Option<Timestamp>> {
        // In a box, because a stream is idle for most of its life and should be small then.
        let reading = Box::pin(read(&self.app, &self.vault));
        match self.app.stop.run_until_cancelled(reading).await? {
            Ok(head) => Some(head),
            Err(error) => {
                tracing::debug!(cause = error.cause(), "the head of a vault could not be read");
                Some(self.seen)
            }
        }
    }
}

async fn read(app: &App, vault: &Vault) -> Result<Option<Timestamp>, ApiError> {
    let pull = Pull { cursor: Some(FAR_END.into()), limit: 1, ..Pull::default() };
    let reading = app.store.pull(vault, &pull, app.memory.room(vault.id()));
    match tokio::time::timeout(app.limits.handler_timeout, reading).await {
        Ok(Ok((PullOutcome::Page(page), _))) => Ok(page.head),
        Ok(Ok(_)) => Err(ApiError::Internal("a pull without epoch was refused".to_owned())),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::Unavailable("the store took too long".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout_at};
    use vaultsync_protocol::Push;
    use vaultsync_store::{ChangeNotifier, PushOutcome};

    use super::*;
    use crate::Parts;

    const LONG: Duration = Duration::from_secs(610);

    /// A stream to which no hint ever comes. The folder is where its server keeps records.
    async fn deaf() -> (Events, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(Parts::in_folder(folder.path()));
        let vault = Vault::of("issuer", "ada");
        let changes = ChangeNotifier::default().subscribe(vault.id(), 1).unwrap();
        let expires_at = app.clock.now().plus_millis(3_600_000);
        (Events::listening(app, vault, expires_at, changes).await.unwrap(), folder)
    }

    /// How often a stream that has nothing to tell says that it is alive.
    async fn silent_for(events: &mut Events, time: Duration) -> u32 {
        let until = Instant::now() + time;
        let mut times = 0;
        while let Ok(said) = timeout_at(until, events.next()).await {
            assert_eq!(said, Some(StreamEvent::Alive));
            times += 1;
        }
        times
    }

    async fn push(events: &Events, record_id: &str) -> HeadEvent {
        let body = format!(
            r#"{{"operations":[{{"recordId":"{record_id}","baseVersion":null,
                "ciphertext":"aGVsbG8=","deleted":false}}]}}"#
        );
        let push = Push::from_json(body.as_bytes(), 100).unwrap();
        let now = events.app.clock.now();
        let outcome = events.app.store.push(&events.vault, push, now, ()).await.unwrap();
        assert!(matches!(outcome, PushOutcome::Applied(_)), "{outcome:?}");
        HeadEvent { head: read(&events.app, &events.vault).await.unwrap().unwrap() }
    }

    // Where time is paused, it moves on by itself to when somebody wants to be woken.

    #[tokio::test]
    async fn a_change_that_no_hint_tells_of_is_told_half_a_minute_later_and_once() {
        let (mut events, _folder) = deaf().await;
        for record_id in ["a", "b"] {
            let pushed = push(&events, record_id).await;
            tokio::time::pause();
            let began = Instant::now();
            while events.next().await == Some(StreamEvent::Alive) {}
            assert_eq!(events.told, Some(pushed.head));
            assert_eq!(began.elapsed().as_secs(), 30);
            assert_eq!(silent_for(&mut events, LONG).await, 40);
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn a_database_that_is_away_does_not_end_a_stream() {
        let (mut events, _folder) = deaf().await;
        let pushed = push(&events, "a").await;
        events.app.close().await;
        tokio::time::pause();
        assert_eq!(silent_for(&mut events, LONG).await, 40);
        events.seen = Some(pushed.head);
        assert_eq!(events.next().await, Some(StreamEvent::Head(pushed)));
    }
}
