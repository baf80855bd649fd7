//! What a supernode counts. Names are constants with their unit last; the binary serves the registry.

use std::time::Duration;

use common::error::Kind;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Requests answered, by call and outcome (`ok`, or the kind of the error).
pub const REQUESTS_TOTAL: &str = "dbfs_supernode_requests_total";
/// How long requests took, by call, in seconds.
pub const REQUEST_SECONDS: &str = "dbfs_supernode_request_seconds";
/// Bytes of requests as messages, by call.
pub const REQUEST_BYTES_TOTAL: &str = "dbfs_supernode_request_bytes_total";
/// Bytes of replies as messages, by call.
pub const REPLY_BYTES_TOTAL: &str = "dbfs_supernode_reply_bytes_total";
/// Clusters heard from lately, as the leader counts them.
pub const CLUSTERS_HEARD: &str = "dbfs_supernode_clusters_heard";
/// Whether this supernode leads the names group: 1 or 0.
pub const LEADING: &str = "dbfs_supernode_leading";
/// Versions released from the trash by this supernode as leader.
pub const VERSIONS_RELEASED_TOTAL: &str = "dbfs_supernode_versions_released_total";

/// Length of the write-ahead log of the names group's state machine, in bytes.
pub const WAL_BYTES: &str = "dbfs_supernode_wal_bytes";
/// How often queries waited so that the write-ahead log could begin anew, since the start.
pub const READS_HELD: &str = "dbfs_supernode_reads_held";

/// Upper bounds of the buckets of latencies, in seconds.
const SECONDS_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The counters of one supernode.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    request_bytes: IntCounterVec,
    reply_bytes: IntCounterVec,
    /// See [`CLUSTERS_HEARD`].
    pub(crate) clusters_heard: IntGauge,
    /// See [`LEADING`].
    pub(crate) leading: IntGauge,
    /// See [`WAL_BYTES`].
    pub(crate) wal_bytes: IntGauge,
    /// See [`READS_HELD`].
    pub(crate) reads_held: IntGauge,
    /// See [`VERSIONS_RELEASED_TOTAL`].
    pub(crate) versions_released: IntCounter,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// They are registered already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(REQUESTS_TOTAL, "requests answered, by call and outcome"),
                &["call", "outcome"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(REQUEST_SECONDS, "how long requests took, in seconds")
                    .buckets(SECONDS_BUCKETS.to_vec()),
                &["call"],
            )?,
            request_bytes: IntCounterVec::new(
                Opts::new(REQUEST_BYTES_TOTAL, "bytes of requests as messages"),
                &["call"],
            )?,
            reply_bytes: IntCounterVec::new(
                Opts::new(REPLY_BYTES_TOTAL, "bytes of replies as messages"),
                &["call"],
            )?,
            clusters_heard: IntGauge::new(CLUSTERS_HEARD, "clusters heard from lately")?,
            leading: IntGauge::new(LEADING, "whether this supernode leads the names group")?,
            wal_bytes: IntGauge::new(WAL_BYTES, "length of the state machine's write-ahead log")?,
            reads_held: IntGauge::new(READS_HELD, "how often queries waited for the write-ahead log")?,
            versions_released: IntCounter::new(VERSIONS_RELEASED_TOTAL, "versions released from the trash")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.request_bytes.clone()))?;
        registry.register(Box::new(metrics.reply_bytes.clone()))?;
        registry.register(Box::new(metrics.clusters_heard.clone()))?;
        registry.register(Box::new(metrics.leading.clone()))?;
        registry.register(Box::new(metrics.wal_bytes.clone()))?;
        registry.register(Box::new(metrics.reads_held.clone()))?;
        registry.register(Box::new(metrics.versions_released.clone()))?;
        Ok(metrics)
    }

    /// A request of `bytes` came in.
    pub(crate) fn request(&self, call: &str, bytes: usize) {
        self.request_bytes.with_label_values(&[call]).inc_by(bytes as u64);
    }

    /// It was answered with a message of so many bytes, or an error of a kind, after `took`.
    pub(crate) fn reply(&self, call: &str, outcome: Result<usize, Kind>, took: Duration) {
        let word = match outcome {
            Ok(bytes) => {
                self.reply_bytes.with_label_values(&[call]).inc_by(bytes as u64);
                "ok".to_owned()
            }
            Err(kind) => kind.to_string(),
        };
        self.requests.with_label_values(&[call, &word]).inc();
        self.seconds
            .with_label_values(&[call])
            .observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_outcome() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.request("Stat", 10);
        metrics.reply("Stat", Ok(30), Duration::from_millis(3));
        metrics.reply("Stat", Err(Kind::NotFound), Duration::from_millis(1));
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "dbfs_supernode_requests_total{call=\"Stat\",outcome=\"ok\"} 1",
            "dbfs_supernode_requests_total{call=\"Stat\",outcome=\"NotFound\"} 1",
            "dbfs_supernode_reply_bytes_total{call=\"Stat\"} 30",
            "dbfs_supernode_request_seconds_count{call=\"Stat\"} 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(Metrics::new(&registry).is_err());
    }
}
