//! Where an issuer's keys come from, how long they are good, and how often they are asked for.
//!
//! Not here: which tokens those keys let in (`tokens`, `claims`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vaultsync_server::Clock;
use vaultsync_server::auth::{
    AuthError, Authenticator, ClerkOptions, Issuer, OidcOptions, Outcome, Principal,
};
use vaultsync_testkit::ManualClock;
use vaultsync_testkit::forge::{ClerkForge, SigningKey};
use vaultsync_testkit::jwks_server::{DISCOVERY_PATH, JWKS_PATH, JwksServer};

use crate::{ISSUER, NOW, authenticator, bearer, clock, instance, told};

/// An issuer's server, a server of ours that trusts it, and the clock of both.
struct Bench {
    clock: Arc<ManualClock>,
    server: JwksServer,
    auth: Authenticator,
}

impl Bench {
    async fn start(keys: &[Value]) -> Self {
        let server = JwksServer::start(keys).await;
        let issuer =
            Issuer::clerk(ClerkOptions { jwks_url: Some(server.jwks_url()), ..instance() });
        Self::with(server, issuer.expect("good settings"))
    }

    fn with(server: JwksServer, issuer: Issuer) -> Self {
        let clock = clock();
        let auth = authenticator(vec![issuer], &clock);
        Self { clock, server, auth }
    }

    /// A token that nobody has seen before, made now.
    fn token(&self, kid: &str, key: &SigningKey) -> String {
        let mut forge = ClerkForge::new(ISSUER, key, self.clock.now());
        kid.clone_into(&mut forge.kid);
        forge.token_with(|_, claims| {
            claims.insert("jti".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        })
    }

    async fn try_token(&self, token: &str) -> Result<Principal, AuthError> {
        self.auth.authenticate(&bearer(token)).await
    }

    async fn try_key(&self, kid: &str, key: &SigningKey) -> Result<Principal, AuthError> {
        self.try_token(&self.token(kid, key)).await
    }

    /// What a new token by that key is told: the status and the reason.
    async fn told(&self, kid: &str, key: &SigningKey) -> (u16, &'static str) {
        status(&self.try_key(kid, key).await)
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Waits for something that happens in the background.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited for {what} for too long");
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
    if let Err(refusal) = result
        && let Outcome::Unavailable { retry_after } = refusal.outcome()
    {
        assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");
        assert!(retry_after <= Duration::from_secs(5), "{retry_after:?}");
        assert_eq!(refusal.code(), "unavailable");
        assert_eq!(refusal.www_authenticate(), None);
    }
    let (status, _, reason) = told(result);
    (status, reason)
}

fn old_key() -> &'static SigningKey {
    SigningKey::rsa(0)
}

fn new_key() -> &'static SigningKey {
    SigningKey::rsa(1)
}

#[tokio::test]
async fn keys_are_fetched_once_for_many_tokens() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    for _ in 0..20 {
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    }
    assert_eq!(bench.server.requests(), 1);
    assert_eq!(bench.auth.signatures_checked(), 20, "each of them is a new token");
}

#[tokio::test]
async fn a_new_key_works_at_once() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.show(&[old_key().clerk_jwk("old"), new_key().clerk_jwk("new")]);
    assert_eq!(bench.told("new", new_key()).await, ACCEPTED);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    assert_eq!(bench.server.requests(), 2);
}

#[tokio::test]
async fn a_new_key_works_at_once_for_everybody_who_comes_at_once() {
    let bench = Arc::new(Bench::start(&[old_key().clerk_jwk("old")]).await);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.show(&[new_key().clerk_jwk("new")]);
    bench.server.delay(Duration::from_millis(200));
    let results = all_at_once(&bench, 50, |bench, _| bench.token("new", new_key())).await;
    assert!(results.iter().all(|result| *result == ACCEPTED), "{results:?}");
    assert_eq!(bench.server.requests(), 2);
}

