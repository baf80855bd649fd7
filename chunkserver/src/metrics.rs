//! Names and descriptions of what a chunkserver counts in its file layer. The data plane counts for itself
//! (`transfer::counters`) and registers with the same registry.

use std::time::Duration;

use common::error::Kind;
use consensus::GroupStatus;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

const REQUESTS: (&str, &str) = (
    "dbfs_control_requests_total",
    "Control requests answered, by method and kind of result.",
);
const RECEIVED: (&str, &str) = (
    "dbfs_control_received_bytes_total",
    "Bytes of control requests, by method.",
);
const SENT: (&str, &str) = (
    "dbfs_control_sent_bytes_total",
    "Bytes of control replies, by method.",
);
const SECONDS: (&str, &str) = (
    "dbfs_control_request_seconds",
    "Time to answer a control request, by method.",
);
const PLANNED: (&str, &str) = ("dbfs_chunks_planned_total", "Chunk attempts planned.");
const SEALED: (&str, &str) = ("dbfs_versions_sealed_total", "Versions sealed.");
const OUTCOMES: (&str, &str) = ("dbfs_versions_decided_total", "Outcomes recorded, by outcome.");
const PUBLISH_SECONDS: (&str, &str) = (
    "dbfs_publish_seconds",
    "Time of one batch from the names layer's view to the log.",
);
const PUBLISH_BATCH: (&str, &str) = ("dbfs_publish_batch_versions", "Versions in one publication.");
const ABANDONED: (&str, &str) = ("dbfs_uploads_abandoned_total", "Uploads abandoned.");
const RECLAIMED: (&str, &str) = ("dbfs_chunks_reclaimed_total", "Chunks moved by reclaim, by step.");
const ORPHANS: (&str, &str) = (
    "dbfs_orphans_found_total",
    "Stored attempts found dead by inventories.",
);
const LEADS: (&str, &str) = ("dbfs_cluster_leads", "1 while this node leads its cluster.");
const WAL_BYTES: (&str, &str) = (
    "dbfs_cluster_wal_bytes",
    "Length of the write-ahead log of the group's state machine.",
);
const READS_HELD: (&str, &str) = (
    "dbfs_cluster_reads_held",
    "How often queries waited so that the write-ahead log could begin anew, since the start.",
);
const MOVES: (&str, &str) = ("dbfs_node_moves_total", "Nodes moved by the leader, by move.");

/// A cloneable handle; counting costs one atomic addition or two.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    seconds: HistogramVec,
    pub(crate) planned: IntCounter,
    pub(crate) sealed: IntCounter,
    pub(crate) outcomes: IntCounterVec,
    pub(crate) publish_seconds: Histogram,
    pub(crate) publish_batch: Histogram,
    pub(crate) abandoned: IntCounter,
    pub(crate) reclaimed: IntCounterVec,
    pub(crate) orphans: IntCounter,
    pub(crate) leads: IntGauge,
    wal_bytes: IntGauge,
    reads_held: IntGauge,
    pub(crate) moves: IntCounterVec,
}

impl Metrics {
    /// Counters at zero, registered with `registry`.
    ///
    /// # Errors
    /// A name is taken there.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vector = |(name, help): (&str, &str), label: &[&str]| {
            let vector = IntCounterVec::new(Opts::new(name, help), label)?;
            registry.register(Box::new(vector.clone()))?;
            Ok::<_, prometheus::Error>(vector)
        };
        let counter = |(name, help): (&str, &str)| {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |(name, help): (&str, &str), buckets: Vec<f64>| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new(SECONDS.0, SECONDS.1).buckets(latency_buckets()?),
            &["method"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let gauge = |(name, help): (&str, &str)| {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            requests: vector(REQUESTS, &["method", "kind"])?,
            received: vector(RECEIVED, &["method"])?,
            sent: vector(SENT, &["method"])?,
            planned: counter(PLANNED)?,
            sealed: counter(SEALED)?,
            outcomes: vector(OUTCOMES, &["outcome"])?,
            publish_seconds: histogram(PUBLISH_SECONDS, latency_buckets()?)?,
            publish_batch: histogram(PUBLISH_BATCH, prometheus::exponential_buckets(1.0, 4.0, 6)?)?,
            abandoned: counter(ABANDONED)?,
            reclaimed: vector(RECLAIMED, &["step"])?,
            orphans: counter(ORPHANS)?,
            moves: vector(MOVES, &["move"])?,
            seconds,
            leads: gauge(LEADS)?,
            wal_bytes: gauge(WAL_BYTES)?,
            reads_held: gauge(READS_HELD)?,
            registry: registry.clone(),
        })
    }

    /// Takes in how the group of this node stands.
    pub(crate) fn group(&self, status: &GroupStatus) {
        let shown = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.wal_bytes.set(shown(status.wal_bytes));
        self.reads_held.set(shown(status.reads_held));
    }

    /// Where other parts of the process register what they count.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts one control request.
    pub(crate) fn request(
        &self,
        method: &str,
        received_bytes: usize,
        outcome: Result<usize, Kind>,
        took: Duration,
    ) {
        let kind = outcome
            .err()
            .map_or_else(|| "Ok".to_owned(), |kind| kind.to_string());
        self.requests.with_label_values(&[method, &kind]).inc();
        self.received
            .with_label_values(&[method])
            .inc_by(received_bytes as u64);
        self.sent
            .with_label_values(&[method])
            .inc_by(outcome.unwrap_or(0) as u64);
        self.seconds
            .with_label_values(&[method])
            .observe(took.as_secs_f64());
    }
}

/// 0.5 ms to 16 s.
fn latency_buckets() -> Result<Vec<f64>, prometheus::Error> {
    prometheus::exponential_buckets(0.0005, 2.0, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_show_up_in_the_text() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.request("Seal", 100, Ok(20), Duration::from_millis(3));
        metrics.request("Seal", 50, Err(Kind::Busy), Duration::from_millis(1));
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "dbfs_control_requests_total{kind=\"Busy\",method=\"Seal\"} 1",
            "dbfs_control_received_bytes_total{method=\"Seal\"} 150",
            "dbfs_control_sent_bytes_total{method=\"Seal\"} 20",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
