//! Who is calling: bearer tokens and the keys that verify them.
//!
//! Not here: HTTP answers, rate limits, what a user may do. A user is `(issuer, subject)`, so that
//! one issuer can never name another one's users.

mod bearer;
mod claims;
mod claims_clerk;
mod claims_oidc;
mod clerk;
mod fetch;
#[doc(hidden)]
pub mod fuzzed;
mod issuer;
mod jwks;
mod keys;
mod local;
mod oidc;
mod pem;
mod reason;
mod remembered;
mod strict_json;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use vaultsync_protocol::Timestamp;

pub use clerk::ClerkOptions;
pub use issuer::{Issuer, IssuerError};
pub use local::{LOCAL_AUDIENCE, LOCAL_ISSUER, LocalKey, LocalKeyError};
pub use oidc::OidcOptions;
pub use reason::{Outcome, Reason, Refusal};

use crate::Clock;
use issuer::KeysFrom;
use jwks::{Held, Jwks};
use keys::{Alg, KeySet};
use remembered::{Fingerprint, Known, Remembered};
use token::Token;

/// A caller who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who says so.
    pub issuer: Arc<str>,
    /// Whom the issuer calls so: 1 to 255 characters.
    pub subject: Arc<str>,
    /// The token's `exp`. The request may run on after it, an event stream for a while; the next
    /// one needs a new token.
    pub expires_at: Timestamp,
}

/// Tells from a request's headers who is calling. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Shared>);

struct Shared {
    issuers: Vec<Configured>,
    token_bytes_max: usize,
    clock: Arc<dyn Clock>,
    remembered: Remembered,
    signatures_checked: AtomicU64,
}

/// An issuer and the keys of it that are at hand.
struct Configured {
    issuer: Issuer,
    keys: Keys,
}

enum Keys {
    Fixed(Arc<Held>),
    Fetched(Arc<Jwks>),
}

impl Keys {
    async fn current(&self) -> Result<Arc<Held>, Refusal> {
        match self {
            Self::Fixed(held) => Ok(Arc::clone(held)),
            Self::Fetched(jwks) => jwks.current().await,
        }
    }

    async fn refetch(&self, seen: &Arc<Held>) -> Option<Arc<Held>> {
        match self {
            Self::Fixed(_) => None,
            Self::Fetched(jwks) => jwks.refetch(seen).await,
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let issuers = self.0.issuers.iter().map(|configured| configured.issuer.name());
        f.debug_list().entries(issuers).finish()
    }
}

impl Authenticator {
    /// Takes the tokens of `issuers`, none of them longer than `token_bytes_max`. Where two of them
    /// have the same name, the first one counts.
    pub fn new(issuers: Vec<Issuer>, token_bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        let configure = |issuer: Issuer| {
            let keys = match &issuer.keys {
                KeysFrom::Settings(keys) => Keys::Fixed(Held::fixed(keys.clone())),
                KeysFrom::Network(source) => Keys::Fetched(Jwks::new(
                    Arc::clone(&issuer.name),
                    source.clone(),
                    Arc::clone(&clock),
                )),
            };
            Configured { issuer, keys }
        };
        Self(Arc::new(Shared {
            issuers: issuers.into_iter().map(configure).collect(),
            token_bytes_max,
            clock,
            remembered: Remembered::new(),
            signatures_checked: AtomicU64::new(0),
        }))
    }

    /// Who sent these headers.
    ///
    /// Only `Authorization: Bearer` counts, once, with one token; nothing else is tried when it
    /// fails.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<SignedIn, Refusal> {
        let text = bearer::token(headers, self.0.token_bytes_max).map_err(Refusal::unverified)?;
        let fingerprint = Remembered::fingerprint(text);
        if let Some(signed_in) = self.recall(&fingerprint).await? {
            return Ok(signed_in);
        }
        self.verify(text, fingerprint).await
    }