#[tokio::test]
async fn a_key_replaced_under_its_old_id_works_at_once_and_the_old_one_no_more() {
    let bench = Bench::start(&[old_key().clerk_jwk("same")]).await;
    let remembered = bench.token("same", old_key());
    assert_eq!(status(&bench.try_token(&remembered).await), ACCEPTED);
    bench.server.show(&[new_key().clerk_jwk("same")]);
    assert_eq!(bench.told("same", new_key()).await, ACCEPTED);
    assert_eq!(bench.told("same", old_key()).await, BAD_SIGNATURE);
    assert_eq!(status(&bench.try_token(&remembered).await), BAD_SIGNATURE);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_within_five_minutes_of_steady_traffic() {
    let bench = Bench::start(&[old_key().clerk_jwk("old"), new_key().clerk_jwk("new")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.show(&[new_key().clerk_jwk("new")]);
    let mut accepted = 0;
    for _ in 0..59 {
        bench.pass(5);
        assert_eq!(bench.told("new", new_key()).await, ACCEPTED);
        accepted += u32::from(bench.told("old", old_key()).await == ACCEPTED);
    }
    assert!(accepted > 40, "it took as long as it may, so the end of it is what is tested");
    bench.pass(5);
    assert_eq!(bench.told("old", old_key()).await, NO_SUCH_KEY);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_to_those_whose_token_is_remembered() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.pass(230);
    let token = bench.token("old", old_key());
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    bench.server.show(&[new_key().clerk_jwk("new")]);
    bench.pass(20);
    // This one starts the refresh in the background, and need not wait for it.
    let _ = bench.try_token(&token).await;
    bench.until("the refresh", |bench| bench.server.requests() == 2).await;
    bench.pass(39);
    for _ in 0..100 {
        if status(&bench.try_token(&token).await) == NO_SUCH_KEY {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the token was taken although its key is gone");
}

#[tokio::test]
async fn busy_traffic_never_waits_for_a_refresh() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.delay(Duration::from_mins(1));
    bench.pass(240);
    let began = tokio::time::Instant::now();
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    assert!(began.elapsed() < Duration::from_secs(4), "it did not wait");
    bench.until("the refresh", |bench| bench.server.requests() == 2).await;
    for _ in 0..20 {
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    }
    assert_eq!(bench.server.requests(), 2, "one refresh at a time");
}

#[tokio::test]
async fn a_refresh_makes_the_keys_good_for_another_five_minutes() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.pass(239);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    assert_eq!(bench.server.requests(), 1);
    bench.pass(1);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.until("the refresh", |bench| bench.server.requests() == 2).await;
    bench.pass(200);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    assert_eq!(bench.server.requests(), 2);
}

#[tokio::test]
async fn an_outage_is_bridged_for_an_hour_and_then_nobody_is_signed_out() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.answer(500, "down");
    bench.pass(299);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    for _ in 0..33 {
        bench.pass(100);
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    }
    let remembered = bench.token("old", old_key());
    assert_eq!(status(&bench.try_token(&remembered).await), ACCEPTED);
    assert_eq!(bench.auth.ready().await, Ok(()));
    // 3599 seconds by now.
    bench.pass(1);
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
    assert_eq!(status(&bench.try_token(&remembered).await), UNREACHABLE);
    assert!(bench.auth.ready().await.is_err());
    bench.server.show(&[old_key().clerk_jwk("old")]);
    bench.pass(5);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_twice() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.answer(500, "down");
    bench.pass(300);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.delay(Duration::from_mins(1));
    bench.pass(10);
    let began = tokio::time::Instant::now();
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    assert!(began.elapsed() < Duration::from_secs(4), "known to be down, so asked aside");
    bench.until("another try", |bench| bench.server.requests() == 3).await;
}

#[tokio::test]
async fn an_issuer_that_failed_is_waited_for_again_after_thirty_seconds() {
    for (seconds, told) in [(29, ACCEPTED), (30, NO_SUCH_KEY)] {
        let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
        bench.server.answer(500, "down");
        bench.pass(300);
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
        assert_eq!(bench.server.requests(), 2);
        bench.server.show(&[new_key().clerk_jwk("new")]);
        bench.server.delay(Duration::from_millis(200));
        bench.pass(seconds);
        assert_eq!(bench.told("old", old_key()).await, told, "after {seconds} s");
    }
}

#[tokio::test]
async fn a_fetch_ends_after_five_seconds() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    bench.server.delay(Duration::from_mins(1));
    let began = tokio::time::Instant::now();
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn cold_and_failing_means_503_and_one_try_in_five_seconds() {
    let bench = Bench::start(&[]).await;
    bench.server.answer(503, "down");
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
    assert_eq!(bench.server.requests(), 1);
    for _ in 0..4 {
        bench.pass(1);
        assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
        let problems = bench.auth.ready().await.expect_err("no keys");
        assert!(problems[0].contains(ISSUER) && problems[0].contains("503"), "{problems:?}");
    }
    assert_eq!(bench.server.requests(), 1, "not before five seconds are over");
    bench.pass(1);
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
    assert_eq!(bench.server.requests(), 2);
    bench.server.show(&[old_key().clerk_jwk("old")]);
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE, "it has not been asked again");
    bench.pass(5);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    assert_eq!(bench.server.requests(), 3);
    assert_eq!(bench.auth.ready().await, Ok(()));
}

#[tokio::test]
async fn while_one_tries_again_the_others_are_answered_at_once() {
    let bench = Arc::new(Bench::start(&[]).await);
    bench.server.answer(503, "down");
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
    bench.server.show(&[old_key().clerk_jwk("old")]);
    bench.server.delay(Duration::from_millis(500));
    bench.pass(5);
    let results = all_at_once(&bench, 50, |bench, _| bench.token("old", old_key())).await;
    let accepted = results.iter().filter(|result| **result == ACCEPTED).count();
    let turned_away = results.iter().filter(|result| **result == UNREACHABLE).count();
    assert_eq!((accepted, turned_away), (1, 49));
    assert_eq!(bench.server.requests(), 2);
}

#[tokio::test]
async fn readiness_fetches_keys_that_nobody_asked_for_yet() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.server.requests(), 0);
    assert_eq!(bench.auth.ready().await, Ok(()));
    assert_eq!(bench.auth.ready().await, Ok(()));
    assert_eq!(bench.server.requests(), 1);
}

