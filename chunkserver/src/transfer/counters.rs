//! What the data plane counts. Read by the heartbeat (in-flight bytes), by `/metrics`, and by tests of traffic.

use common::error::Kind;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// A cloneable handle; counting costs one atomic addition.
#[derive(Clone, Debug)]
pub struct DataPlaneCounters {
    /// Payload received from clients and from primaries, in bytes.
    pub received_bytes: IntCounter,
    /// Payload handed on to delegates, in bytes.
    pub forwarded_bytes: IntCounter,
    /// Payload sent to readers, in bytes.
    pub sent_bytes: IntCounter,
    /// Puts that ended with a receipt.
    pub puts: IntCounter,
    /// Gets that sent all they were asked for.
    pub gets: IntCounter,
    /// Requests that failed, by kind.
    pub failures: IntCounterVec,
    /// Memory promised to puts under way, in bytes.
    pub in_flight_bytes: IntGauge,
    /// Connections, of clients and nodes.
    pub connections: IntGauge,
}

impl DataPlaneCounters {
    /// Counters at zero.
    ///
    /// # Errors
    /// Never: the names are constants; the library checks them at run time.
    pub fn new() -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| IntCounter::with_opts(Opts::new(name, help));
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        Ok(Self {
            received_bytes: counter("dbfs_data_received_bytes_total", "Payload received for storage.")?,
            forwarded_bytes: counter(
                "dbfs_data_forwarded_bytes_total",
                "Payload handed on to delegates.",
            )?,
            sent_bytes: counter("dbfs_data_sent_bytes_total", "Payload sent to readers.")?,
            puts: counter("dbfs_data_puts_total", "Puts that ended with a receipt.")?,
            gets: counter("dbfs_data_gets_total", "Gets that were answered in full.")?,
            failures: IntCounterVec::new(
                Opts::new("dbfs_data_failures_total", "Requests that failed, by kind."),
                &["kind"],
            )?,
            in_flight_bytes: gauge("dbfs_data_in_flight_bytes", "Memory promised to puts under way.")?,
            connections: gauge("dbfs_data_connections", "Connections of clients and nodes.")?,
        })
    }

    /// Makes them part of what `registry` shows.
    ///
    /// # Errors
    /// They are part of it already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        for counter in [
            &self.received_bytes,
            &self.forwarded_bytes,
            &self.sent_bytes,
            &self.puts,
            &self.gets,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        for gauge in [&self.in_flight_bytes, &self.connections] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(self.failures.clone()))
    }

    pub(crate) fn count_failure(&self, kind: Kind) {
        self.failures.with_label_values(&[&kind.to_string()]).inc();
    }
}
