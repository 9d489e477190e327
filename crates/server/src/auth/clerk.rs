//! The settings of a Clerk instance.
//!
//! Not here: what its tokens must say (`claims_clerk`). No setting here is secret, and none needs
//! to be: a session token is verified with public keys alone.

use std::time::Duration;

use base64_simd::STANDARD_NO_PAD;

use super::claims_clerk::ClerkRules;
use super::fetch::{Source, parse_url};
use super::issuer::{
    CLOCK_SKEW_DEFAULT, Issuer, IssuerError, KeysFrom, Rules, audience, issuer_name, skew_millis,
};
use super::keys::{Alg, KeySet};
use super::pem;

const PUBLISHABLE_KEY: &str = "CLERK_PUBLISHABLE_KEY";
const ISSUER: &str = "CLERK_ISSUER";
const JWT_KEY: &str = "CLERK_JWT_KEY";
const JWKS_URL: &str = "CLERK_JWKS_URL";
const AUTHORIZED_PARTIES: &str = "CLERK_AUTHORIZED_PARTIES";
const AUDIENCE: &str = "CLERK_AUDIENCE";
const CLOCK_SKEW: &str = "CLERK_CLOCK_SKEW_MS";

/// The settings of a Clerk instance. One of `publishable_key` and `issuer` is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClerkOptions {
    /// `CLERK_PUBLISHABLE_KEY`: `pk_test_…` or `pk_live_…`, which says where the instance is.
    pub publishable_key: Option<String>,
    /// `CLERK_ISSUER`: what tokens say in `iss`, where that is not `https://` and the host in the
    /// publishable key.
    pub issuer: Option<String>,
    /// `CLERK_JWT_KEY`: public keys in PEM. With any of them the network is not used.
    pub jwt_keys: Vec<String>,
    /// `CLERK_JWKS_URL`: where the keys are, if not in their usual place.
    pub jwks_url: Option<String>,
    /// `CLERK_AUTHORIZED_PARTIES`: the origins whose tokens are taken. Empty takes all of them.
    pub authorized_parties: Vec<String>,
    /// `CLERK_ALLOW_MISSING_AZP`: takes tokens without an origin too, as native applications have.
    pub allow_missing_azp: bool,
    /// `CLERK_AUDIENCE`: what a token's `aud` must have one of, where it has any.
    pub audience: Vec<String>,
    /// `CLERK_CLOCK_SKEW_MS`: how far the clocks may differ, at most a minute. 5 s.
    pub clock_skew: Duration,
    /// `CLERK_ALLOW_IMPERSONATION`: lets somebody who acts as a user into that user's vault.
    pub allow_impersonation: bool,
}

impl Default for ClerkOptions {
    fn default() -> Self {
        Self {
            publishable_key: None,
            issuer: None,
            jwt_keys: Vec::new(),
            jwks_url: None,
            authorized_parties: Vec::new(),
            allow_missing_azp: false,
            audience: Vec::new(),
            clock_skew: CLOCK_SKEW_DEFAULT,
            allow_impersonation: false,
        }
    }
}

impl Issuer {
    /// A Clerk instance.
    pub fn clerk(options: ClerkOptions) -> Result<Self, IssuerError> {
        let host = options.publishable_key.as_deref().map(frontend_host).transpose()?;
        let host_url = host.map(|host| format!("https://{host}"));
        let name = match (&options.issuer, &host_url) {
            (Some(issuer), _) => issuer_name(ISSUER, issuer)?,
            (None, Some(url)) => issuer_name(PUBLISHABLE_KEY, url)?,
            (None, None) => {
                return Err(IssuerError::new(
                    PUBLISHABLE_KEY,
                    "missing: set it, or CLERK_ISSUER, to say whose tokens to take",
                ));
            }
        };
        check_parties(&options.authorized_parties)?;
        audience(AUDIENCE, &options.audience)?;
        let skew_millis = skew_millis(CLOCK_SKEW, options.clock_skew)?;
        let keys = if options.jwt_keys.is_empty() {
            let base = host_url.as_deref().unwrap_or(&name);
            KeysFrom::Network(source(options.jwks_url.as_deref(), base)?)
        } else {
            KeysFrom::Settings(written_keys(&options.jwt_keys)?)
        };
        Ok(Self {
            name,
            algorithms: vec![Alg::Rs256],
            skew_millis,
            rules: Rules::Clerk(ClerkRules {
                authorized_parties: options.authorized_parties,
                allow_missing_azp: options.allow_missing_azp,
                audience: options.audience,
                allow_impersonation: options.allow_impersonation,
            }),
            keys,
        })
    }
}

