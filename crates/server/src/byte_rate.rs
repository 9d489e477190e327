//! Rate limit on bytes, which are known only after the work for them is done.
//!
//! A response is as long as the records that were read for it, so its bytes are charged afterwards. A key
//! that has used more than a burst is refused until the excess is worked off. A limiter that decides before
//! each request, like the one for requests (`rates`), could only charge the largest response or nothing.

use std::{hash::Hash, time::Duration};

use dashmap::DashMap;

use crate::rates::{BURST_SECONDS, Counted, RateLimited};

/// Size of a burst, in time.
const BURST: Duration = Duration::from_secs(BURST_SECONDS as u64);

/// Longest time for which a key is refused, whatever it has used at once.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Leaky bucket for each key, as the time at which it is empty.
pub(crate) struct ByteRate<K> {
    policy: &'static str,
    per_second: u64,
    empty_at: DashMap<K, Duration>,
}

impl<K: Hash + Eq> ByteRate<K> {
    /// `None` if the rate is 0.
    pub(crate) fn new(policy: &'static str, per_second: usize) -> Option<Self> {
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        (per_second > 0).then(|| Self { policy, per_second, empty_at: DashMap::new() })
    }

    /// Fails if the key has used more than a burst. `now` is the uptime.
    pub(crate) fn check(&self, key: &K, now: Duration) -> Result<(), RateLimited> {
        let empty_at = self.empty_at.get(key).map(|empty_at| *empty_at).unwrap_or_default();
        let excess = empty_at.saturating_sub(now).saturating_sub(BURST);
        if excess.is_zero() {
            return Ok(());
        }
        let (policy, burst) = (self.policy, self.per_second.saturating_mul(BURST_SECONDS.into()));
        let retry_after = Duration::from_secs(excess.as_secs() + 1);
        Err(RateLimited { policy, counted: Counted::Bytes, burst, retry_after })
    }

    /// Charges bytes, even if they exceed the burst.
    pub(crate) fn debit(&self, key: K, bytes: usize, now: Duration) {
        if bytes == 0 {
            return;
        }
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut empty_at = self.empty_at.entry(key).or_default();
        *empty_at = (*empty_at).max(now).saturating_add(cost).min(now + BURST + WAIT_MAX);
    }

    /// Drops the keys whose whole burst is available again.
    pub(crate) fn remove_idle(&self, now: Duration) {
        self.empty_at.retain(|_, empty_at| *empty_at > now);
        self.empty_at.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn bytes_beyond_a_burst_are_worked_off_before_the_next_request() {
        let rate = ByteRate::new("user-bytes", 1000).unwrap();
        rate.debit('a', 3000, seconds(100));
        assert_eq!(rate.check(&'a', seconds(100)), Ok(()), "a burst is three seconds of bytes");
        rate.debit('a', 5000, seconds(100));
        let limited = rate.check(&'a', seconds(100)).unwrap_err();
        assert_eq!((limited.policy, limited.burst), ("user-bytes", 3000));
        assert_eq!(limited.retry_after, seconds(6));
        assert_eq!(rate.check(&'b', seconds(100)), Ok(()));
        assert!(rate.check(&'a', seconds(104)).is_err());
        assert_eq!(rate.check(&'a', seconds(105)), Ok(()));
    }

    #[test]
    fn unused_time_is_not_saved_beyond_a_burst() {
        let rate = ByteRate::new("user-bytes", 1000).unwrap();
        rate.debit('a', 1, seconds(0));
        rate.debit('a', 3001, seconds(1000));
        assert!(rate.check(&'a', seconds(1000)).is_err());
    }

    #[test]
    fn a_wait_is_bounded_and_idle_keys_are_dropped() {
        let rate = ByteRate::new("user-bytes", 1).unwrap();
        rate.debit('a', usize::MAX, seconds(10));
        let limited = rate.check(&'a', seconds(10)).unwrap_err();
        assert_eq!(limited.retry_after, WAIT_MAX + seconds(1));
        rate.remove_idle(seconds(10));
        assert_eq!(rate.empty_at.len(), 1);
        rate.remove_idle(seconds(10) + WAIT_MAX + BURST);
        assert!(rate.empty_at.is_empty());
        assert!(ByteRate::<char>::new("user-bytes", 0).is_none());
    }
}
