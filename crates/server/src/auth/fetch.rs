//! One fetch of an issuer's keys, within bounds.
//!
//! Not here: when to fetch (`jwks`). No part of an address comes from a token.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde_json::Value;

use super::keys::KeySet;
use super::reason::Reason;

/// The longest that one fetch may take, discovery included.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The most that is read of one answer.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Where an issuer shows its keys.
#[derive(Clone, Debug)]
enum Location {
    /// At this address.
    Jwks(Url),
    /// At the address that the document at this one tells (OIDC Discovery, section 4).
    Discovery { url: Url, issuer: String },
}

/// An issuer's keys as they can be fetched.
#[derive(Clone, Debug)]
pub(super) struct Source {
    client: Client,
    location: Location,
}

/// Why there are no keys after a fetch.
#[derive(Clone, Debug)]
pub(super) struct FetchError {
    pub(super) reason: Reason,
    /// For an operator. Nothing in it is secret.
    pub(super) detail: String,
}

impl Source {
    /// The key set at `url`.
    pub(super) fn jwks(url: Url) -> Result<Self, String> {
        Ok(Self { client: client(&url)?, location: Location::Jwks(url) })
    }

    /// The key set that the discovery document of `issuer` leads to.
    pub(super) fn discovery(issuer: &str) -> Result<Self, String> {
        let url = parse_url(&format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        ))?;
        let location = Location::Discovery { url: url.clone(), issuer: issuer.to_owned() };
        Ok(Self { client: client(&url)?, location })
    }

    /// Where the keys are, or the document that tells where they are.
    pub(super) fn url(&self) -> &Url {
        match &self.location {
            Location::Jwks(url) | Location::Discovery { url, .. } => url,
        }
    }

    /// Fetches the keys.
    pub(super) async fn keys(&self) -> Result<KeySet, FetchError> {
        match tokio::time::timeout(FETCH_TIMEOUT, self.keys_unbounded()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError {
                reason: Reason::JwkRemoteFailedToLoad,
                detail: format!("no answer within {} seconds", FETCH_TIMEOUT.as_secs()),
            }),
        }
    }

    async fn keys_unbounded(&self) -> Result<KeySet, FetchError> {
        let body = match &self.location {
            Location::Jwks(url) => self.body(url).await?,
            Location::Discovery { url, issuer } => {
                let document = self.body(url).await?;
                let keys = jwks_uri(&document, issuer, url).map_err(|detail| FetchError {
                    reason: Reason::JwkRemoteInvalid,
                    detail: format!("{url}: {detail}"),
                })?;
                self.body(&keys).await?
            }
        };
        KeySet::from_jwks(&body).map_err(|(reason, detail)| FetchError { reason, detail })
    }

    async fn body(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let failed = |detail: String| FetchError {
            reason: Reason::JwkRemoteFailedToLoad,
            detail: format!("{url}: {detail}"),
        };
        let spelled = |error: reqwest::Error| failed(chain(&error.without_url()));
        let mut response = self.client.get(url.clone()).send().await.map_err(spelled)?;
        // A redirect lands here as well: it is not followed.
        if response.status() != http::StatusCode::OK {
            return Err(failed(format!("status {}", response.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(spelled)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(failed(format!("more than {BODY_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// An address that keys may be fetched from: https, or plain http that never leaves the machine.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user name or a password in it".to_owned());
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("plain http is only for this machine itself: use https".to_owned()),
        _ => Err("it is not an https address".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `jwks_uri` of a discovery document that is really `issuer`'s.
fn jwks_uri(document: &[u8], issuer: &str, asked: &Url) -> Result<Url, String> {
    let document: Value =
        serde_json::from_slice(document).map_err(|_| "it is not JSON".to_owned())?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("its `issuer` is another one".to_owned());
    }
    let uri = document.get("jwks_uri").and_then(Value::as_str);
    let url = uri.ok_or_else(|| "it has no `jwks_uri`".to_owned())?;
    let url = parse_url(url).map_err(|why| format!("`jwks_uri`: {why}"))?;
    // An issuer out in the world has no business on this machine.
    if is_loopback(&url) && !is_loopback(asked) {
        return Err("`jwks_uri` leads to this machine".to_owned());
    }
    Ok(url)
}

fn client(url: &Url) -> Result<Client, String> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(FETCH_TIMEOUT)
        .user_agent("vaultsync");
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| format!("no HTTPS client can be made: {}", chain(&error)))
}

/// An error and what caused it: reqwest keeps the telling part in its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{jwks_uri, parse_url};

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for (url, good) in [
            ("https://clerk.example.com/.well-known/jwks.json", true),
            ("http://127.0.0.1:4000/jwks", true),
            ("http://127.8.9.1/jwks", true),
            ("http://[::1]:4000/jwks", true),
            ("http://localhost:4000/jwks", true),
            ("http://example.com/jwks", false),
            ("http://localhost.example.com/jwks", false),
            ("http://127.0.0.1.example.com/jwks", false),
            ("http://10.0.0.1/jwks", false),
            ("https://user:word@example.com/jwks", false),
            ("https://user@example.com/jwks", false),
            ("file:///etc/passwd", false),
            ("data:application/json,{}", false),
            ("/jwks", false),
            ("", false),
        ] {
            assert_eq!(parse_url(url).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_discovery_document_speaks_for_its_own_issuer_only() {
        let asked = parse_url("https://id.example.com/x").expect("good");
        for (document, good) in [
            (
                r#"{"issuer":"https://id.example.com","jwks_uri":"https://keys.example.net/k"}"#,
                true,
            ),
            (
                r#"{"issuer":"https://id.example.com/","jwks_uri":"https://keys.example.net/k"}"#,
                false,
            ),
            (
                r#"{"issuer":"https://id.example.com","jwks_uri":"http://keys.example.net/k"}"#,
                false,
            ),
            (r#"{"issuer":"https://id.example.com","jwks_uri":"http://127.0.0.1/k"}"#, false),
            (r#"{"issuer":"https://id.example.com","jwks_uri":"https://localhost/k"}"#, false),
            (r#"{"issuer":"https://id.example.com"}"#, false),
            (r#"{"jwks_uri":"https://keys.example.net/k"}"#, false),
            ("<html>", false),
        ] {
            let found = jwks_uri(document.as_bytes(), "https://id.example.com", &asked);
            assert_eq!(found.is_ok(), good, "{document}");
        }
    }
}
