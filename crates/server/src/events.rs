//! Event streams: which events one stream sends, and when.
//!
//! Notifications only wake a stream; it does not rely on them. It reads the vault's head when it
//! opens, and again after an interval without a notification, so a lost notification delays an event
//! but does not lose it.
//!
//! Not here: how events are encoded (`routes/events.rs`).

use std::time::Duration;

use serde::Serialize;
use vaultsync_protocol::{Epoch, Timestamp};
use vaultsync_store::{Subscription, Vault, VaultHead};

use crate::{app::App, error::ApiError, telemetry::OpenGauge};

/// Time without a notification after which a vault is read again. It bounds the delay of a client
/// whose notification was lost. Ten thousand idle streams cost a few hundred reads per second.
pub(crate) const REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// Time without an event after which a stream sends a keep-alive. Proxies close connections that are
/// silent for a minute, some for half of that.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Keep-alive intervals in one [`REREAD_INTERVAL`].
const INTERVALS_PER_REREAD: u8 = 2;

/// The event that a vault's head has changed to `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HeadEvent {
    head: Timestamp,
    /// The vault's epoch when it was last read.
    epoch: Epoch,
}

impl From<VaultHead> for HeadEvent {
    fn from(vault: VaultHead) -> Self {
        Self { head: vault.clock, epoch: vault.epoch }
    }
}

/// An item of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    Head(HeadEvent),
    /// The stream has just opened, or nothing has changed for [`KEEP_ALIVE_INTERVAL`].
    KeepAlive,
}

/// An open stream. Until it is dropped, it counts as one of its user's waits.
pub(crate) struct Events {
    app: App,
    vault: Vault,
    changes: Subscription,
    /// End of the grace period of the token that opened the stream.
    ends_at: Timestamp,
    /// The latest head, from a notification or a read.
    latest: Option<HeadEvent>,
    /// When the vault was last read, as uptime.
    read_at: Duration,
    /// The event that was sent last.
    sent: Option<HeadEvent>,
    /// Whether the first keep-alive is still to be sent.
    is_new: bool,
    /// Consecutive intervals without a notification.
    quiet_intervals: u8,
    _gauge: OpenGauge,
}

impl Events {
    /// Opens a stream for a token that expires at `expires_at`.
    pub(crate) async fn open(
        app: App,
        vault: Vault,
        expires_at: Timestamp,
    ) -> Result<Self, ApiError> {
        let changes = app
            .store
            .notifier()
            .subscribe(&vault, app.limits.waits_per_user_max)
            .ok_or(ApiError::TooManyWaits)?;
        Self::with_subscription(app, vault, expires_at, changes).await
    }

    /// Reads the head after subscribing, so that a later commit is notified.
    async fn with_subscription(
        app: App,
        vault: Vault,
        expires_at: Timestamp,
        changes: Subscription,
    ) -> Result<Self, ApiError> {
        let ends_at = app.limits.stream_ends_at(expires_at);
        let read_at = app.clock.uptime();
        let latest = read_head(&app, &vault).await?;
        Ok(Self {
            app,
            vault,
            changes,
            ends_at,
            latest,
            read_at,
            sent: None,
            is_new: true,
            quiet_intervals: 0,
            _gauge: OpenGauge::event_stream(),
        })
    }

