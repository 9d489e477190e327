//! Tokens that were verified a moment ago, so that a busy client costs one signature check a
//! minute.
//!
//! Not here: verifying. A token is known by its SHA-256 only, so that memory holds no credentials.

use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use vaultsync_protocol::Timestamp;

use super::Principal;

/// How long a token is remembered.
const REMEMBERED_MAX: Duration = Duration::from_mins(1);
/// The most tokens that are remembered.
const TOKENS_MAX: u64 = 10_000;

/// SHA-256 of a token's text.
pub(super) type Fingerprint = [u8; 32];

/// What is remembered of one token.
#[derive(Clone)]
pub(super) struct CachedToken {
    pub(super) signed_in: Principal,
    /// Which of the configured issuers it is.
    pub(super) issuer: usize,
    /// The generation of the keys that verified it.
    pub(super) generation: u64,
    /// The uptime at which it was verified.
    pub(super) verified_at: Duration,
}

impl CachedToken {
    /// Whether this may still stand for the token. `exp` counts without the skew: the last seconds
    /// are judged anew each time.
    pub(super) fn holds(&self, generation: u64, now: Timestamp, uptime: Duration) -> bool {
        self.generation == generation
            && now < self.signed_in.expires_at
            && uptime.saturating_sub(self.verified_at) < REMEMBERED_MAX
    }
}

/// The tokens remembered.
pub(super) struct TokenCache(Cache<Fingerprint, CachedToken>);

impl TokenCache {
    pub(super) fn new() -> Self {
        // The cache's own clock frees memory; `CachedToken::holds` decides.
        let cache = Cache::builder().max_capacity(TOKENS_MAX).time_to_live(REMEMBERED_MAX).build();
        Self(cache)
    }

    pub(super) fn fingerprint(token: &str) -> Fingerprint {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<CachedToken> {
        self.0.get(fingerprint)
    }

    /// Takes the place of what was known of that token before.
    pub(super) fn insert(&self, fingerprint: Fingerprint, known: CachedToken) {
        self.0.insert(fingerprint, known);
    }
}
