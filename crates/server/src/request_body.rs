//! Reading of request bodies, bounded in type, size, time and memory.
//!
//! The deadline of a body is on its progress and not on the whole, so that a slow uplink gets through: in
//! each period of `body_seconds` it must bring what `body_bytes_per_second_min` asks for. A body that takes
//! longer than one period is slow, and slow bodies share a part of the memory budget.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{Limits, error::ApiError, memory_budget::Reservation};

/// Longest body that [`discard`] reads.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Largest buffer that the first bytes of a body allocate.
const INITIAL_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Refuses bodies that are encoded or not called JSON. `identity` is the name of no encoding. `text/plain`
/// is accepted too, because a
/// browser's `fetch` declares it for a body that is a string.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut encodings = encodings.flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let is_none = |name: &str| name.is_empty() || name.eq_ignore_ascii_case("identity");
    if !encodings.all(|name| is_none(name.trim())) {
        return Err(ApiError::UnsupportedMediaType(
            "Compressed request bodies are not supported. Remove Content-Encoding.",
        ));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if ["application/json", "text/plain"].iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType(
        "The request body must be JSON. Set Content-Type to application/json or text/plain.",
    ))
}

/// Bytes per second at which a body of any length may arrive: its time may exceed `body_seconds_max`.
const FAST_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Deadlines of a body that is arriving.
struct Pace {
    period: Duration,
    /// Bytes that each period must bring.
    quota: usize,
    /// A body that is still arriving then is slow: the end of the first period, or later if a fast body of its
    /// length takes longer.
    slow_at: Instant,
    /// End of the current period, and the bytes that it still must bring.
    due_at: Instant,
    missing: usize,
    /// End of the time for the whole body.
    ends_at: Instant,
}

impl Pace {
    fn new(headers: &HeaderMap, limits: &Limits) -> Self {
        let now = Instant::now();
        let period = limits.body_seconds;
        let quota = limits.body_bytes_per_second_min as u128 * period.as_millis() / 1000;
        let quota = usize::try_from(quota).unwrap_or(usize::MAX).max(1);
        let fast =
            Duration::from_secs(content_length(headers).unwrap_or(0) / FAST_BYTES_PER_SECOND);
        let (slow_at, ends_at) =
            (now + period.max(fast), now + limits.body_seconds_max.max(period).max(fast));
        Self { period, quota, slow_at, due_at: now + period, missing: quota, ends_at }
    }

    /// When the body is given up unless more of it arrives.
    fn deadline(&self) -> Instant {
        self.due_at.min(self.ends_at)
    }

    /// Counts bytes that have arrived. Returns whether the body is slow.
    fn arrived(&mut self, bytes: usize) -> bool {
        if bytes < self.missing {
            self.missing -= bytes;
            return false;
        }
        let now = Instant::now();
        (self.due_at, self.missing) = (now + self.period, self.quota);
        now > self.slow_at
    }
}

/// Reads a body, and grows `memory` with it.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    memory: &mut Reservation,
) -> Result<BytesMut, ApiError> {
    let bytes = collect(headers, body, limits, memory).await?;
    memory.unmark_slow();
    Ok(bytes)
}

