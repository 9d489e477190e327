//! Streams of records: the feed of a vault after a cursor, in one response of one JSON object a line, and after it
//! the kept versions if they are asked for.
//!
//! The store is read page by page, and the next page only when the previous one is written: a slow client holds
//! neither a transaction nor more memory than one page takes.
//!
//! Not here: what the lines contain besides records (the routes).

use std::fmt;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::oneshot;
use tracing::Span;
use vaultsync_protocol::{
    Cursor, Epoch, KnownEpoch, Page, Pull, Record, RecordVersion, StreamProgress, StreamRange,
    Timestamp,
};
use vaultsync_store::RevisionsRequest;

use crate::{
    accept::NDJSON,
    app::App,
    error::ApiError,
    extract::Caller,
    memory_budget::Reservation,
    offload,
    read_meter::{read_changes, read_versions},
    response::guarded,
};

/// What the lines of a stream contain.
pub(crate) trait StreamLines: Send + Sync + 'static {
    /// Whether the kept versions of the vault follow its records.
    fn has_history(&self) -> bool {
        false
    }

    /// Writes the first line.
    fn start(&mut self, lines: &mut Vec<u8>, epoch: Option<Epoch>, head: Option<Timestamp>);

    /// Writes the line of a record.
    fn record(&mut self, lines: &mut Vec<u8>, record: &Record);

    /// Writes the line of a kept version.
    fn version(&mut self, _lines: &mut Vec<u8>, _version: &RecordVersion) {}

    /// Writes the last line. `next_cursor` is the time of the last record, if there was one.
    fn end(&mut self, lines: &mut Vec<u8>, next_cursor: Option<Timestamp>, has_more: bool);
}

/// Opens a stream of the records after `pull.cursor`. Errors of the first page are those of a pull.
pub(crate) async fn open(
    app: App,
    caller: Caller,
    pull: Pull,
    lines: impl StreamLines,
) -> Result<Response, ApiError> {
    let stream = RecordStream::open(app, caller, pull, lines).await?;
    let parts = stream::unfold(stream, RecordStream::next);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(NDJSON)),
        // A proxy that buffers would read the whole vault to its disk, at its own speed.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// Why a stream ends without its last line. It makes the server close the connection, so that the client does not
/// take what it has for the whole.
#[derive(Debug, PartialEq, Eq)]
struct BrokenOff(String);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream is broken off: {}", self.0)
    }
}

impl std::error::Error for BrokenOff {}

impl From<ApiError> for BrokenOff {
    fn from(error: ApiError) -> Self {
        Self(error.cause().unwrap_or(error.code()).to_owned())
    }
}

/// An open stream.
struct RecordStream<L> {
    app: App,
    caller: Caller,
    lines: L,
    range: StreamRange,
    /// Whether the vault had changed since the stream began when it was read last.
    has_more: bool,
    next: Next,
    /// Ends when the last part is written.
    written: Option<oneshot::Receiver<()>>,
    span: Span,
}

/// What follows the parts that are sent.
enum Next {
    /// The first page of records.
    First(Page, Reservation, Pull),
    /// The page of this pull.
    Records(Pull),
    /// A page of kept versions.
    Versions(RevisionsRequest),
    Nothing,
}

/// What the lines of one part are written from.
enum Part {
    Records { page: Page, is_first: bool },
    Versions(Vec<RecordVersion>),
}

impl Part {
    fn ciphertext_bytes(&self) -> usize {
        match self {
            Self::Records { page, .. } => {
                page.records.iter().map(|record| record.ciphertext.len()).sum()
            }
            Self::Versions(versions) => {
                versions.iter().map(|version| version.ciphertext.len()).sum()
            }
        }
    }
}

impl<L: StreamLines> RecordStream<L> {
    async fn open(app: App, caller: Caller, pull: Pull, lines: L) -> Result<Self, ApiError> {
        let (page, memory) = read_changes(&app, &caller.vault, &pull).await?;
        let pull = Pull {
            // A client that reads from the start has nothing that could be purged meanwhile.
            since: pull.since.filter(|_| pull.cursor.is_some()),
            epoch: page.epoch.map(KnownEpoch::from),
            ..pull
        };
        Ok(Self {
            app,
            caller,
            lines,
            range: StreamRange::new(&page),
            has_more: false,
            next: Next::First(page, memory, pull),
            written: None,
            span: Span::current(),
        })
    }