async fn all_at_once(
    bench: &Arc<Bench>,
    count: usize,
    token: impl Fn(&Bench, usize) -> String,
) -> Vec<(u16, &'static str)> {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..count {
        let (bench, token) = (Arc::clone(bench), token(bench, index));
        tasks.spawn(async move { status(&bench.try_token(&token).await) });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn two_hundred_at_once_fetch_the_first_keys_once() {
    let bench = Arc::new(Bench::start(&[old_key().clerk_jwk("old")]).await);
    bench.server.delay(Duration::from_millis(200));
    let token = bench.token("old", old_key());
    let results = all_at_once(&bench, 200, |_, _| token.clone()).await;
    assert!(results.iter().all(|result| *result == ACCEPTED), "{results:?}");
    assert_eq!(bench.server.requests(), 1);
}

#[tokio::test]
async fn two_hundred_at_once_wait_for_the_first_failure_together() {
    let bench = Arc::new(Bench::start(&[]).await);
    bench.server.answer(500, "down");
    bench.server.delay(Duration::from_millis(200));
    let token = bench.token("old", old_key());
    let results = all_at_once(&bench, 200, |_, _| token.clone()).await;
    assert!(results.iter().all(|result| *result == UNREACHABLE), "{results:?}");
    assert_eq!(bench.server.requests(), 1);
}

#[tokio::test]
async fn two_hundred_at_once_fetch_expired_keys_once() {
    let bench = Arc::new(Bench::start(&[old_key().clerk_jwk("old")]).await);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.delay(Duration::from_millis(200));
    bench.pass(1000);
    let token = bench.token("old", old_key());
    let results = all_at_once(&bench, 200, |_, _| token.clone()).await;
    assert!(results.iter().all(|result| *result == ACCEPTED), "{results:?}");
    assert_eq!(bench.server.requests(), 2);
}

#[tokio::test]
async fn made_up_key_ids_cost_one_fetch_in_thirty_seconds() {
    let bench = Arc::new(Bench::start(&[old_key().clerk_jwk("old")]).await);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    let template = bench.token("made-up", new_key());
    let (_, rest) = template.split_once('.').expect("three parts");
    let made_up = |_: &Bench, index: usize| {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": format!("made-up-{index}") });
        format!("{}.{rest}", vaultsync_testkit::forge::base64url(header.to_string().as_bytes()))
    };
    let results = all_at_once(&bench, 200, made_up).await;
    assert!(results.iter().all(|result| *result == NO_SUCH_KEY), "{results:?}");
    assert_eq!(bench.server.requests(), 2);
    bench.pass(29);
    all_at_once(&bench, 200, made_up).await;
    assert_eq!(bench.server.requests(), 2);
    bench.pass(1);
    all_at_once(&bench, 200, made_up).await;
    assert_eq!(bench.server.requests(), 3);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn bad_signatures_cost_one_fetch_in_thirty_seconds() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    for _ in 0..20 {
        assert_eq!(bench.told("old", new_key()).await, BAD_SIGNATURE);
    }
    assert_eq!(bench.server.requests(), 2);
    bench.pass(30);
    for _ in 0..20 {
        assert_eq!(bench.told("old", new_key()).await, BAD_SIGNATURE);
    }
    assert_eq!(bench.server.requests(), 3);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn an_unknown_key_id_in_an_outage_is_401_because_there_are_keys() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
    bench.server.answer(500, "down");
    assert_eq!(bench.told("new", new_key()).await, NO_SUCH_KEY);
    assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn what_is_no_key_set_leaves_none_where_there_was_none() {
    let good = old_key().clerk_jwk("old");
    let many = |count: usize| {
        let others = (1..count).map(|index| new_key().clerk_jwk(&format!("k{index}")));
        let keys: Vec<Value> = others.chain([good.clone()]).collect();
        json!({ "keys": keys }).to_string()
    };
    let changed = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        json!({ "keys": [key] }).to_string()
    };
    let without = |name: &str| {
        let mut key = good.clone();
        key.as_object_mut().expect("an object").remove(name).expect("it had that");
        json!({ "keys": [key] }).to_string()
    };
    let secret = SigningKey::secret(b"secret").jwk("old");
    // As long as a modulus must not be: 1024 bits, and 8193.
    let modulus = |bytes: &[u8]| json!(vaultsync_testkit::forge::base64url(bytes));
    let body = |bytes: usize| {
        let mut text = json!({ "keys": [good] }).to_string();
        text.push_str(&" ".repeat(bytes - text.len()));
        text
    };
    for (name, status, answer, want) in [
        ("an error", 500, body(2000), UNREACHABLE),
        ("not found", 404, body(2000), UNREACHABLE),
        ("created", 201, body(2000), UNREACHABLE),
        ("not JSON", 200, "<html>".to_owned(), KEYS_INVALID),
        ("nothing", 200, String::new(), KEYS_INVALID),
        ("a list", 200, "[]".to_owned(), KEYS_INVALID),
        ("no list", 200, "{}".to_owned(), KEYS_INVALID),
        ("keys is an object", 200, r#"{"keys":{}}"#.to_owned(), KEYS_INVALID),
        ("an empty list", 200, r#"{"keys":[]}"#.to_owned(), KEYS_MISSING),
        ("no keys in the list", 200, r#"{"keys":[1,null,"k",{}]}"#.to_owned(), KEYS_MISSING),
        ("65 keys", 200, many(65), KEYS_INVALID),
        ("64 keys", 200, many(64), ACCEPTED),
        ("256 KiB", 200, body(256 * 1024), ACCEPTED),
        ("more than 256 KiB", 200, body(256 * 1024 + 1), UNREACHABLE),
        ("no kid", 200, without("kid"), KEYS_MISSING),
        ("no use", 200, without("use"), ACCEPTED),
        ("no alg", 200, without("alg"), ACCEPTED),
        ("another use", 200, changed("use", json!("enc")), KEYS_MISSING),
        ("another alg", 200, changed("alg", json!("RSA-OAEP")), KEYS_MISSING),
        ("an alg for another kind", 200, changed("alg", json!("ES256")), KEYS_MISSING),
        ("an unknown alg", 200, changed("alg", json!("RS1")), KEYS_MISSING),
        ("kty says EC", 200, changed("kty", json!("EC")), KEYS_MISSING),
        ("no n", 200, without("n"), KEYS_MISSING),
        ("n is not base64url", 200, changed("n", json!("+++=")), KEYS_MISSING),
        ("n of 1024 bits", 200, changed("n", modulus(&[0xff; 128])), KEYS_MISSING),
        ("n of 8200 bits", 200, changed("n", modulus(&[0xff; 1025])), KEYS_MISSING),
        (
            "n is padded with zeros",
            200,
            changed("n", modulus(&[&[0; 200], &[0xff; 128][..]].concat())),
            KEYS_MISSING,
        ),
        ("e is even", 200, changed("e", json!("AQAA")), KEYS_MISSING),
        ("e is 1", 200, changed("e", json!("AQ")), KEYS_MISSING),
        ("its private half", 200, changed("d", json!("AQAB")), KEYS_MISSING),
        ("a shared secret", 200, json!({ "keys": [secret] }).to_string(), KEYS_MISSING),
        (
            "a good key among odd ones",
            200,
            json!({ "keys": [1, {"kty": "RSA"}, secret, {"kty": "new", "kid": "old"}, good] })
                .to_string(),
            ACCEPTED,
        ),
        (
            "two keys with one id",
            200,
            json!({ "keys": [new_key().clerk_jwk("old"), good] }).to_string(),
            ACCEPTED,
        ),
    ] {
        let bench = Bench::start(&[]).await;
        bench.server.answer(status, answer);
        assert_eq!(bench.told("old", old_key()).await, want, "{name}");
    }
}

#[tokio::test]
async fn the_last_good_keys_outlive_a_bad_answer() {
    for (name, status, answer) in [
        ("an empty list", 200, r#"{"keys":[]}"#),
        ("garbage", 200, "<html>"),
        ("keys of no use", 200, r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"old"}]}"#),
        ("an error", 502, ""),
    ] {
        let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED);
        bench.server.answer(status, answer);
        // The bad signature has them fetched again at once.
        assert_eq!(bench.told("old", new_key()).await, BAD_SIGNATURE);
        assert_eq!(bench.server.requests(), 2);
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED, "{name}");
        bench.pass(400);
        assert_eq!(bench.told("old", old_key()).await, ACCEPTED, "{name}, once expired");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = JwksServer::start(&[old_key().clerk_jwk("old")]).await;
    let bench = Bench::start(&[]).await;
    bench.server.redirect(&elsewhere.jwks_url());
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn an_issuer_that_is_not_there_is_unavailable() {
    let server = JwksServer::start(&[]).await;
    // Nothing listens on port 1 of this machine, which only root could open.
    let issuer = Issuer::clerk(ClerkOptions {
        jwks_url: Some("http://127.0.0.1:1/jwks".to_owned()),
        ..instance()
    });
    let bench = Bench::with(server, issuer.expect("good settings"));
    assert_eq!(bench.told("old", old_key()).await, UNREACHABLE);
}

fn discovered(server: &JwksServer) -> Issuer {
    Issuer::oidc(OidcOptions {
        issuer: server.issuer(),
        audience: vec!["vault".to_owned()],
        ..OidcOptions::default()
    })
    .expect("good settings")
}

#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let server = JwksServer::start(&[]).await;
    server.answer_at("/keys", 200, json!({ "keys": [old_key().jwk("old")] }).to_string());
    let issuer = discovered(&server);
    let bench = Bench::with(server, issuer);
    let mut forge = ClerkForge::new(&bench.server.issuer(), old_key(), NOW);
    forge.kid = "old".to_owned();
    let token = forge.token_with(|_, claims| {
        claims.insert("aud".to_owned(), json!("vault"));
    });
    let document = |issuer: &str| {
        let keys = format!("{}/keys", bench.server.issuer());
        json!({ "issuer": issuer, "jwks_uri": keys }).to_string()
    };

    assert_eq!(status(&bench.try_token(&token).await), UNREACHABLE, "there is no document");
    bench.server.answer_at(DISCOVERY_PATH, 200, document("https://id.example.com"));
    bench.pass(5);
    assert_eq!(status(&bench.try_token(&token).await), KEYS_INVALID, "it is another issuer's");
    assert_eq!(bench.server.requests_at("/keys"), 0);
    bench.server.answer_at(DISCOVERY_PATH, 200, document(&bench.server.issuer()));
    bench.pass(5);
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    assert_eq!(bench.server.requests_at("/keys"), 1);
    assert_eq!(bench.server.requests_at(JWKS_PATH), 0);
}

#[tokio::test]
async fn a_busy_client_costs_one_signature_check_a_minute() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    let forge = {
        let mut forge = ClerkForge::new(ISSUER, old_key(), NOW);
        forge.kid = "old".to_owned();
        forge
    };
    let long = forge.token_with(|_, claims| {
        claims.insert("exp".to_owned(), json!(1_800_003_600));
    });
    let first = bench.try_token(&long).await.expect("good");
    for _ in 0..59 {
        bench.pass(1);
        assert_eq!(bench.try_token(&long).await.expect("good"), first);
    }
    assert_eq!(bench.auth.signatures_checked(), 1);
    bench.pass(1);
    assert_eq!(bench.try_token(&long).await.expect("good"), first);
    assert_eq!(bench.auth.signatures_checked(), 2);
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_says() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    let token = bench.token("old", old_key());
    bench.pass(30);
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    bench.clock.advance(Duration::from_millis(29_999));
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    assert_eq!(bench.auth.signatures_checked(), 1, "remembered");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED, "within the skew");
    assert_eq!(bench.auth.signatures_checked(), 2, "but judged anew");
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(status(&bench.try_token(&token).await), (401, "token-expired"));
}

