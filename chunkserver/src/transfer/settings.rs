//! The `data_plane` section of the configuration.

use std::time::Duration;

use common::units::{ByteCount, Span};
use serde::{Deserialize, Serialize};

/// Bounds and deadlines of the data plane (P10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataPlaneSettings {
    /// Connections of clients; more are told to come back.
    pub client_connections_max: u32,
    /// Connections of nodes of the cluster, counted apart so that no crowd of clients keeps the nodes from each other.
    pub peer_connections_max: u32,
    /// TLS handshakes under way; further connections wait in the kernel.
    pub handshakes_max: u32,
    /// How long TLS and the hello may take together.
    pub handshake_timeout: Span,
    /// A connection without a request is closed after so long.
    pub idle_timeout: Span,
    /// A connection on which nothing moves for so long, while blocks are due or an answer is to be taken, is ended.
    pub progress_timeout: Span,
    /// How often a node says that payload arrives, or that a request waits for its turn.
    pub progress_period: Span,
    /// A put or a get may take this long, and beyond it as long as its bytes need at `bytes_per_second_min`.
    pub transfer_grace: Span,
    /// A put or a get that is slower on the average is ended: it would hold memory that others need.
    pub bytes_per_second_min: ByteCount,
    /// How long a disk may take for one step of a put, and from its last byte to the receipt; a disk that takes longer
    /// hangs, and the put ends.
    pub finish_timeout: Span,
    /// Requests under way on one connection.
    pub requests_per_connection_max: u32,
    /// Memory for bytes being received: half for clients, half for other nodes, so that two nodes which forward to each
    /// other never wait for each other.
    pub write_in_flight_bytes_max: ByteCount,
    /// Buffers of 1 MiB that one large put may hold.
    pub put_buffers_max: u32,
    /// What one principal may hold of the memory for puts, and of the places for gets, in percent.
    pub principal_share_percent: u32,
    /// How long a put or a get waits for its turn before it is told to come back. Its client hears meanwhile that it
    /// waits.
    pub admission_wait_max: Span,
    /// What a client that was told to come back should wait.
    pub busy_retry_after: Span,
    /// Gets under way; more wait for their turn.
    pub gets_in_flight_max: u32,
    /// Connections from this node to others of its cluster.
    pub delegate_connections_max: u32,
}

impl Default for DataPlaneSettings {
    fn default() -> Self {
        Self {
            client_connections_max: 512,
            peer_connections_max: 256,
            handshakes_max: 64,
            handshake_timeout: Span::seconds(5),
            idle_timeout: Span::seconds(90),
            progress_timeout: Span::seconds(30),
            progress_period: Span::seconds(1),
            transfer_grace: Span::seconds(60),
            bytes_per_second_min: ByteCount::new(2 << 10),
            finish_timeout: Span::seconds(15),
            requests_per_connection_max: 512,
            write_in_flight_bytes_max: ByteCount::mib(128),
            put_buffers_max: 3,
            principal_share_percent: 75,
            admission_wait_max: Span::seconds(30),
            busy_retry_after: Span::millis(200),
            gets_in_flight_max: 128,
            delegate_connections_max: 128,
        }
    }
}

impl DataPlaneSettings {
    /// How long a put or a get of `bytes` may take.
    pub(crate) fn allowance(&self, bytes: u64) -> Duration {
        let rate = self.bytes_per_second_min.get().max(1);
        self.transfer_grace.get() + Duration::from_millis(bytes.saturating_mul(1000) / rate)
    }

    /// What one principal may hold of `all`.
    pub(crate) fn share_of(&self, all: u64) -> u64 {
        (all.saturating_mul(u64::from(self.principal_share_percent)) / 100).max(1)
    }

    /// Checks what the types cannot; the error names the key and says what to write.
    ///
    /// # Errors
    /// The first key that does not fit.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let counts = [
            ("client_connections_max", self.client_connections_max),
            ("peer_connections_max", self.peer_connections_max),
            ("handshakes_max", self.handshakes_max),
            ("requests_per_connection_max", self.requests_per_connection_max),
            ("put_buffers_max", self.put_buffers_max),
            ("gets_in_flight_max", self.gets_in_flight_max),
            ("delegate_connections_max", self.delegate_connections_max),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err((key, "must be at least 1"));
        }
        let spans = [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            ("progress_timeout", self.progress_timeout),
            ("progress_period", self.progress_period),
            ("transfer_grace", self.transfer_grace),
            ("finish_timeout", self.finish_timeout),
        ];
        if let Some((key, _)) = spans.into_iter().find(|(_, span)| span.get().is_zero()) {
            return Err((key, "must not be zero"));
        }
        if self.bytes_per_second_min == ByteCount::new(0) {
            return Err(("bytes_per_second_min", "must not be zero"));
        }
        if !(1..=100).contains(&self.principal_share_percent) {
            return Err(("principal_share_percent", "must be 1 to 100"));
        }
        let window = u64::from(self.put_buffers_max).saturating_mul(2 << 20);
        if self.write_in_flight_bytes_max.get() / 2 < window {
            return Err((
                "write_in_flight_bytes_max",
                "must be at least 4 MiB for each of put_buffers_max",
            ));
        }
        Ok(())
    }
}
