//! The server's metrics: names, units, help and buckets.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
#[cfg(target_os = "linux")]
use metrics_process::Collector;

/// Buckets in seconds, from a response out of memory to the longest deadline.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Buckets in pushes, up to the most that share a commit.
const PUSHES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Installs the recorder of this process, and returns the handle that `/metrics` renders from.
///
/// # Errors
///
/// If the process has a recorder already.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let seconds = Matcher::Full("vaultsync_http_request_seconds".to_owned());
    let pushes = Matcher::Full("vaultsync_store_commit_pushes".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &SECONDS)?
        .set_buckets_for_metric(pushes, &PUSHES)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

/// Updates the gauges that are read only when `/metrics` is rendered.
#[expect(clippy::cast_precision_loss, reason = "no process has that much memory")]
pub(crate) fn sample(reserved_bytes: usize) {
    metrics::gauge!("vaultsync_memory_reserved_bytes").set(reserved_bytes as f64);
    #[cfg(target_os = "linux")]
    Collector::default().collect();
}

/// A guard that counts as one in a gauge until it is dropped.
pub(crate) struct OpenGauge(&'static str);

impl OpenGauge {
    pub(crate) fn connection() -> Self {
        Self::increment("vaultsync_connections_open")
    }

    pub(crate) fn event_stream() -> Self {
        Self::increment("vaultsync_event_streams")
    }

    fn increment(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}

fn describe() {
    // `process_…`: CPU time, memory, file descriptors, threads, start time.
    #[cfg(target_os = "linux")]
    Collector::default().describe();
    describe_counter!("vaultsync_http_requests_total", "HTTP requests that got a response.");
    describe_histogram!(
        "vaultsync_http_request_seconds",
        Unit::Seconds,
        "Time from the headers of a request to the headers of its response, including waits."
    );
    describe_counter!("vaultsync_records_pushed_total", "Operations of applied pushes.");
    describe_counter!("vaultsync_records_pulled_total", "Records returned by pulls.");
    describe_counter!("vaultsync_conflicts_total", "Conflicts returned to pushes.");
    describe_counter!("vaultsync_sign_in_failures_total", "Requests refused at sign-in.");
    describe_gauge!(
        "vaultsync_connections_open",
        "Open connections to the public and the admin address."
    );
    describe_counter!(
        "vaultsync_connections_refused_total",
        "Connections refused because too many were open, or no file descriptor was left."
    );
    describe_gauge!("vaultsync_event_streams", "Open event streams.");
    describe_counter!("vaultsync_events_published_total", "Heads sent on event streams.");
    describe_gauge!(
        "vaultsync_memory_reserved_bytes",
        Unit::Bytes,
        "Memory reserved for bodies in flight. At the limit, requests are refused with 503."
    );
    describe_gauge!("vaultsync_store_queue_pushes", "Pushes waiting for the writer thread.");
    describe_histogram!("vaultsync_store_commit_pushes", "Pushes that shared one commit.");
    describe_gauge!(
        "vaultsync_store_writes_stopped",
        "1 if pushes are refused because the SQLite file is damaged or was replaced, else 0."
    );
    describe_gauge!(
        "vaultsync_store_log_bytes",
        Unit::Bytes,
        "Length of SQLite's write-ahead log. Beyond 64 MiB a reader of another process keeps it growing."
    );
    describe_gauge!("vaultsync_store_connections", "Connections to PostgreSQL.");
    describe_gauge!("vaultsync_store_connections_idle", "Idle connections to PostgreSQL.");
    describe_gauge!("vaultsync_task_running", "Whether a background task is running: 0 or 1.");
    describe_counter!(
        "vaultsync_task_restarts_total",
        "How often a background task was started again after a panic."
    );
    describe_counter!("vaultsync_panics_total", "Panics in any thread or task.");
    describe_counter!(
        "vaultsync_log_lines_lost_total",
        "Log lines that were not written, because standard error is too slow (`queue_full`) or failed \
         (`write_failed`)."
    );
    describe_counter!("vaultsync_hints_published_total", "Vault changes sent to other nodes.");
    describe_counter!("vaultsync_hints_received_total", "Vault changes received from other nodes.");
    describe_counter!("vaultsync_hints_dropped_total", "Vault changes that could not be sent.");
    describe_counter!("vaultsync_hints_malformed_total", "Received messages that were malformed.");
}
