//! How many requests a second a user and an address may make.
//!
//! Each node counts for itself.

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

/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u32 = 3;

/// The rates of [`Limits`], and who has used how much of them.
pub(crate) struct Rates {
    users: Option<Rate<VaultId>>,
    addresses: Option<Rate<IpAddr>>,
    sign_in_failures: Option<Rate<IpAddr>>,
}

/// A request too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimited {
    /// Which rate, as the `RateLimit` header names it.
    pub(crate) policy: &'static str,
    /// How many requests may come at once.
    pub(crate) burst: u32,
    /// When the next one may come; at least a second.
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

    /// Charges a user with a request.
    pub(crate) fn charge_user(&self, vault: VaultId) -> Result<(), RateLimited> {
        self.users.as_ref().map_or(Ok(()), |rate| rate.charge(&vault))
    }

    /// Charges an address with a request.
    pub(crate) fn charge_address(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.addresses.as_ref().map_or(Ok(()), |rate| rate.charge(&network(address)))
    }

    /// Charges an address with a failed sign-in.
    pub(crate) fn charge_sign_in_failure(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.sign_in_failures.as_ref().map_or(Ok(()), |rate| rate.charge(&network(address)))
    }

    /// Forgets whoever has their whole burst again.
    pub(crate) fn forget_idle(&self) {
        self.users.iter().for_each(Rate::forget_idle);
        self.addresses.iter().chain(&self.sign_in_failures).for_each(Rate::forget_idle);
    }
}

/// One customer of an IPv6 provider has at least a /64, so that is what counts as an address.
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
    /// `None` where there is no such limit.
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

    fn forget_idle(&self) {
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
    fn a_burst_is_three_seconds_worth() {
        let rates = rates(1);
        let address = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..3 {
            assert_eq!(rates.charge_address(address), Ok(()));
        }
        let too_many = rates.charge_address(address).unwrap_err();
        assert_eq!((too_many.policy, too_many.burst), ("address", 3));
        assert_eq!(too_many.retry_after, Duration::from_secs(1));
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
    fn a_rate_of_zero_turns_all_of_them_off() {
        let rates = rates(0);
        for _ in 0..100 {
            assert_eq!(rates.charge_address(IpAddr::from([192, 0, 2, 1])), Ok(()));
        }
    }
}
