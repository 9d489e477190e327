//! Fetching of an issuer's keys, with limits on time and size.
//!
//! No part of a URL comes from a token.
//!
//! Not here: when to fetch (`jwks`).

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde_json::Value;

use super::keys::KeySet;
use super::reason::Reason;

/// Time limit of one fetch, discovery included.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Size limit of one response body.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Location of an issuer's keys.
#[derive(Clone, Debug)]
enum Location {
    /// URL of the key set.
    Jwks(Url),
    /// URL of the discovery document, which names the URL of the key set (OIDC Discovery, section
    /// 4).
    Discovery { url: Url, issuer: String },
}

/// HTTP endpoint that serves an issuer's keys.
#[derive(Clone, Debug)]
pub(super) struct KeyEndpoint {
    client: Client,
    location: Location,
}

/// Failed fetch of an issuer's keys.
#[derive(Clone, Debug)]
pub(super) struct FetchError {
    pub(super) reason: Reason,
    /// Message for the operator. Contains no secrets.
    pub(super) detail: String,
}

impl KeyEndpoint {
    /// Endpoint of the key set at `url`.
    pub(super) fn jwks(url: Url) -> Result<Self, String> {
        Ok(Self { client: client(&url)?, location: Location::Jwks(url) })
    }

    /// Endpoint of the key set that the discovery document of `issuer` names.
    pub(super) fn discovery(issuer: &str) -> Result<Self, String> {
        let url = parse_url(&format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        ))?;
        let location = Location::Discovery { url: url.clone(), issuer: issuer.to_owned() };
        Ok(Self { client: client(&url)?, location })
    }

    /// URL of the key set or of the discovery document.
    pub(super) fn url(&self) -> &Url {
        match &self.location {
            Location::Jwks(url) | Location::Discovery { url, .. } => url,
        }
    }

    /// Fetches the keys.
    pub(super) async fn fetch_keys(&self) -> Result<KeySet, FetchError> {
        match tokio::time::timeout(FETCH_TIMEOUT, self.fetch_keys_without_timeout()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError {
                reason: Reason::JwkRemoteFailedToLoad,
                detail: format!("no response within {} seconds", FETCH_TIMEOUT.as_secs()),
            }),
        }
    }

    async fn fetch_keys_without_timeout(&self) -> Result<KeySet, FetchError> {
        let body = match &self.location {
            Location::Jwks(url) => self.get(url).await?,
            Location::Discovery { url, issuer } => {
                let document = self.get(url).await?;
                let jwks_uri = jwks_uri(&document, issuer, url).map_err(|detail| FetchError {
                    reason: Reason::JwkRemoteInvalid,
                    detail: format!("{url}: {detail}"),
                })?;
                self.get(&jwks_uri).await?
            }
        };
        KeySet::from_jwks(&body).map_err(|(reason, detail)| FetchError { reason, detail })
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let failed = |detail: String| FetchError {
            reason: Reason::JwkRemoteFailedToLoad,
            detail: format!("{url}: {detail}"),
        };
        let transport = |error: reqwest::Error| failed(error_chain(&error.without_url()));
        let mut response = self.client.get(url.clone()).send().await.map_err(transport)?;
        // Redirects are not followed, so they fail here as well.
        if response.status() != http::StatusCode::OK {
            return Err(failed(format!("the response status is {}", response.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(failed(format!("the response is longer than {BODY_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Parses a URL from which keys may be fetched: https, or http to a loopback address.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it contains a user name or a password: remove them".to_owned());
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("http is allowed for loopback addresses only: use https".to_owned()),
        _ => Err("it is not an https URL".to_owned()),
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

/// Returns the `jwks_uri` of a discovery document, after checking that the document is `issuer`'s.
fn jwks_uri(document: &[u8], issuer: &str, document_url: &Url) -> Result<Url, String> {
    let document: Value = serde_json::from_slice(document)
        .map_err(|_| "the discovery document is not JSON".to_owned())?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(
            "the `issuer` of the discovery document is not the configured issuer".to_owned()
        );
    }
    let uri = document.get("jwks_uri").and_then(Value::as_str);
    let url = uri.ok_or_else(|| "the discovery document has no `jwks_uri`".to_owned())?;
    let url = parse_url(url).map_err(|problem| format!("`jwks_uri`: {problem}"))?;
    // A remote issuer must not make this server send requests to its own machine.
    if is_loopback(&url) && !is_loopback(document_url) {
        return Err("`jwks_uri` is a loopback address, but the issuer is remote".to_owned());
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
    builder
        .build()
        .map_err(|error| format!("cannot create an HTTPS client: {}", error_chain(&error)))
}

/// Formats an error with its causes, because reqwest keeps the details in the causes.
fn error_chain(error: &dyn Error) -> String {
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
    fn keys_are_fetched_over_https_or_from_loopback_addresses() {
        for (url, valid) in [
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
            assert_eq!(parse_url(url).is_ok(), valid, "{url}");
        }
    }

    #[test]
    fn a_discovery_document_must_be_its_issuers_own() {
        let document_url = parse_url("https://id.example.com/x").expect("a valid URL");
        for (document, valid) in [
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
            let found = jwks_uri(document.as_bytes(), "https://id.example.com", &document_url);
            assert_eq!(found.is_ok(), valid, "{document}");
        }
    }
}
