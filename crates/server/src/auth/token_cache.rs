//! Cache of recently verified tokens: a busy client costs one signature check a minute.
//!
//! Entries are keyed by the SHA-256 of the token, so that the cache contains no credentials.
//!
//! Not here: verification.

use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use vaultsync_protocol::Timestamp;

use super::Principal;

/// Lifetime of an entry.
const TTL: Duration = Duration::from_mins(1);
/// Maximum number of entries.
const TOKENS_MAX: u64 = 10_000;

/// SHA-256 of a token's text.
pub(super) type Fingerprint = [u8; 32];

/// Result of verifying one token.
#[derive(Clone)]
pub(super) struct CachedToken {
    pub(super) principal: Principal,
    /// Index of the token's issuer in the list of configured issuers.
    pub(super) issuer: usize,
    /// Generation of the keys that verified the token.
    pub(super) generation: u64,
    /// Uptime at the time of the verification.
    pub(super) verified_at: Duration,
}

impl CachedToken {
    /// Whether the result is still valid. Applies `exp` without the clock skew, so that tokens in
    /// their last seconds are verified each time.
    pub(super) fn is_valid(&self, generation: u64, now: Timestamp, uptime: Duration) -> bool {
        self.generation == generation
            && now < self.principal.expires_at
            && uptime.saturating_sub(self.verified_at) < TTL
    }
}

/// Cache of verified tokens.
pub(super) struct TokenCache(Cache<Fingerprint, CachedToken>);

impl TokenCache {
    pub(super) fn new() -> Self {
        // The cache's own expiry only frees memory; `CachedToken::is_valid` decides.
        let cache = Cache::builder().max_capacity(TOKENS_MAX).time_to_live(TTL).build();
        Self(cache)
    }

    pub(super) fn fingerprint(token: &str) -> Fingerprint {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<CachedToken> {
        self.0.get(fingerprint)
    }

    /// Inserts or replaces the entry of a token.
    pub(super) fn insert(&self, fingerprint: Fingerprint, token: CachedToken) {
        self.0.insert(fingerprint, token);
    }
}