fn source(jwks_url: Option<&str>, base: &str) -> Result<Source, IssuerError> {
    let error = |why: String| IssuerError::new(JWKS_URL, why);
    let usual = || format!("{}/.well-known/jwks.json", base.trim_end_matches('/'));
    let url = parse_url(&jwks_url.map_or_else(usual, str::to_owned)).map_err(error)?;
    Source::jwks(url).map_err(error)
}

fn written_keys(texts: &[String]) -> Result<KeySet, IssuerError> {
    let mut keys = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let read = pem::rsa_keys(text)
            .map_err(|why| IssuerError::new(JWT_KEY, format!("key {}: {why}", index + 1)))?;
        keys.extend(read);
    }
    Ok(KeySet::new(keys))
}

/// Entries are compared with `azp` byte for byte, so what could never be equal is a mistake.
fn check_parties(parties: &[String]) -> Result<(), IssuerError> {
    for party in parties {
        let problem = if party.is_empty() {
            "it has an empty entry".to_owned()
        } else if party.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*') {
            format!("{party:?} is not an origin: patterns and spaces are not understood")
        } else if party.ends_with('/') {
            format!("{party:?} ends in a slash, and an origin has none")
        } else {
            continue;
        };
        return Err(IssuerError::new(AUTHORIZED_PARTIES, problem));
    }
    Ok(())
}

/// The host of the instance's Frontend API, which a publishable key is the base64 of, with a `$`
/// behind it (clerk/javascript, `shared/keys.ts`).
///
/// The host becomes an address to fetch keys from, so nothing but a bare name passes.
fn frontend_host(key: &str) -> Result<String, IssuerError> {
    let error = |why: &str| IssuerError::new(PUBLISHABLE_KEY, why);
    if key.starts_with("sk_") {
        return Err(error("it is a secret key, which is never needed here"));
    }
    let encoded = key
        .strip_prefix("pk_test_")
        .or_else(|| key.strip_prefix("pk_live_"))
        .ok_or_else(|| error("it does not begin with pk_test_ or pk_live_"))?;
    let decoded = STANDARD_NO_PAD
        .decode_to_vec(encoded.trim_end_matches('='))
        .map_err(|_| error("what follows its prefix is not base64"))?;
    let host = String::from_utf8(decoded).ok().and_then(|text| {
        let host = text.strip_suffix('$')?;
        is_dns_name(host).then(|| host.to_owned())
    });
    host.ok_or_else(|| error("it does not hold the name of a host"))
}

fn is_dns_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253
        && host.contains('.')
        && host.split('.').all(is_label)
        // Four numbers are an address, not a name.
        && host.rsplit('.').next().is_some_and(|top| top.bytes().any(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::frontend_host;

    #[test]
    fn a_publishable_key_names_a_bare_host_or_nothing() {
        let key = |text: &str| {
            format!("pk_test_{}", base64_simd::STANDARD.encode_to_string(text.as_bytes()))
        };
        assert_eq!(
            frontend_host("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k").expect("good"),
            "clerk.example.com"
        );
        for (text, good) in [
            ("quick-fox-12.clerk.accounts.dev$", true),
            ("clerk.a.example.com$", true),
            ("clerk.example.com", false),
            ("clerk.example.com$$", false),
            ("clerk$.example.com$", false),
            ("localhost$", false),
            ("Clerk.example.com$", false),
            ("clerk.example.com:8080$", false),
            ("https://clerk.example.com$", false),
            ("clerk.example.com/x$", false),
            ("me@clerk.example.com$", false),
            ("clerk.example.com #$", false),
            ("clerk..com$", false),
            (".example.com$", false),
            ("-a.example.com$", false),
            ("169.254.169.254$", false),
            ("$", false),
        ] {
            let key = key(text);
            assert_eq!(frontend_host(&key).is_ok(), good, "{text}");
            let unpadded = key.trim_end_matches('=');
            assert_eq!(frontend_host(unpadded).is_ok(), good, "{text} without padding");
        }
        for key in ["", "pk_test_", "sk_test_Y2xlcmsuZXhhbXBsZS5jb20k", "pk_test_!!!!"] {
            assert!(frontend_host(key).is_err(), "{key}");
        }
    }
}
