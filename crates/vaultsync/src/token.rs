//! `vaultsync token`: prints a bearer token of the local issuer.
//!
//! Not here: the claims of the token and its key (`vaultsync-server`).

use std::io::Write;
use std::time::Duration;

use anyhow::Context;

use vaultsync_server::{Clock as _, SystemClock, auth::LocalKey};

use crate::{
    data_dir,
    settings::{ConfigErrors, Settings},
};

/// Maximum lifetime of a token.
const TTL_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// Maximum length of a user's name, the same as the server's for the claim `sub`.
const USER_BYTES_MAX: usize = 255;

/// Arguments of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Not empty.
    pub(crate) user: String,
    /// Lifetime, from 1 second to 30 days.
    pub(crate) ttl: Duration,
}

/// Prints a token, and nothing else, to standard output.
///
/// # Errors
///
/// [`ConfigErrors`] if a server with these settings would reject the token.
pub(crate) fn run(settings: &Settings, request: &Request) -> anyhow::Result<()> {
    if !settings.sign_in.local {
        return Err(ConfigErrors::one(
            "the local issuer is off, so the server would reject the token: \
             pass --local-issuer to `serve` and to `token` (or set VAULTSYNC_LOCAL_ISSUER=true)",
        )
        .into());
    }
    let token = mint(settings, request)?;
    writeln!(std::io::stdout(), "{token}").context("cannot write to standard output")
}

fn mint(settings: &Settings, request: &Request) -> anyhow::Result<String> {
    data_dir::create(&settings.data_dir)?;
    let key = LocalKey::load_or_create(&settings.data_dir)?;
    Ok(key.mint(&request.user, SystemClock::start().now(), request.ttl)?)
}

/// Parses the name of a user.
pub(crate) fn parse_user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > USER_BYTES_MAX {
        return Err(format!("expected a name of 1 to {USER_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// Parses a lifetime such as `30s`, `15m`, `1h` or `7d`.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let expected = "expected a lifetime such as 30s, 15m, 1h or 7d";
    let span: jiff::Span = text.parse().map_err(|_| expected.to_owned())?;
    let ttl = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .ok()
        .and_then(|length| Duration::try_from(length).ok())
        .ok_or(expected)?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(TTL_SECONDS_MAX);
    if bounds.contains(&ttl) { Ok(ttl) } else { Err("must be from 1s to 30d".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_parsed() {
        for (text, seconds) in [
            ("1s", 1),
            ("30s", 30),
            ("15m", 900),
            ("1h", 3600),
            ("1h 30m", 5400),
            ("7d", 604_800),
            ("30d", TTL_SECONDS_MAX),
        ] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn lifetimes_out_of_bounds_are_refused() {
        for text in ["0s", "999ms", "31d", "-1h", "1h ago", "1mo", "3600", "", "soon"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }
}
