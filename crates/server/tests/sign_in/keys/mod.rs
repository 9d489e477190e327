//! Keys of an issuer: fetching, caching and rotation.
//!
//! Not here: which tokens those keys verify (`tokens`, `claims`).

mod concurrency;
mod naming;
mod outages;
mod responses;
mod rotation;
mod token_cache;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vaultsync_server::Clock;
use vaultsync_server::auth::{AuthError, Authenticator, ClerkOptions, Issuer, Outcome, Principal};
use vaultsync_testkit::ManualClock;
use vaultsync_testkit::forge::{ClerkForge, SigningKey};
use vaultsync_testkit::jwks_server::JwksServer;

use crate::{ISSUER, authenticator, bearer, clerk_options, clock, outcome};

/// An issuer's key server, an authenticator that trusts it, and the clock of both.
struct IssuerFixture {
    clock: Arc<ManualClock>,
    server: JwksServer,
    auth: Authenticator,
}

impl IssuerFixture {
    async fn start(keys: &[Value]) -> Self {
        let server = JwksServer::start(keys).await;
        let options = ClerkOptions { jwks_url: Some(server.jwks_url()), ..clerk_options() };
        Self::with(server, Issuer::clerk(options).expect("valid settings"))
    }

    fn with(server: JwksServer, issuer: Issuer) -> Self {
        let clock = clock();
        let auth = authenticator(vec![issuer], &clock);
        Self { clock, server, auth }
    }

    /// Creates a token, issued now, that differs from all others.
    fn token(&self, kid: &str, key: &SigningKey) -> String {
        let mut forge = ClerkForge::new(ISSUER, key, self.clock.now());
        kid.clone_into(&mut forge.kid);
        forge.token_with(|_, claims| {
            claims.insert("jti".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        })
    }

    async fn authenticate(&self, token: &str) -> Result<Principal, AuthError> {
        self.auth.authenticate(&bearer(token)).await
    }

    /// Authenticates with `token`; returns the status and the reason.
    async fn status(&self, token: &str) -> (u16, &'static str) {
        status(&self.authenticate(token).await)
    }

    /// Authenticates with a new token signed by `key`; returns the status and the reason.
    async fn status_of_new(&self, kid: &str, key: &SigningKey) -> (u16, &'static str) {
        self.status(&self.token(kid, key)).await
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Waits for an event in the background.
    async fn wait_for(&self, event: &str, has_happened: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if has_happened(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited for {event} for too long");
    }
}

const ACCEPTED: (u16, &str) = (200, "");
const NO_SUCH_KEY: (u16, &str) = (401, "jwk-kid-mismatch");
const BAD_SIGNATURE: (u16, &str) = (401, "token-invalid-signature");
/// From here on there are no keys at all.
const KEYS_INVALID: (u16, &str) = (503, "jwk-remote-invalid");
const KEYS_MISSING: (u16, &str) = (503, "jwk-remote-missing");
const UNREACHABLE: (u16, &str) = (503, "jwk-remote-failed-to-load");

fn status(result: &Result<Principal, AuthError>) -> (u16, &'static str) {
    if let Err(error) = result
        && let Outcome::Unavailable { retry_after } = error.outcome()
    {
        assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");
        assert!(retry_after <= Duration::from_secs(5), "{retry_after:?}");
        assert_eq!(error.code(), "unavailable");
        assert_eq!(error.www_authenticate(), None);
    }
    let (status, _, reason) = outcome(result);
    (status, reason)
}

fn old_key() -> &'static SigningKey {
    SigningKey::rsa(0)
}

fn new_key() -> &'static SigningKey {
    SigningKey::rsa(1)
}

/// Authenticates `count` times concurrently, with the tokens that `token` returns.
async fn authenticate_concurrently(
    fixture: &Arc<IssuerFixture>,
    count: usize,
    token: impl Fn(&IssuerFixture, usize) -> String,
) -> Vec<(u16, &'static str)> {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..count {
        let (fixture, token) = (Arc::clone(fixture), token(fixture, index));
        tasks.spawn(async move { fixture.status(&token).await });
    }
    tasks.join_all().await
}
