//! The application state that every request shares.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::HeaderValue;
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use vaultsync_store::Store;
use vaultsync_tasks::{Task, Tasks};

use crate::{
    Clock, Limits, auth::Authenticator, log_limit::LogLimit, memory_budget::MemoryBudget,
    origins::Origins, overload::OverloadDetector, rates::Rates, readiness::Readiness,
    record_hash::RecordHash, request_metrics::RequestMetrics,
};

/// What a server is built from.
pub struct Parts {
    /// Storage of records.
    pub store: Store,
    /// Verifies the tokens of callers.
    pub authenticator: Authenticator,
    /// Bounds on requests, users and the process.
    pub limits: Limits,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
    /// Origins whose pages may call; an empty list disables CORS.
    pub cors_origins: Vec<HeaderValue>,
    /// Page that documents the codes of errors, without a fragment. Errors link to it.
    pub docs_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Key that hides record ids in logs: constant within a deployment and secret.
    pub log_key: [u8; 32],
    /// Source of the numbers at `/metrics`.
    pub metrics: PrometheusHandle,
    /// Stops the server when cancelled: waiting pulls end and no connection is accepted.
    pub stop: CancellationToken,
}

/// [`Parts`], and the state that the server derives from them. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// Fields of [`App`].
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) authenticator: Authenticator,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) origins: Origins,
    pub(crate) docs_url: Option<String>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) record_hash: RecordHash,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) stop: CancellationToken,
    /// Whether the server will stop when its drain delay has passed.
    is_draining: AtomicBool,
    pub(crate) memory: MemoryBudget,
    pub(crate) rates: Rates,
    pub(crate) overload: OverloadDetector,
    pub(crate) busy_warnings: LogLimit,
    pub(crate) readiness: Readiness,
    pub(crate) request_metrics: RequestMetrics,
    /// Notified when a vault was erased, whose rows are then removed.
    pub(crate) erased: Notify,
}

impl App {
    /// Builds the state of a server.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            memory: MemoryBudget::new(&parts.limits),
            rates: Rates::new(&parts.limits, Arc::clone(&parts.clock)),
            overload: OverloadDetector::default(),
            busy_warnings: LogLimit::default(),
            readiness: Readiness::default(),
            request_metrics: RequestMetrics::default(),
            erased: Notify::new(),
            record_hash: RecordHash::new(&parts.log_key),
            store: parts.store,
            authenticator: parts.authenticator,
            limits: parts.limits,
            clock: parts.clock,
            origins: Origins::new(parts.cors_origins),
            docs_url: parts.docs_url,
            trusted_proxies: parts.trusted_proxies,
            metrics: parts.metrics,
            stop: parts.stop,
            is_draining: AtomicBool::new(false),
        }))
    }

    /// Closes the store once its pending writes are finished.
    pub async fn close(&self) {
        self.0.store.close().await;
    }

    /// Stops the server. During the drain delay, `/readyz` reports that, and everything else is served as
    /// before: a load balancer needs some time to notice and to choose other nodes.
    pub async fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        let delay = self.limits.drain_delay_seconds;
        if !delay.is_zero() {
            tracing::info!(?delay, "stopping after the drain delay: not ready, but still serving");
            tokio::time::sleep(delay).await;
        }
        self.stop.cancel();
        tracing::info!("stopping: waiting for requests in flight");
    }

    /// Whether the server stops, or will when its drain delay has passed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed) || self.stop.is_cancelled()
    }

    /// The long-lived tasks of this server and its store.
    pub fn tasks(&self) -> &Tasks {
        self.store.tasks()
    }

    /// Starts the server's own long-lived tasks. They end when the server stops, or when they are dropped.
    /// Unless they run, no request is refused because of overload.
    #[must_use = "the tasks end when they are dropped"]
    pub fn start_tasks(&self) -> [Task; 4] {
        let (tidied, watched) = (self.clone(), self.clone());
        let (erased, collected) = (self.clone(), self.clone());
        [
            self.tasks().spawn("erasures", move || erased.clone().finish_erasures()),
            self.tasks().spawn("gc", move || collected.clone().collect_garbage()),
            self.tasks().spawn("housekeeping", move || tidied.clone().tidy()),
            self.tasks().spawn("overload-detection", move || watched.clone().watch()),
        ]
    }

    /// Removes expired state of rate limits and metrics, every minute until the server stops.
    async fn tidy(self) {
        while self.stop.run_until_cancelled(tokio::time::sleep(TIDY_INTERVAL)).await.is_some() {
            self.rates.remove_idle();
            self.metrics.run_upkeep();
        }
    }

    /// Measures the server's lag until the server stops.
    async fn watch(self) {
        self.stop.run_until_cancelled(self.overload.watch(&*self.clock)).await;
    }
}

/// Interval of [`App::tidy`].
const TIDY_INTERVAL: Duration = Duration::from_mins(1);

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
    /// A private server without issuers, so that no token is valid. Its database is in `folder`.
    pub(crate) fn in_folder(folder: &std::path::Path) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(crate::SystemClock::start());
        let limits = Limits::default();
        let options = limits.store_options(|| vaultsync_protocol::Epoch::new(uuid::Uuid::new_v4()));
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        Self {
            store: Store::open_sqlite(folder.join("test.sqlite3"), options).unwrap(),
            authenticator: Authenticator::new(vec![], limits.token_bytes_max, clock.clone()),
            limits,
            clock,
            cors_origins: vec![],
            docs_url: None,
            trusted_proxies: vec![],
            log_key: [0; 32],
            metrics: recorder.handle(),
            stop: CancellationToken::new(),
        }
    }
}