    /// Waits for the next item: a head that differs from the one sent last, or a keep-alive. `None`
    /// ends the stream.
    ///
    /// The first item is a keep-alive at once: some proxies pass on the headers only with the first
    /// bytes of the body, and a vault without records has no head to send.
    ///
    /// One timer serves both keep-alives and reads. The second one that axum's `KeepAlive` would add
    /// takes 128 bytes per stream.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            let time_left = self.time_left()?;
            if std::mem::take(&mut self.is_new) {
                return Some(StreamEvent::KeepAlive);
            }
            if let Some(event) = self.latest.filter(|_| self.latest != self.sent) {
                self.sent = self.latest;
                metrics::counter!("vaultsync_events_published_total").increment(1);
                return Some(StreamEvent::Head(event));
            }
            let change = tokio::select! {
                () = self.app.stop.cancelled() => return None,
                change = self.changes.changed() => Some(change),
                () = tokio::time::sleep(time_left.min(KEEP_ALIVE_INTERVAL)) => None,
            };
            if self.changes.is_displaced() {
                // A newer wait of the same user needs the place. If this client is still there, it
                // connects again.
                return None;
            }
            match change {
                // The stream ends now: this was no whole interval.
                None if time_left < KEEP_ALIVE_INTERVAL => continue,
                // The vault was read after that change.
                Some(Some(head)) if self.latest.is_some_and(|latest| head <= latest.head) => {
                    continue;
                }
                Some(Some(head)) => {
                    (self.latest, self.quiet_intervals) = (self.with_epoch(head).await?, 0);
                }
                None if self.quiet_intervals + 1 < INTERVALS_PER_REREAD => {
                    self.quiet_intervals += 1;
                }
                None | Some(None) => {
                    (self.latest, self.quiet_intervals) = (self.reread_head(self.latest).await?, 0);
                }
            }
            // An erased vault has no head to send.
            let has_nothing_to_send = self.latest.is_none() || self.latest == self.sent;
            if has_nothing_to_send && self.time_left().is_some() {
                return Some(StreamEvent::KeepAlive);
            }
        }
    }

    /// The event of a head that was notified. A notification has no epoch, so the vault is read if it was never
    /// read, or not recently. `None` if the server stops meanwhile.
    async fn with_epoch(&mut self, head: Timestamp) -> Option<Option<HeadEvent>> {
        let event = self.latest.map(|latest| HeadEvent { head, ..latest });
        let is_recent = self.app.clock.uptime() < self.read_at + REREAD_INTERVAL;
        if event.is_some() && is_recent { Some(event) } else { self.reread_head(event).await }
    }

    /// Time until the stream ends; `None` if that is now.
    fn time_left(&self) -> Option<Duration> {
        let millis = self.ends_at.as_millis().saturating_sub(self.app.clock.now().as_millis());
        let millis =
            u64::try_from(millis).ok().filter(|left| *left > 0 && !self.app.stop.is_cancelled());
        millis.map(Duration::from_millis)
    }

    /// Reads the head again, or returns `known` if the read fails. `None` if the server stops meanwhile.
    async fn reread_head(&mut self, known: Option<HeadEvent>) -> Option<Option<HeadEvent>> {
        self.read_at = self.app.clock.uptime();
        // Boxed, because a stream is idle for most of its life and should then be small.
        let reading = Box::pin(read_head(&self.app, &self.vault));
        match self.app.stop.run_until_cancelled(reading).await? {
            Ok(head) => Some(head),
            Err(error) => {
                tracing::debug!(cause = error.cause(), "the head of a vault could not be read");
                Some(known)
            }
        }
    }
}