    /// The lines of the next page, and the rest of the stream; `None` at its end.
    async fn next(mut self) -> Option<(Result<Bytes, BrokenOff>, Self)> {
        let read = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::First(page, memory, pull) => self.records(page, memory, pull, true),
            Next::Records(pull) => self.next_records(pull).await,
            Next::Versions(request) => self.next_versions(request).await,
            Next::Nothing => return None,
        };
        match read {
            Ok((part, memory)) => {
                let (part, rest) = self.encode(part, memory).await;
                Some((Ok(part), rest))
            }
            Err(reason) => {
                self.span.in_scope(|| tracing::warn!(cause = reason.0, "a stream is broken off"));
                Some((Err(reason), self))
            }
        }
    }

    /// Reads the page of a pull, once the previous part is written.
    async fn next_records(&mut self, pull: Pull) -> Result<(Part, Reservation), BrokenOff> {
        self.wait_until_written().await?;
        let (page, memory) = read_changes(&self.app, &self.caller.vault, &pull).await?;
        self.records(page, memory, pull, false)
    }

    /// The part of a page, and what follows it.
    fn records(
        &mut self,
        mut page: Page,
        memory: Reservation,
        pull: Pull,
        is_first: bool,
    ) -> Result<(Part, Reservation), BrokenOff> {
        self.next = match self.range.cut(&mut page) {
            StreamProgress::EndsTooEarly => {
                let reason = "a page ends before the head of the first one";
                return Err(BrokenOff(reason.to_owned()));
            }
            StreamProgress::Continues => {
                Next::Records(Pull { cursor: self.range.last().map(Cursor::from), ..pull })
            }
            StreamProgress::Ended if self.lines.has_history() => {
                Next::Versions(RevisionsRequest { epoch: pull.epoch, after: None })
            }
            StreamProgress::Ended => Next::Nothing,
        };
        self.has_more |= page.head > self.range.head();
        metrics::counter!("vaultsync_records_pulled_total").increment(page.records.len() as u64);
        Ok((Part::Records { page, is_first }, memory))
    }

    /// Reads a page of kept versions, once the previous part is written.
    async fn next_versions(
        &mut self,
        request: RevisionsRequest,
    ) -> Result<(Part, Reservation), BrokenOff> {
        self.wait_until_written().await?;
        let vault = &self.caller.vault;
        let (page, memory) = read_versions(&self.app, vault, &request).await?;
        self.has_more |= page.head > self.range.head();
        self.next = request.after_page(&page).map_or(Next::Nothing, Next::Versions);
        Ok((Part::Versions(page.versions), memory))
    }

    /// Waits until the previous part is written, and until another may be read.
    async fn wait_until_written(&mut self) -> Result<(), BrokenOff> {
        if let Some(written) = self.written.take() {
            // Nothing is sent to it: it ends when the part is dropped.
            let _ = written.await;
        }
        self.wait_for_rates().await
    }

    /// Waits until the rates allow further bytes. Fails if the stream must end.
    async fn wait_for_rates(&self) -> Result<(), BrokenOff> {
        let ends_at = self.app.limits.stream_ends_at(self.caller.expires_at);
        loop {
            if self.app.stop.is_cancelled() {
                return Err(BrokenOff("the server stops".to_owned()));
            }
            if self.app.clock.now() >= ends_at {
                return Err(BrokenOff("the token has expired".to_owned()));
            }
            let user = self.caller.vault.user();
            let Some(wait) = self.app.rates.time_to_bytes(user, self.caller.address) else {
                return Ok(());
            };
            let _ = self.app.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }

    /// Encodes a part, with the first and last lines where they belong.
    async fn encode(self, part: Part, memory: Reservation) -> (Bytes, Self) {
        let (mut lines, range, has_more) = (self.lines, self.range, self.has_more);
        let has_ended = matches!(self.next, Next::Nothing);
        let bytes = part.ciphertext_bytes();
        let encode = move || {
            let mut text = Vec::new();
            match part {
                Part::Records { page, is_first } => {
                    if is_first {
                        lines.start(&mut text, page.epoch, range.head());
                    }
                    page.records.iter().for_each(|record| lines.record(&mut text, record));
                }
                Part::Versions(versions) => {
                    for version in &versions {
                        lines.version(&mut text, version);
                    }
                }
            }
            if has_ended {
                lines.end(&mut text, range.last(), has_more);
            }
            (Bytes::from(text), lines, memory)
        };
        let (text, lines, mut memory) = offload::run(bytes, encode).await;
        memory.shrink(text.len());
        let (written, is_written) = oneshot::channel::<()>();
        // Versions that were written after the stream began are read, and not sent.
        let bytes = bytes.max(text.len());
        self.app.rates.debit_user(self.caller.vault.user(), bytes);
        if let Some(address) = self.caller.address {
            self.app.rates.debit_address(address, bytes);
        }
        let rest = Self { lines, written: Some(is_written), ..self };
        (guarded(text, (memory, written)), rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;
    use vaultsync_protocol::Push;
    use vaultsync_store::{PushOutcome, Vault};

    use super::*;
    use crate::{Clock, Limits, Parts};

    /// Writes a line for the start, for each record its id, and for the end.
    struct Ids;

    impl StreamLines for Ids {
        fn start(&mut self, lines: &mut Vec<u8>, _: Option<Epoch>, _: Option<Timestamp>) {
            lines.extend(b"start\n");
        }

        fn record(&mut self, lines: &mut Vec<u8>, record: &Record) {
            lines.extend(format!("{}\n", record.record_id).into_bytes());
        }

        fn end(&mut self, lines: &mut Vec<u8>, _: Option<Timestamp>, has_more: bool) {
            lines.extend(format!("end {has_more}\n").into_bytes());
        }
    }

    /// As the other lines, and then the kept versions.
    struct WithHistory(Ids);

    impl StreamLines for WithHistory {
        fn has_history(&self) -> bool {
            true
        }

        fn start(&mut self, lines: &mut Vec<u8>, epoch: Option<Epoch>, head: Option<Timestamp>) {
            self.0.start(lines, epoch, head);
        }

        fn record(&mut self, lines: &mut Vec<u8>, record: &Record) {
            self.0.record(lines, record);
        }

        fn end(&mut self, lines: &mut Vec<u8>, next_cursor: Option<Timestamp>, has_more: bool) {
            self.0.end(lines, next_cursor, has_more);
        }
    }

    /// The clock of tokio, which a test can advance.
    struct PausedClock(Instant);

    impl Clock for PausedClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_705_314_600_000)
                .plus_millis(i64::try_from(self.uptime().as_millis()).unwrap())
        }

        fn uptime(&self) -> Duration {
            self.0.elapsed()
        }
    }

    fn vault() -> Vault {
        Vault::of("issuer", "ada")
    }

    async fn push(app: &App, ids: impl IntoIterator<Item = String>, ciphertext: &str) {
        let operations: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let ciphertext = base64_simd::STANDARD.encode_to_string(ciphertext);
                format!(
                    r#"{{"recordId":"{id}","baseVersion":null,"ciphertext":"{ciphertext}","deleted":false}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"operations":[{}]}}"#, operations.join(","));
        let push = Push::from_json(body.as_bytes(), usize::MAX).unwrap();
        let outcome = app.store.push(&vault(), push, app.clock.now(), ()).await.unwrap();
        assert!(matches!(outcome, PushOutcome::Applied { .. }), "{outcome:?}");
    }

    /// A server whose vault has 250 records of a page of 100 each, and the folder of its database.
    async fn server(limits: Limits) -> (App, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(PausedClock(Instant::now()));
        let app = App::new(Parts { limits, clock, ..Parts::in_folder(folder.path()) });
        for batch in 0..5 {
            push(&app, (0..50).map(|n| format!("r{}", batch * 50 + n)), "x").await;
        }
        (app, folder)
    }

    async fn open(app: &App) -> RecordStream<Ids> {
        let expires_at = app.clock.now().plus_millis(60_000);
        let caller = Caller { vault: vault(), expires_at, address: None };
        RecordStream::open(app.clone(), caller, Pull::default(), Ids).await.unwrap()
    }

    /// The lines of the rest of a stream, and why it broke off if it did. Each part is written at once.
    async fn rest(mut stream: RecordStream<Ids>) -> (Vec<String>, Option<BrokenOff>) {
        let (mut text, mut reason) = (String::new(), None);
        while let Some((part, rest)) = stream.next().await {
            assert_eq!(reason, None, "nothing follows an error");
            match part {
                Ok(part) => text += std::str::from_utf8(&part).unwrap(),
                Err(error) => reason = Some(error),
            }
            stream = rest;
        }
        (text.lines().map(str::to_owned).collect(), reason)
    }

    /// The lines from one place of the vault to another.
    fn lines(from: usize, to: usize) -> Vec<String> {
        (from..to).map(|number| format!("r{number}")).collect()
    }

    #[tokio::test]
    async fn a_stream_has_each_record_once_between_its_first_and_last_line() {
        let (app, _folder) = server(Limits::default()).await;
        let (text, reason) = rest(open(&app).await).await;
        assert_eq!((text.first(), reason), (Some(&"start".to_owned()), None));
        assert_eq!(text[1..251], lines(0, 250));
        assert_eq!(text[251..], ["end false"]);
        assert_eq!(app.memory.reserved_bytes(), 0);
    }

    #[tokio::test]
    async fn a_stream_ends_at_the_head_of_its_beginning() {
        let (app, _folder) = server(Limits::default()).await;
        let stream = open(&app).await;
        push(&app, ["new".to_owned()], "x").await;
        let (text, reason) = rest(stream).await;
        assert_eq!((text[1..251].to_vec(), reason), (lines(0, 250), None));
        assert_eq!(text[251..], ["end true"]);
    }

    #[tokio::test]
    async fn a_change_while_kept_versions_are_read_shows_in_the_last_line() {
        let (app, _folder) = server(Limits::default()).await;
        let expires_at = app.clock.now().plus_millis(60_000);
        let caller = Caller { vault: vault(), expires_at, address: None };
        let lines = WithHistory(Ids);
        let mut stream =
            RecordStream::open(app.clone(), caller, Pull::default(), lines).await.unwrap();
        let mut text = Vec::new();
        while let Some((part, rest)) = stream.next().await {
            text.extend_from_slice(&part.unwrap());
            if matches!(rest.next, Next::Versions(_)) {
                push(&app, ["new".to_owned()], "x").await;
            }
            stream = rest;
        }
        assert!(text.ends_with(b"r249\nend true\n"));
    }

    #[tokio::test]
    async fn only_one_page_is_in_memory_until_it_is_written() {
        let (app, _folder) = server(Limits::default()).await;
        let (first, stream) = open(&app).await.next().await.unwrap();
        let reserved = app.memory.reserved_bytes();
        assert_eq!(reserved, first.as_ref().unwrap().len());
        let mut next = Box::pin(stream.next());
        tokio::task::yield_now().await;
        let polled = tokio::time::timeout(Duration::from_millis(50), &mut next).await;
        assert!(polled.is_err(), "the first page is not written yet");
        assert_eq!(app.memory.reserved_bytes(), reserved);
        drop(first);
        let (second, _) = next.await.unwrap();
        assert_eq!(app.memory.reserved_bytes(), second.unwrap().len());
    }

    /// Opens a stream, reads its first page, and breaks something. The rest must break off.
    async fn broken_off(break_it: impl AsyncFnOnce(&App, &mut RecordStream<Ids>)) -> String {
        let (app, _folder) = server(Limits::default()).await;
        let (first, mut stream) = open(&app).await.next().await.unwrap();
        drop(first.unwrap());
        break_it(&app, &mut stream).await;
        let (text, reason) = rest(stream).await;
        assert_eq!(text, Vec::<String>::new(), "no last line");
        assert_eq!(app.memory.reserved_bytes(), 0);
        reason.expect("a reason").0
    }

    fn next_pull(stream: &mut RecordStream<Ids>) -> &mut Pull {
        match &mut stream.next {
            Next::Records(pull) => pull,
            _ => panic!("records follow"),
        }
    }

    #[tokio::test]
    async fn a_stream_is_broken_off_if_the_store_fails_or_the_server_stops() {
        let reason = broken_off(async |app, _| app.close().await).await;
        assert!(reason.contains("closed"), "{reason}");
        let reason = broken_off(async |app, _| app.stop.cancel()).await;
        assert_eq!(reason, "the server stops");
    }

    #[tokio::test]
    async fn a_stream_is_broken_off_if_the_epoch_changes() {
        let reason = broken_off(async |_, stream| {
            let pull = next_pull(stream);
            assert!(pull.epoch.is_some(), "that of the first page");
            pull.epoch = KnownEpoch::new("another");
        });
        assert_eq!(reason.await, "epoch_changed");
    }

    #[tokio::test]
    async fn a_stream_is_broken_off_if_a_page_does_not_reach_the_head() {
        let reason = broken_off(async |_, stream| {
            let head = stream.range.head().map(|head| head.plus_millis(1));
            let page =
                Page { records: vec![], next_cursor: None, has_more: false, epoch: None, head };
            stream.range = StreamRange::new(&page);
            next_pull(stream).cursor = head.map(|head| Cursor::from(head.plus_millis(-100)));
        });
        assert_eq!(reason.await, "a page ends before the head of the first one");
    }

    #[tokio::test]
    async fn a_stream_is_broken_off_when_the_grace_of_its_token_is_over() {
        let reason = broken_off(async |_, _| {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(360)).await;
            tokio::time::resume();
        });
        assert_eq!(reason.await, "the token has expired");
    }

    #[tokio::test]
    async fn a_stream_is_as_slow_as_the_rate_of_bytes() {
        let rate_limit_bytes = 100;
        let (app, _folder) = server(Limits { rate_limit_bytes, ..Limits::default() }).await;
        tokio::time::pause();
        let began = Instant::now();
        let (text, reason) = rest(open(&app).await).await;
        assert_eq!((text.len(), reason), (252, None));
        let bytes: usize = text.iter().map(|line| line.len() + 1).sum();
        // All but the last page of 250 bytes, and the burst of 300, and at most a second for each page.
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
        let least = (bytes - 650) / 100;
        assert!((least..least + 5).contains(&seconds), "{seconds} s for {bytes} bytes");
        let limited = app.rates.charge_user(vault().user());
        assert!(limited.is_err(), "the last page is charged too");
    }
}
