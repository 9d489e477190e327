//! Rate limits of users and addresses.
//!
//! Each node counts separately.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DashMapStateStore,
};
use vaultsync_store::VaultId;

use crate::Limits;

/// Size of a burst, in seconds of the rate.
const BURST_SECONDS: u32 = 3;

/// The rates of [`Limits`], and how much of them each user and address has used.
pub(crate) struct Rates {
    users: Option<Rate<VaultId>>,
    addresses: Option<Rate<IpAddr>>,
    sign_in_failures: Option<Rate<IpAddr>>,
}

/// Refusal of a request that exceeds a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimited {
    /// Name of the rate in the `RateLimit` header.
    pub(crate) policy: &'static str,
    /// Requests that may come at once.
    pub(crate) burst: u32,
    /// Time until the next request may come; at least a second.
    pub(crate) retry_after: Duration,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let on = limits.rate_per_user != 0;
        Self {
            users: Rate::new("user", limits.rate_per_user, on),
            addresses: Rate::new("address", limits.rate_per_address, on),
            sign_in_failures: Rate::new("sign-in", limits.sign_in_failures_per_address, on),
        }
    }

    /// Charges a request to a user.
    pub(crate) fn charge_user(&self, vault: VaultId) -> Result<(), RateLimited> {
        self.users.as_ref().map_or(Ok(()), |rate| rate.charge(&vault))
    }

    /// Charges a request to an address.
    pub(crate) fn charge_address(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.addresses.as_ref().map_or(Ok(()), |rate| rate.charge(&network(address)))
    }

    /// Charges a failed sign-in to an address.
    pub(crate) fn charge_sign_in_failure(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.sign_in_failures.as_ref().map_or(Ok(()), |rate| rate.charge(&network(address)))
    }

    /// Removes the state of users and addresses that have a full burst again.
    pub(crate) fn remove_idle(&self) {
        self.users.iter().for_each(Rate::remove_idle);
        self.addresses.iter().chain(&self.sign_in_failures).for_each(Rate::remove_idle);
    }
}

/// What counts as one address. A customer of an IPv6 provider has at least a /64.
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
    /// `None` if the rate is not limited.
    fn new(policy: &'static str, per_second: u32, on: bool) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second).filter(|_| on)?;
        let burst = per_second.saturating_mul(NonZeroU32::new(BURST_SECONDS)?);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Some(Self { policy, burst: burst.get(), limiter: RateLimiter::dashmap(quota) })
    }

    fn charge(&self, key: &K) -> Result<(), RateLimited> {
        self.limiter.check_key(key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.limiter.clock().now());
            let retry_after = Duration::from_secs(wait.as_secs() + 1);
            RateLimited { policy: self.policy, burst: self.burst, retry_after }
        })
    }

    fn remove_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(rate_per_user: u32) -> Rates {
        Rates::new(&Limits {
            rate_per_user,
            rate_per_address: 1,
            sign_in_failures_per_address: 1,
            ..Limits::default()
        })
    }

    #[test]
    fn a_burst_is_three_seconds_of_the_rate() {
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
    fn addresses_of_one_ipv6_network_share_a_rate() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn a_user_rate_of_zero_disables_every_rate() {
        let rates = rates(0);
        for _ in 0..100 {
            assert_eq!(rates.charge_address(IpAddr::from([192, 0, 2, 1])), Ok(()));
        }
    }
}