async fn read_head(app: &App, vault: &Vault) -> Result<Option<HeadEvent>, ApiError> {
    match tokio::time::timeout(app.limits.handler_seconds, app.store.head(vault)).await {
        Ok(head) => Ok(head?.map(HeadEvent::from)),
        Err(_) => Err(ApiError::Unavailable("the store did not respond in time".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout_at};
    use vaultsync_protocol::Push;
    use vaultsync_store::{ChangeNotifier, PushOutcome, StoreError};

    use super::*;
    use crate::Parts;

    const LONG: Duration = Duration::from_secs(610);

    /// A stream that gets no notifications and has sent its first keep-alive, and the folder of its
    /// server's database.
    async fn stream_without_notifications() -> (Events, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(Parts::in_folder(folder.path()));
        let vault = Vault::of("issuer", "ada");
        let changes = ChangeNotifier::default().subscribe(&vault, 1).unwrap();
        let expires_at = app.clock.now().plus_millis(3_600_000);
        let mut events = Events::with_subscription(app, vault, expires_at, changes).await.unwrap();
        assert_eq!(events.next().await, Some(StreamEvent::KeepAlive));
        (events, folder)
    }

    /// Counts the keep-alives within that time. No other item may come.
    async fn keep_alives_within(events: &mut Events, time: Duration) -> u32 {
        let until = Instant::now() + time;
        let mut count = 0;
        while let Ok(event) = timeout_at(until, events.next()).await {
            assert_eq!(event, Some(StreamEvent::KeepAlive));
            count += 1;
        }
        count
    }

    async fn push(events: &Events, record_id: &str) -> HeadEvent {
        let body = format!(
            r#"{{"operations":[{{"recordId":"{record_id}","baseVersion":null,
                "ciphertext":"aGVsbG8=","deleted":false}}]}}"#
        );
        let push = Push::from_json(body.as_bytes(), 100).unwrap();
        let now = events.app.clock.now();
        // To the writer thread, a batch that it has just ended began before the time that was skipped.
        let outcome = loop {
            match events.app.store.push(&events.vault, push.clone(), now, ()).await {
                Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
                outcome => break outcome.unwrap(),
            }
        };
        assert!(matches!(outcome, PushOutcome::Applied { .. }), "{outcome:?}");
        read_head(&events.app, &events.vault).await.unwrap().unwrap()
    }

    // While time is paused, it advances by itself to the next timer.

    #[tokio::test]
    async fn a_change_without_a_notification_is_sent_once_after_half_a_minute() {
        let (mut events, _folder) = stream_without_notifications().await;
        for record_id in ["a", "b"] {
            let pushed = push(&events, record_id).await;
            tokio::time::pause();
            let began = Instant::now();
            while events.next().await == Some(StreamEvent::KeepAlive) {}
            assert_eq!(events.sent, Some(pushed));
            assert_eq!(began.elapsed().as_secs(), 30);
            assert_eq!(keep_alives_within(&mut events, LONG).await, 40);
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn a_stream_ends_when_a_newer_one_needs_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::in_folder(folder.path());
        let app = App::new(Parts {
            limits: crate::Limits { waits_per_user_max: 1, ..parts.limits },
            ..parts
        });
        let expires_at = app.clock.now().plus_millis(3_600_000);
        let notifier = app.store.notifier().clone();
        let vault = Vault::of("issuer", "ada");
        let open = || {
            Events::with_subscription(
                app.clone(),
                vault.clone(),
                expires_at,
                notifier.subscribe(&vault, 1).unwrap(),
            )
        };
        let mut old = open().await.unwrap();
        tokio::time::pause();
        // One at once, and one every 15 s.
        assert_eq!(keep_alives_within(&mut old, Duration::from_secs(50)).await, 4);
        assert!(notifier.subscribe(&vault, 1).is_none());
        tokio::time::advance(Duration::from_secs(10)).await;
        let newer = notifier.subscribe(&vault, 1).unwrap();
        assert_eq!(old.next().await, None);
        drop((old, newer));
    }

    #[tokio::test]
    async fn a_stream_survives_an_unavailable_database() {
        let (mut events, _folder) = stream_without_notifications().await;
        let pushed = push(&events, "a").await;
        events.app.close().await;
        tokio::time::pause();
        assert_eq!(keep_alives_within(&mut events, LONG).await, 40);
        events.latest = Some(pushed);
        assert_eq!(events.next().await, Some(StreamEvent::Head(pushed)));
    }

    /// The machine's clock, an hour later, so that a stream can be older than the test.
    struct LaterClock(crate::SystemClock);

    impl crate::Clock for LaterClock {
        fn now(&self) -> Timestamp {
            self.0.now()
        }

        fn uptime(&self) -> Duration {
            self.0.uptime() + Duration::from_secs(3600)
        }
    }

    #[tokio::test]
    async fn the_epoch_of_a_vault_that_never_rests_is_read_again_after_half_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let clock = std::sync::Arc::new(LaterClock(crate::SystemClock::start()));
        let app = App::new(Parts { clock, ..Parts::in_folder(folder.path()) });
        let expires_at = app.clock.now().plus_millis(3_600_000);
        let vault = Vault::of("issuer", "ada");
        let mut events = Events::open(app, vault, expires_at).await.unwrap();
        assert_eq!(events.next().await, Some(StreamEvent::KeepAlive));
        let first = push(&events, "a").await;
        assert_eq!(events.next().await, Some(StreamEvent::Head(first)));
        let old = HeadEvent { epoch: Epoch::from_bytes([9; 16]), ..first };
        (events.latest, events.sent) = (Some(old), Some(old));
        let second = push(&events, "b").await;
        let expected = HeadEvent { epoch: old.epoch, ..second };
        assert_eq!(events.next().await, Some(StreamEvent::Head(expected)), "it was read just now");
        events.read_at -= REREAD_INTERVAL;
        let third = push(&events, "c").await;
        assert_eq!(events.next().await, Some(StreamEvent::Head(third)));
    }
}
