//! The numbers the server keeps, with their names, units and buckets.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
#[cfg(target_os = "linux")]
use metrics_process::Collector;

/// Seconds, from what memory answers to the longest deadline.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Pushes, up to the most that share a commit.
const PUSHES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Makes this process count, once, and says where `/metrics` reads from.
///
/// # Errors
///
/// Where the process counts already.
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

/// Measures what is not counted as it happens: just before `/metrics` reads it.
#[expect(clippy::cast_precision_loss, reason = "no process has that much memory")]
pub(crate) fn measure(memory_bytes: usize) {
    metrics::gauge!("vaultsync_memory_reserved_bytes").set(memory_bytes as f64);
    #[cfg(target_os = "linux")]
    Collector::default().collect();
}

/// Something that a gauge counts for as long as it is open.
pub(crate) struct Open(&'static str);

impl Open {
    pub(crate) fn connection() -> Self {
        Self::count("vaultsync_connections_open")
    }

    pub(crate) fn event_stream() -> Self {
        Self::count("vaultsync_event_streams")
    }

    fn count(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}

fn describe() {
    // `process_…`: processor time, memory, file descriptors, threads, start.
    #[cfg(target_os = "linux")]
    Collector::default().describe();
    describe_counter!("vaultsync_http_requests_total", "Requests answered.");
    describe_histogram!(
        "vaultsync_http_request_seconds",
        Unit::Seconds,
        "From a request's headers to its answer's, waiting for a change included."
    );
    describe_counter!("vaultsync_records_pushed_total", "Operations of pushes that were applied.");
    describe_counter!("vaultsync_records_pulled_total", "Records answered to pulls.");
    describe_counter!("vaultsync_conflicts_total", "Conflicts answered to pushes.");
    describe_counter!("vaultsync_sign_in_failures_total", "Requests turned away at sign-in.");
    describe_gauge!("vaultsync_connections_open", "Connections, those to the admin address too.");
    describe_gauge!("vaultsync_event_streams", "Event streams that are open.");
    describe_counter!("vaultsync_events_published_total", "Heads sent on event streams.");
    describe_gauge!(
        "vaultsync_memory_reserved_bytes",
        Unit::Bytes,
        "Bodies and answers in flight: the more there are, the nearer is a 503."
    );
    describe_gauge!("vaultsync_store_queue_pushes", "Pushes that wait for the writing thread.");
    describe_histogram!("vaultsync_store_commit_pushes", "Pushes that shared a commit.");
    describe_gauge!("vaultsync_store_connections", "Connections to PostgreSQL.");
    describe_gauge!("vaultsync_store_connections_idle", "Those of them that nobody uses.");
    describe_counter!("vaultsync_hints_published_total", "Changes of vaults told to other nodes.");
    describe_counter!("vaultsync_hints_received_total", "Changes of vaults heard of from nodes.");
    describe_counter!("vaultsync_hints_dropped_total", "Changes that nobody could be told of.");
    describe_counter!("vaultsync_hints_malformed_total", "Messages that were no hints.");
}
