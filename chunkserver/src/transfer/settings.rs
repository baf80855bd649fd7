//! The `data_plane` section of the configuration.

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
    /// While blocks are due one frame has to arrive within this time, and an answer has to be taken.
    pub progress_timeout: Span,
    /// The longest a put may take, from its begin to its receipt.
    pub put_duration_max: Span,
    /// Requests under way on one connection.
    pub requests_per_connection_max: u32,
    /// Memory for bytes being received: half for clients, half for other nodes, so that two nodes which forward to each
    /// other never wait for each other.
    pub write_in_flight_bytes_max: ByteCount,
    /// Buffers of 1 MiB that one large put may hold.
    pub put_buffers_max: u32,
    /// How long a put waits for its share of that memory before it is told to come back.
    pub admission_wait_max: Span,
    /// What a client that was told to come back should wait.
    pub busy_retry_after: Span,
    /// Gets under way; more are told to come back.
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
            put_duration_max: Span::seconds(1800),
            requests_per_connection_max: 512,
            write_in_flight_bytes_max: ByteCount::mib(128),
            put_buffers_max: 3,
            admission_wait_max: Span::seconds(2),
            busy_retry_after: Span::millis(200),
            gets_in_flight_max: 128,
            delegate_connections_max: 128,
        }
    }
}

impl DataPlaneSettings {
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
            ("put_duration_max", self.put_duration_max),
        ];
        if let Some((key, _)) = spans.into_iter().find(|(_, span)| span.get().is_zero()) {
            return Err((key, "must not be zero"));
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
