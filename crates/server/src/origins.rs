//! Web origins whose pages may call, and the warning about pages that may not.
//!
//! A browser hides the response from a page of an origin that is not listed, and sends no push for it
//! after a refused preflight. The app then sees only "network error", so the log and the preflight's
//! response name the setting.
//!
//! Not here: the CORS headers (`layers`).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, header};

use crate::{error::ApiError, log_limit::LogLimit, quoted::quoted};

/// Minimum time between two warnings. Anyone can send any origin.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// The origin of a page that has none of its own: a file, or a sandboxed frame.
const OPAQUE: &str = "null";

/// The configured origins.
#[derive(Debug)]
pub(crate) struct Origins {
    listed: Vec<HeaderValue>,
    warnings: LogLimit,
}

impl Origins {
    pub(crate) fn new(listed: Vec<HeaderValue>) -> Self {
        Self { listed, warnings: LogLimit::every(WARNING_INTERVAL) }
    }

    /// The origins whose pages may call; none if CORS is off.
    pub(crate) fn listed(&self) -> &[HeaderValue] {
        &self.listed
    }

    /// Logs a request of a page that may not call. Returns the error if it is a preflight; any other
    /// request is answered, because only the browser enforces this.
    pub(crate) fn refuse(
        &self,
        method: &Method,
        headers: &HeaderMap,
        uptime: Duration,
    ) -> Option<ApiError> {
        let origin = headers.get(header::ORIGIN)?;
        if self.listed.contains(origin) || is_same_origin(origin, headers) {
            return None;
        }
        let shown = quoted(&String::from_utf8_lossy(origin.as_bytes()));
        self.warn(origin, &shown, uptime);
        let is_preflight = method == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let error =
            if self.listed.is_empty() { ApiError::CorsIsOff } else { ApiError::OriginNotListed };
        is_preflight.then(|| error(shown))
    }

    fn warn(&self, origin: &HeaderValue, shown: &str, uptime: Duration) {
        let Some(requests) = self.warnings.count(uptime) else { return };
        if origin == OPAQUE {
            tracing::warn!(
                origin = shown,
                requests,
                "a page without an origin of its own called the API, and its browser hides the \
                 responses from it: serve the page from a web server, and add the origin of that \
                 server to cors_origins (VAULTSYNC_CORS_ORIGINS)"
            );
        } else {
            tracing::warn!(
                origin = shown,
                requests,
                "a page of this web origin called the API, and its browser hides the responses from \
                 it: if the page is yours, add the origin to cors_origins (VAULTSYNC_CORS_ORIGINS)"
            );
        }
    }
}

/// Whether the page was loaded from this server. A browser names the origin of such a page too when it
/// sends a POST. A proxy may have replaced `Host`, but passes on what the browser says about the site.
fn is_same_origin(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin") {
        return true;
    }
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    authority.is_some_and(|(_, authority)| Some(authority.as_bytes()) == host)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    const APP: &str = "https://app.example";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        /// Runs `work`, and returns the lines that it logs.
        fn of(work: impl FnOnce()) -> Vec<String> {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, work);
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_page_of_this_server_or_of_a_listed_origin_is_not_refused() {
        let origins = Origins::new(vec![HeaderValue::from_static(APP)]);
        for (pairs, is_refused) in [
            (vec![("origin", APP)], false),
            (vec![], false),
            (vec![("origin", "https://sync.example"), ("host", "sync.example")], false),
            (vec![("origin", "http://127.0.0.1:8787"), ("host", "127.0.0.1:8787")], false),
            (vec![("origin", "https://b.example"), ("sec-fetch-site", "same-origin")], false),
            (vec![("origin", "https://b.example"), ("sec-fetch-site", "same-site")], true),
            (vec![("origin", "https://b.example"), ("host", "app.example")], true),
            (vec![("origin", "http://app.example")], true),
            (vec![("origin", "https://app.example:8443"), ("host", "app.example")], true),
            (vec![("origin", "null"), ("host", "null")], true),
            (vec![("origin", ""), ("host", "")], true),
        ] {
            let mut headers = headers(&pairs);
            headers.insert("access-control-request-method", HeaderValue::from_static("POST"));
            let refused = origins.refuse(&Method::OPTIONS, &headers, Duration::ZERO);
            assert_eq!(refused.is_some(), is_refused, "{pairs:?}");
            assert!(origins.refuse(&Method::POST, &headers, Duration::ZERO).is_none());
        }
    }

    #[test]
    fn a_refused_origin_is_logged_once_a_minute_with_the_setting() {
        let origins = Origins::new(Vec::new());
        let refuse = |origin: &str, millis: u64| {
            let headers = headers(&[("origin", origin)]);
            origins.refuse(&Method::GET, &headers, Duration::from_millis(millis));
        };
        let lines = Log::of(|| {
            for millis in [0, 1, 59_999] {
                refuse(APP, millis);
            }
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains(APP), "{lines:?}");
        assert!(lines[0].contains("cors_origins (VAULTSYNC_CORS_ORIGINS)"), "{lines:?}");
        let lines = Log::of(|| {
            refuse("null", 60_000);
            refuse(APP, 119_999);
            refuse(&format!("https://{}", "a".repeat(1000)), 120_000);
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("without an origin of its own"), "{lines:?}");
        assert!(lines[1].len() < 700, "{lines:?}");
    }
}
