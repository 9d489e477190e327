//! Address of a PostgreSQL database in libpq's URL syntax.
//!
//! Not here: TLS itself (`tls.rs`).

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Config, Host, SslMode};

/// A peer can disappear without closing the connection. A keepalive probe is sent after this time
/// without traffic, and repeated at this interval.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Address of a PostgreSQL database: `postgres://USER:PASSWORD@HOST:PORT/NAME`.
///
/// It may name several hosts, and libpq's options after `?`. It prints without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
}

/// How the server's certificate is verified, and the files needed for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsMode {
    pub(super) verify: Verify,
    /// The trusted certificate authorities, in PEM. `None`: the system's.
    pub(super) roots: Option<PathBuf>,
    /// The client's certificates and key, in PEM.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// How much of the server's certificate is verified. The names in quotes are libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verify {
    /// `prefer` and `require`: nothing. The connection is encrypted, but the server is unknown.
    #[default]
    Nothing,
    /// `verify-ca`: the signature of a trusted authority.
    Authority,
    /// `verify-full`: the signature and the host name.
    Full,
}

impl FromStr for DatabaseUrl {
    type Err = String;

    /// Parses a URL. An error contains no part of the URL that could be a password.
    fn from_str(text: &str) -> Result<Self, String> {
        // A password may contain a `?`: like the driver, look for options only after the host.
        let host = text.find('@').unwrap_or(0);
        let options = text[host..].find('?').map_or(text.len(), |at| host + at);
        let (base, query) = (&text[..options], text[options..].trim_start_matches('?'));
        let (mut passed_on, mut mode) = (Vec::new(), None);
        let (mut roots, mut certificate, mut key) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| "the value of an option is not UTF-8".to_owned())?
                .into_owned();
            match name {
                "sslmode" => mode = Some(value),
                // libpq's name for the system's authorities.
                "sslrootcert" => roots = (value != "system").then(|| PathBuf::from(value)),
                "sslcert" => certificate = Some(PathBuf::from(value)),
                "sslkey" => key = Some(PathBuf::from(value)),
                _ => passed_on.push(pair),
            }
        }
        let client = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err("`sslcert` and `sslkey` must be set together".to_owned()),
        };
        let (ssl_mode, verify) = match mode.as_deref() {
            None | Some("prefer") => (SslMode::Prefer, Verify::Nothing),
            Some("disable") => (SslMode::Disable, Verify::Nothing),
            // As in libpq: if authorities are named, they are verified.
            Some("require") if roots.is_some() => (SslMode::Require, Verify::Authority),
            Some("require") => (SslMode::Require, Verify::Nothing),
            Some("verify-ca") => (SslMode::Require, Verify::Authority),
            Some("verify-full") => (SslMode::Require, Verify::Full),
            Some(_) => {
                let expected =
                    "`sslmode` must be disable, prefer, require, verify-ca or verify-full";
                return Err(expected.to_owned());
            }
        };
        let rest = format!("{base}?{}", passed_on.join("&"));
        let mut config = Config::from_str(rest.trim_end_matches('?')).map_err(|error| {
            // The driver's error names the invalid part and does not quote it.
            std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("the host is missing".to_owned());
        }
        config.ssl_mode(ssl_mode).keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE);
        if config.get_application_name().is_none() {
            config.application_name("vaultsync");
        }
        Ok(Self { config, tls: TlsMode { verify, roots, client } })
    }
}

/// Host, port and name.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let hosts: Vec<_> = if self.config.get_hosts().is_empty() {
            self.config.get_hostaddrs().iter().map(ToString::to_string).collect()
        } else {
            hosts.collect()
        };
        let ports = self.config.get_ports();
        for (index, host) in hosts.iter().enumerate() {
            let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
            write!(f, "{}{host}:{port}", if index == 0 { "" } else { "," })?;
        }
        match self.config.get_dbname() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_url_prints_without_user_and_password() {
        for (text, shown) in [
            ("postgres://me:secret@db.example/notes", "postgres://db.example:5432/notes"),
            ("postgresql://me:secret@10.0.0.1:6543/n?x", "postgres://10.0.0.1:6543/n"),
            ("postgres://me:s@[::1]:1/n", "postgres://[::1]:1/n"),
            ("postgres://a:1,b:2/n", "postgres://a:1,b:2/n"),
            ("postgres://me@%2Frun%2Fpg/n", "postgres:///run/pg:5432/n"),
        ] {
            let text = text.trim_end_matches("?x");
            assert_eq!(url(text).to_string(), shown);
            assert!(!format!("{:?}", url(text)).contains("secret"));
        }
    }

    #[test]
    fn sslmode_has_the_meaning_of_libpq() {
        for (query, mode, verify) in [
            ("", SslMode::Prefer, Verify::Nothing),
            ("?sslmode=disable", SslMode::Disable, Verify::Nothing),
            ("?sslmode=require", SslMode::Require, Verify::Nothing),
            ("?sslmode=require&sslrootcert=/a.pem", SslMode::Require, Verify::Authority),
            ("?sslrootcert=system&sslmode=verify-ca", SslMode::Require, Verify::Authority),
            ("?sslmode=verify-full&connect_timeout=3", SslMode::Require, Verify::Full),
        ] {
            let url = url(&format!("postgres://h/n{query}"));
            assert_eq!((url.config.get_ssl_mode(), url.tls.verify), (mode, verify), "{query}");
        }
        let odd = url("postgres://u:se?cret@h/n?sslmode=verify-full&connect_timeout=3");
        assert_eq!((odd.config.get_ssl_mode(), odd.tls.verify), (SslMode::Require, Verify::Full));
        assert_eq!(odd.config.get_password(), Some(&b"se?cret"[..]));
        let url = url("postgres://h/n?sslrootcert=%2Fa%20b.pem&sslmode=verify-full");
        assert_eq!(url.tls.roots, Some(PathBuf::from("/a b.pem")));
    }

    #[test]
    fn a_parse_error_does_not_contain_the_password() {
        for (text, reason) in [
            ("postgres://me:secret@h/n?sslmode=maybe", "sslmode"),
            ("postgres://me:pa?secret=1@h/n?sslmode=maybe", "sslmode"),
            ("postgres://me:pa?secret=%ff@h/n?sslmode=%ff", "not UTF-8"),
            ("postgres://me:secret@h/n?sslcert=a", "sslkey"),
            ("postgres://me:secret@h:port/n", "port"),
            ("postgres://me:secret@h/n?colour=blue", "colour"),
            ("postgres:///n", "host"),
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
