//! Settings of a Clerk instance.
//!
//! No setting is secret, because session tokens are verified with public keys only.
//!
//! Not here: the rules for its tokens (`claims_clerk`).

use std::time::Duration;

use base64_simd::STANDARD_NO_PAD;

use super::claims_clerk::ClerkRules;
use super::fetch::{KeyEndpoint, parse_url};
use super::issuer::{
    CLOCK_SKEW_DEFAULT, Issuer, IssuerError, KeySource, Rules, check_audience, issuer_name,
    skew_millis,
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

/// Settings of a Clerk instance. Requires `publishable_key` or `issuer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClerkOptions {
    /// `CLERK_PUBLISHABLE_KEY`: `pk_test_…` or `pk_live_…`, which encodes the instance's host.
    pub publishable_key: Option<String>,
    /// `CLERK_ISSUER`: value of `iss` in tokens. Default: `https://` and the host in the
    /// publishable key.
    pub issuer: Option<String>,
    /// `CLERK_JWT_KEY`: public keys in PEM. If there are any, no keys are fetched.
    pub jwt_keys: Vec<String>,
    /// `CLERK_JWKS_URL`: URL of the keys, if it is not the usual one.
    pub jwks_url: Option<String>,
    /// `CLERK_AUTHORIZED_PARTIES`: origins whose tokens are accepted; all origins if empty.
    pub authorized_parties: Vec<String>,
    /// `CLERK_ALLOW_MISSING_AZP`: also accepts tokens without an origin, as native apps have.
    pub allow_missing_azp: bool,
    /// `CLERK_AUDIENCE`: accepted audiences of tokens that have an `aud`.
    pub audience: Vec<String>,
    /// `CLERK_CLOCK_SKEW_MS`: tolerated difference between the clocks, at most a minute. Default: 5
    /// s.
    pub clock_skew: Duration,
    /// `CLERK_ALLOW_IMPERSONATION`: gives an actor who impersonates a user access to the user's
    /// vault.
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
    /// Creates the issuer of a Clerk instance from its settings.
    pub fn clerk(options: ClerkOptions) -> Result<Self, IssuerError> {
        let host = options.publishable_key.as_deref().map(frontend_host).transpose()?;
        let host_url = host.map(|host| format!("https://{host}"));
        let name = match (&options.issuer, &host_url) {
            (Some(issuer), _) => issuer_name(ISSUER, issuer)?,
            (None, Some(url)) => issuer_name(PUBLISHABLE_KEY, url)?,
            (None, None) => {
                return Err(IssuerError::new(
                    PUBLISHABLE_KEY,
                    "it is missing: set it or CLERK_ISSUER to choose the instance whose tokens are \
                     accepted",
                ));
            }
        };
        check_authorized_parties(&options.authorized_parties)?;
        check_audience(AUDIENCE, &options.audience)?;
        let skew_millis = skew_millis(CLOCK_SKEW, options.clock_skew)?;
        let keys = if options.jwt_keys.is_empty() {
            let base = host_url.as_deref().unwrap_or(&name);
            KeySource::Network(key_endpoint(options.jwks_url.as_deref(), base)?)
        } else {
            KeySource::Settings(parse_jwt_keys(&options.jwt_keys)?)
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

fn key_endpoint(jwks_url: Option<&str>, base: &str) -> Result<KeyEndpoint, IssuerError> {
    let error = |problem: String| IssuerError::new(JWKS_URL, problem);
    let default = || format!("{}/.well-known/jwks.json", base.trim_end_matches('/'));
    let url = parse_url(&jwks_url.map_or_else(default, str::to_owned)).map_err(error)?;
    KeyEndpoint::jwks(url).map_err(error)
}

fn parse_jwt_keys(texts: &[String]) -> Result<KeySet, IssuerError> {
    let mut keys = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let parsed = pem::rsa_keys(text).map_err(|problem| {
            IssuerError::new(JWT_KEY, format!("key {}: {problem}", index + 1))
        })?;
        keys.extend(parsed);
    }
    Ok(KeySet::new(keys))
}

/// Rejects entries that `azp` can never equal, because the comparison is byte by byte.
fn check_authorized_parties(parties: &[String]) -> Result<(), IssuerError> {
    for party in parties {
        let problem = if party.is_empty() {
            "it contains an empty entry: remove it".to_owned()
        } else if party.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*') {
            format!("{party:?} is not an origin: wildcards and spaces are not supported")
        } else if party.ends_with('/') {
            format!("{party:?} ends in a slash: remove the slash")
        } else {
            continue;
        };
        return Err(IssuerError::new(AUTHORIZED_PARTIES, problem));
    }
    Ok(())
}

/// Decodes the host of the instance's Frontend API from a publishable key: the base64 of the host
/// and a `$` (clerk/javascript, `shared/keys.ts`).
///
/// Keys are fetched from this host, so only a bare host name is accepted.
fn frontend_host(key: &str) -> Result<String, IssuerError> {
    let error = |problem: &str| IssuerError::new(PUBLISHABLE_KEY, problem);
    if key.starts_with("sk_") {
        return Err(error(
            "it is a secret key, which this server never needs: set the publishable key",
        ));
    }
    let encoded =
        key.strip_prefix("pk_test_").or_else(|| key.strip_prefix("pk_live_")).ok_or_else(|| {
            error("it does not begin with pk_test_ or pk_live_: copy the whole publishable key")
        })?;
    let decoded = STANDARD_NO_PAD.decode_to_vec(encoded.trim_end_matches('=')).map_err(|_| {
        error("the part after its prefix is not base64: copy the whole publishable key")
    })?;
    let host = String::from_utf8(decoded).ok().and_then(|text| {
        let host = text.strip_suffix('$')?;
        is_dns_name(host).then(|| host.to_owned())
    });
    host.ok_or_else(|| {
        error("it does not contain the name of a host: copy the whole publishable key")
    })
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
        // Four numbers are an IP address, not a host name.
        && host.rsplit('.').next().is_some_and(|top| top.bytes().any(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::frontend_host;

    #[test]
    fn a_publishable_key_must_encode_a_bare_host_name() {
        let key = |text: &str| {
            format!("pk_test_{}", base64_simd::STANDARD.encode_to_string(text.as_bytes()))
        };
        assert_eq!(
            frontend_host("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k").expect("a valid key"),
            "clerk.example.com"
        );
        for (text, valid) in [
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
            assert_eq!(frontend_host(&key).is_ok(), valid, "{text}");
            let unpadded = key.trim_end_matches('=');
            assert_eq!(frontend_host(unpadded).is_ok(), valid, "{text} without padding");
        }
        for key in ["", "pk_test_", "sk_test_Y2xlcmsuZXhhbXBsZS5jb20k", "pk_test_!!!!"] {
            assert!(frontend_host(key).is_err(), "{key}");
        }
    }
}
