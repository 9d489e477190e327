//! What every request works with.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderValue;
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use vaultsync_store::Store;

use crate::{
    Clock, Limits, auth::Authenticator, memory_budget::MemoryBudget, observe::RequestMetrics,
    overload::OverloadDetector, rates::Rates, record_hash::RecordHash,
};

/// What a server is made of.
pub struct Parts {
    /// Where records are kept.
    pub store: Store,
    /// Who recognises callers.
    pub authenticator: Authenticator,
    /// The bounds.
    pub limits: Limits,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Origins whose pages may call; none turns cross-origin calls off.
    pub cors_origins: Vec<HeaderValue>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Hides record ids in logs: the same for one deployment, unknown to others.
    pub log_key: [u8; 32],
    /// Where `/metrics` reads from.
    pub metrics: PrometheusHandle,
    /// When cancelled, waiting pulls are answered and no connection is taken.
    pub stop: CancellationToken,
}

/// [`Parts`], and what the server keeps account of. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// See [`App`].
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) authenticator: Authenticator,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cors_origins: Vec<HeaderValue>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) record_hash: RecordHash,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) stop: CancellationToken,
    pub(crate) memory: MemoryBudget,
    pub(crate) rates: Rates,
    pub(crate) overload: OverloadDetector,
    pub(crate) request_metrics: RequestMetrics,
}

impl App {
    /// Puts a server together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            memory: MemoryBudget::new(&parts.limits),
            rates: Rates::new(&parts.limits),
            overload: OverloadDetector::default(),
            request_metrics: RequestMetrics::default(),
            record_hash: RecordHash::new(&parts.log_key),
            store: parts.store,
            authenticator: parts.authenticator,
            limits: parts.limits,
            clock: parts.clock,
            cors_origins: parts.cors_origins,
            trusted_proxies: parts.trusted_proxies,
            metrics: parts.metrics,
            stop: parts.stop,
        }))
    }

    /// Finishes what the store has begun and closes it.
    pub async fn close(&self) {
        self.0.store.close().await;
    }

    /// Forgets, every minute until the server stops, what rate limits no longer need to know.
    pub async fn tidy(self) {
        while self.stop.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_some() {
            self.rates.remove_idle();
            self.metrics.run_upkeep();
        }
    }

    /// Watches, until the server stops, whether it keeps up with what comes; where nobody does,
    /// nothing is refused for it.
    pub async fn watch(self) {
        self.stop.run_until_cancelled(self.overload.watch(&*self.clock)).await;
        self.overload.reset();
    }
}

const TIDY_EVERY: Duration = Duration::from_mins(1);

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("store", &self.store).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Parts {
    /// A server of its own, with nobody to sign in.
    pub(crate) fn in_folder(folder: &std::path::Path) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(crate::SystemClock::start());
        let limits = Limits::default();
        let options = vaultsync_store::StoreOptions {
            page_bytes_max: limits.page_bytes_max,
            new_epoch: || vaultsync_protocol::Epoch::new(uuid::Uuid::new_v4()),
        };
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        Self {
            store: Store::open_sqlite(folder.join("test.sqlite3"), options).unwrap(),
            authenticator: Authenticator::new(vec![], limits.token_bytes_max, clock.clone()),
            limits,
            clock,
            cors_origins: vec![],
            trusted_proxies: vec![],
            log_key: [0; 32],
            metrics: recorder.handle(),
            stop: CancellationToken::new(),
        }
    }
}