    /// Whether there are keys of every issuer; else one line for each that has none.
    ///
    /// Fetches those that were never fetched, as often as a request might.
    pub async fn ready(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for Configured { issuer, keys } in &self.0.issuers {
            if let Err(refusal) = keys.current().await {
                let trouble = match keys {
                    Keys::Fixed(_) => None,
                    Keys::Fetched(jwks) => jwks.trouble(),
                };
                let trouble = trouble.unwrap_or_else(|| refusal.to_string());
                problems.push(format!("no keys of {}: {trouble}", issuer.name()));
            }
        }
        if self.0.issuers.is_empty() {
            problems.push("no issuer is configured".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// How many signatures have been checked: what remembering tokens is to keep low.
    pub fn signatures_checked(&self) -> u64 {
        self.0.signatures_checked.load(Ordering::Relaxed)
    }

    /// The caller of a token that was verified a moment ago, if that still holds.
    ///
    /// Its issuer's keys are asked for nevertheless: traffic that is all remembered must notice
    /// too when a key is withdrawn.
    async fn recall(&self, fingerprint: &Fingerprint) -> Result<Option<SignedIn>, Refusal> {
        let Some(known) = self.0.remembered.get(fingerprint) else {
            return Ok(None);
        };
        let held = self.0.issuers[known.issuer].keys.current().await?;
        let holds = known.holds(held.generation, self.0.clock.now(), self.0.clock.uptime());
        Ok(holds.then_some(known.signed_in))
    }

    /// The header chooses among configured keys, then the signature, then the claims: who cannot
    /// sign learns nothing about how this server is configured.
    async fn verify(&self, text: &str, fingerprint: Fingerprint) -> Result<SignedIn, Refusal> {
        let token = Token::parse(text).map_err(Refusal::unverified)?;
        let (index, Configured { issuer, keys }) = self
            .0
            .issuers
            .iter()
            .enumerate()
            .find(|(_, configured)| token.issuer() == Some(configured.issuer.name()))
            .ok_or(Refusal::unverified(Reason::TokenInvalidIssuer))?;
        let alg = issuer.judge_header(&token.header).map_err(Refusal::unverified)?;
        let generation = self.verify_signature(&token, alg, keys).await?;

        let now = self.0.clock.now();
        let accepted = issuer.judge(&token.claims, now).map_err(Refusal::verified)?;
        let signed_in = SignedIn {
            issuer: Arc::clone(&issuer.name),
            subject: accepted.subject,
            expires_at: accepted.expires_at,
        };
        let known = Known {
            signed_in: signed_in.clone(),
            issuer: index,
            generation,
            verified_at: self.0.clock.uptime(),
        };
        self.0.remembered.insert(fingerprint, known);
        Ok(signed_in)
    }

    /// The generation of the keys that verify the token.
    ///
    /// An unknown key id and a bad signature may both mean that the issuer has new keys: a key can
    /// be replaced under its old id. So the keys are fetched again, as often as that is allowed.
    async fn verify_signature(
        &self,
        token: &Token<'_>,
        alg: Alg,
        keys: &Keys,
    ) -> Result<u64, Refusal> {
        let kid = token.kid().map_err(Refusal::unverified)?;
        let check = |keys: &KeySet| {
            let verdict = keys.verify(kid, alg, token.signed, token.signature);
            // Without a key there was nothing to check it with.
            if verdict != Err(Reason::JwkKidMismatch) {
                self.0.signatures_checked.fetch_add(1, Ordering::Relaxed);
            }
            verdict
        };
        let mut held = keys.current().await?;
        let mut verdict = check(&held.keys);
        // Ends because each turn takes a later fetch, and those are rationed.
        while let Err(reason) = verdict {
            let newer = keys.refetch(&held).await.ok_or(Refusal::unverified(reason))?;
            if newer.generation != held.generation {
                verdict = check(&newer.keys);
            }
            held = newer;
        }
        Ok(held.generation)
    }
}