/// Reads and drops the body of a refused request, unless it is long. Otherwise the connection would
/// have to be closed, and accepting the next one costs more than reading a short body.
pub(crate) async fn discard(request: Request, limits: &Limits) {
    if content_length(request.headers()).is_none_or(|bytes| bytes > DISCARD_BYTES_MAX) {
        return;
    }
    let mut body = request.into_body();
    // The request is refused in any case: neither a timeout nor an error of the body changes that.
    let _ =
        timeout(limits.body_seconds, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

async fn collect(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
    memory: &mut Reservation,
) -> Result<BytesMut, ApiError> {
    let bytes_max = limits.body_bytes_max;
    let too_large = ApiError::BodyTooLarge { bytes_max };
    let announced = content_length(headers).unwrap_or(0);
    let Ok(announced) = usize::try_from(announced) else { return Err(too_large) };
    if announced > bytes_max {
        return Err(too_large);
    }
    let mut pace = Pace::new(headers, limits);
    let mut bytes = BytesMut::new();
    while let Some(frame) = next_frame(&mut body, &pace).await? {
        // Either the connection broke, and no client gets this, or the chunks are malformed.
        let frame = frame.map_err(|_| ApiError::InvalidJson("it is incomplete".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large);
        }
        if pace.arrived(data.len()) {
            memory.mark_slow()?;
        }
        // Memory is reserved as the body arrives: announcing a length costs an attacker nothing.
        memory.grow(bytes.len() + data.len())?;
        if bytes.is_empty() && data.len() < announced {
            bytes.reserve(announced.min(INITIAL_BUFFER_BYTES_MAX));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn next_frame(
    body: &mut Body,
    pace: &Pace,
) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, ApiError> {
    timeout_at(pace.deadline(), body.frame()).await.map_err(|_| ApiError::RequestTimeout)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::time::sleep;
    use vaultsync_store::Vault;

    use super::*;
    use crate::memory_budget::MemoryBudget;

    const KIB: usize = 1024;

    /// At least 1 KiB in 10 s, and 60 s for the whole.
    fn limits() -> Limits {
        Limits {
            body_seconds: Duration::from_secs(10),
            body_seconds_max: Duration::from_secs(60),
            body_bytes_per_second_min: 103,
            memory_bytes_max: 64 * KIB,
            memory_bytes_per_user_max: 32 * KIB,
            ..Limits::default()
        }
    }

    /// Sends that many pieces of a body, each after a pause. Returns what became of the body, and after
    /// how many seconds.
    async fn send(pieces: usize, bytes: usize, pause: Duration) -> (Result<usize, ApiError>, u64) {
        let memory = MemoryBudget::new(&limits());
        let body = stream::unfold(0, move |sent| async move {
            if sent == pieces {
                return None;
            }
            sleep(pause).await;
            Some((Ok::<_, Infallible>(vec![b' '; bytes]), sent + 1))
        });
        let mut reservation = memory.reserve(Vault::of("i", "s").user());
        let began = Instant::now();
        let body = Body::from_stream(body);
        let read = read(&HeaderMap::new(), body, &limits(), &mut reservation).await;
        drop(reservation);
        assert_eq!(memory.reserved_bytes(), 0);
        (read.map(|bytes| bytes.len()), began.elapsed().as_secs())
    }

    // While time is paused, it advances by itself to the next timer.

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_read_for_as_long_as_it_makes_progress() {
        let (read, seconds) = send(50, 110, Duration::from_secs(1)).await;
        assert_eq!((read.unwrap(), seconds), (50 * 110, 50));
        let (read, seconds) = send(5, 1100, Duration::from_secs(9)).await;
        assert_eq!((read.unwrap(), seconds), (5 * 1100, 45), "in bursts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_below_the_least_rate_is_given_up_after_a_period() {
        let (read, seconds) = send(50, 90, Duration::from_secs(1)).await;
        assert!(matches!(read, Err(ApiError::RequestTimeout)), "{read:?}");
        assert_eq!(seconds, 10);
        let (read, seconds) = send(50, 4000, Duration::from_secs(11)).await;
        assert!(matches!(read, Err(ApiError::RequestTimeout)), "{read:?}");
        assert_eq!(seconds, 10, "what came before does not count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_given_up_at_last_even_if_it_makes_progress() {
        let (read, seconds) = send(80, 110, Duration::from_secs(1)).await;
        assert!(matches!(read, Err(ApiError::RequestTimeout)), "{read:?}");
        assert_eq!(seconds, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_may_hold_only_a_part_of_the_memory() {
        // A quarter of the user's 32 KiB.
        let (read, seconds) = send(50, 400, Duration::from_secs(1)).await;
        assert!(matches!(read, Err(ApiError::RequestTimeout)), "{read:?}");
        assert!((20..=22).contains(&seconds), "{seconds}");
        let (read, _) = send(50, 400, Duration::from_millis(100)).await;
        assert_eq!(read.unwrap(), 50 * 400, "a fast one may hold more");
    }
}