#[tokio::test]
async fn a_refused_token_is_not_remembered() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    let token = bench.token("old", old_key());
    bench.clock.step(65_000);
    assert_eq!(status(&bench.try_token(&token).await), (401, "token-expired"));
    bench.clock.step(-65_000);
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
}

#[tokio::test]
async fn a_remembered_token_is_forgotten_when_keys_change_and_only_then() {
    let (old, spare) = (old_key().clerk_jwk("old"), SigningKey::rsa(2).clerk_jwk("spare"));
    let bench = Bench::start(&[old.clone(), spare.clone()]).await;
    let token = bench.token("old", old_key());
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    // The same keys in another order are the same keys.
    bench.server.show(&[spare, old]);
    assert_eq!(bench.told("made-up", new_key()).await, NO_SUCH_KEY);
    assert_eq!(bench.server.requests(), 2);
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    assert_eq!(bench.auth.signatures_checked(), 1, "still remembered");
    bench.pass(30);
    bench.server.show(&[new_key().clerk_jwk("new")]);
    assert_eq!(bench.told("new", new_key()).await, ACCEPTED);
    assert_eq!(status(&bench.try_token(&token).await), NO_SUCH_KEY);
}

#[tokio::test]
async fn a_third_change_of_keys_counts_like_the_first() {
    let bench = Bench::start(&[old_key().clerk_jwk("0")]).await;
    let mut token = bench.token("0", old_key());
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    for kid in ["1", "2", "3"] {
        bench.pass(30);
        bench.server.show(&[old_key().clerk_jwk(kid)]);
        let next = bench.token(kid, old_key());
        assert_eq!(status(&bench.try_token(&next).await), ACCEPTED, "{kid}");
        assert_eq!(status(&bench.try_token(&token).await), NO_SUCH_KEY, "before {kid}");
        token = next;
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_undo_the_fetch() {
    let bench = Bench::start(&[old_key().clerk_jwk("old")]).await;
    bench.server.delay(Duration::from_millis(300));
    let token = bench.token("old", old_key());
    let hung_up = tokio::time::timeout(Duration::from_millis(100), bench.try_token(&token)).await;
    assert!(hung_up.is_err(), "it was still waiting");
    assert_eq!(status(&bench.try_token(&token).await), ACCEPTED);
    assert_eq!(bench.server.requests(), 1);
}
