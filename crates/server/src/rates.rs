//! Rate limits per user and per client address: requests, failed sign-ins, and bytes.
//!
//! Each node counts by itself.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DashMapStateStore,
};
use vaultsync_store::UserId;

use crate::{Clock, Limits, byte_rate::ByteRate};

/// Size of a burst, in seconds of requests or bytes.
pub(crate) const BURST_SECONDS: u32 = 3;

/// The rate limits of [`Limits`] and their use so far. `None` is a limit that is off.
pub(crate) struct Rates {
    users: Option<Rate<UserId>>,
    addresses: Option<Rate<IpAddr>>,
    sign_in_failures: Option<Rate<IpAddr>>,
    user_bytes: Option<ByteRate<UserId>>,
    address_bytes: Option<ByteRate<IpAddr>>,
    clock: Arc<dyn Clock>,
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Requests,
    Bytes,
}

/// Rejection of a request that exceeds a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimited {
    /// Name of the limit in the `RateLimit` header.
    pub(crate) policy: &'static str,
    pub(crate) counted: Counted,
    /// Number of requests or bytes in a burst.
    pub(crate) burst: u64,
    /// Time until the next request is accepted, at least a second.
    pub(crate) retry_after: Duration,
}

impl Rates {
    pub(crate) fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        let limits = limits.in_force();
        Self {
            users: Rate::new("user", limits.rate_limit),
            addresses: Rate::new("address", limits.rate_limit_address),
            sign_in_failures: Rate::new("sign-in", limits.rate_limit_sign_in_failures),
            user_bytes: ByteRate::new("user-bytes", limits.rate_limit_bytes),
            address_bytes: ByteRate::new("address-bytes", limits.rate_limit_address_bytes),
            clock,
        }
    }

    /// Counts a request of a user, unless the user has to wait because of earlier bytes.
    pub(crate) fn charge_user(&self, user: UserId) -> Result<(), RateLimited> {
        self.user_bytes.as_ref().map_or(Ok(()), |rate| rate.check(&user, self.clock.uptime()))?;
        self.users.as_ref().map_or(Ok(()), |rate| rate.charge(&user))
    }

    /// Counts a request from an address, unless it has to wait because of earlier bytes.
    pub(crate) fn charge_address(&self, address: IpAddr) -> Result<(), RateLimited> {
        let network = network(address);
        let bytes = self.address_bytes.as_ref();
        bytes.map_or(Ok(()), |rate| rate.check(&network, self.clock.uptime()))?;
        self.addresses.as_ref().map_or(Ok(()), |rate| rate.charge(&network))
    }

    /// Counts a failed sign-in from an address.
    pub(crate) fn charge_sign_in_failure(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.sign_in_failures.as_ref().map_or(Ok(()), |rate| rate.charge(&network(address)))
    }

    /// Counts bytes that a user sent, or that were read for the user.
    pub(crate) fn debit_user(&self, user: UserId, bytes: usize) {
        if let Some(rate) = &self.user_bytes {
            rate.debit(user, bytes, self.clock.uptime());
        }
    }

    /// Counts bytes that came from an address, or are sent to it.
    pub(crate) fn debit_address(&self, address: IpAddr, bytes: usize) {
        if let Some(rate) = &self.address_bytes {
            rate.debit(network(address), bytes, self.clock.uptime());
        }
    }

    /// The time after which a response that is written in parts may go on, because of bytes that were charged to its
    /// user and address; `None` if it may go on now.
    pub(crate) fn time_to_bytes(&self, user: UserId, address: Option<IpAddr>) -> Option<Duration> {
        let now = self.clock.uptime();
        let of_user = self.user_bytes.as_ref().and_then(|rate| rate.check(&user, now).err());
        let of_address = self.address_bytes.as_ref().zip(address);
        let of_address =
            of_address.and_then(|(rate, address)| rate.check(&network(address), now).err());
        of_user.into_iter().chain(of_address).map(|limited| limited.retry_after).max()
    }

    /// Drops the counters of users and addresses whose whole burst is available again.
    pub(crate) fn remove_idle(&self) {
        self.users.iter().for_each(Rate::remove_idle);
        self.addresses.iter().chain(&self.sign_in_failures).for_each(Rate::remove_idle);
        let now = self.clock.uptime();
        self.user_bytes.iter().for_each(|rate| rate.remove_idle(now));
        self.address_bytes.iter().for_each(|rate| rate.remove_idle(now));
    }
}

/// The key under which an address is counted. An IPv6 address counts as its /64 network, because a
/// customer of a provider has at least that.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

struct Rate<K: Hash + Eq + Clone> {
    policy: &'static str,
    burst: u32,
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `None` if the rate is 0.
    fn new(policy: &'static str, per_second: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = per_second.saturating_mul(NonZeroU32::new(BURST_SECONDS)?);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Some(Self { policy, burst: burst.get(), limiter: RateLimiter::dashmap(quota) })
    }

    fn charge(&self, key: &K) -> Result<(), RateLimited> {
        self.limiter.check_key(key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.limiter.clock().now());
            let retry_after = Duration::from_secs(wait.as_secs() + 1);
            let (policy, burst) = (self.policy, self.burst.into());
            RateLimited { policy, counted: Counted::Requests, burst, retry_after }
        })
    }

    fn remove_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_store::Vault;

    use super::*;

    fn rates(rate_limit: u32) -> Rates {
        let limits = Limits {
            rate_limit,
            rate_limit_address: 1,
            rate_limit_sign_in_failures: 1,
            rate_limit_bytes: 1,
            rate_limit_address_bytes: 1,
            ..Limits::default()
        };
        Rates::new(&limits, Arc::new(crate::SystemClock::start()))
    }

    #[test]
    fn a_burst_is_three_seconds_of_requests() {
        let rates = rates(1);
        let address = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..3 {
            assert_eq!(rates.charge_address(address), Ok(()));
        }
        let limited = rates.charge_address(address).unwrap_err();
        assert_eq!((limited.policy, limited.burst), ("address", 3));
        assert_eq!(limited.retry_after, Duration::from_secs(1));
        assert_eq!(rates.charge_address(IpAddr::from([192, 0, 2, 2])), Ok(()));
        assert_eq!(rates.charge_sign_in_failure(address), Ok(()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn bytes_count_against_the_user_and_the_address() {
        let rates = rates(1000);
        let [ada, ben] = ["ada", "ben"].map(|name| Vault::of("i", name).user());
        assert_eq!(rates.charge_user(ada), Ok(()));
        rates.debit_user(ada, 100);
        let limited = rates.charge_user(ada).unwrap_err();
        assert_eq!((limited.policy, limited.counted), ("user-bytes", Counted::Bytes));
        assert_eq!(rates.charge_user(ben), Ok(()));
        let address = IpAddr::from([192, 0, 2, 1]);
        rates.debit_address(address, 100);
        assert_eq!(rates.charge_address(address).unwrap_err().policy, "address-bytes");
        assert_eq!(rates.charge_address(IpAddr::from([192, 0, 2, 2])), Ok(()));
    }

    #[test]
    fn a_user_rate_of_zero_disables_every_rate_limit() {
        let rates = rates(0);
        let (address, user) = (IpAddr::from([192, 0, 2, 1]), Vault::of("i", "s").user());
        for _ in 0..100 {
            assert_eq!(rates.charge_address(address), Ok(()));
            assert_eq!(rates.charge_user(user), Ok(()));
            rates.debit_address(address, 1000);
            rates.debit_user(user, 1000);
        }
    }
}
