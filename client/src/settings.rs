//! What a client is told at its start.

use std::time::Duration;

use common::net::Network;
use common::random::Random;
use common::time::Clock;
use common::units::ByteCount;

/// How to reach an installation, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// Control addresses (`host:port`) of supernodes. Any one that answers is enough; it names the others.
    pub supernodes: Vec<String>,
    /// The installation's CA certificate, PEM. Nobody else is trusted.
    pub ca_pem: String,
    /// The token of an earlier login; `None` to log in first.
    pub token: Option<String>,
    /// Program and version, for the servers' logs.
    pub agent: String,
    /// Where time, randomness and connections come from.
    pub seams: Seams,
    /// What the client may use at most.
    pub limits: Limits,
}

impl Settings {
    /// Settings with the machine's seams, default limits and no token.
    pub fn new(supernodes: Vec<String>, ca_pem: impl Into<String>) -> Self {
        Self {
            supernodes,
            ca_pem: ca_pem.into(),
            token: None,
            agent: concat!("dbfs-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            seams: Seams::real(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret and stays out of logs.
        f.debug_struct("Settings")
            .field("supernodes", &self.supernodes)
            .field("agent", &self.agent)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Where time, randomness and connections come from.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Time.
    pub clock: Clock,
    /// Randomness: idempotency keys, jitter, choice of copies.
    pub random: Random,
    /// Connections.
    pub network: Network,
}

impl Seams {
    /// The machine's own.
    pub fn real() -> Self {
        Self {
            clock: Clock::real(),
            random: Random::system(),
            network: Network::tcp(None),
        }
    }
}

/// What one client may use at most, all its transfers together where not said otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Chunks of one upload under way at once.
    pub upload_chunks_in_flight_max: usize,
    /// Chunks of one upload from a stream that are held in memory until they are acknowledged.
    pub stream_chunks_held_max: usize,
    /// Chunk reads of one download under way at once.
    pub download_chunks_in_flight_max: usize,
    /// Bytes of one download to a writer that are fetched ahead of what was written.
    pub download_window_bytes_max: ByteCount,
    /// Chunk attempts planned ahead of need for one upload.
    pub plans_ahead_max: usize,
    /// Tries at one chunk, over all nodes, before the upload fails.
    pub chunk_tries_max: u32,
    /// A control call that takes longer is tried elsewhere.
    pub call_timeout: Duration,
    /// No further try of a control call begins after so long without an answer, while no transfer of this client has
    /// begun to move bytes. Calls that follow each other share it: a command that meets no quorum ends soon.
    pub give_up_after: Duration,
    /// As `give_up_after`, once a transfer of this client moves bytes, and for servers that are busy.
    pub patient_give_up_after: Duration,
    /// A data connection on which nothing moves for so long has failed, however slow it may be otherwise.
    pub data_stall_timeout: Duration,
    /// How long nodes that are busy are asked again for one chunk of which nothing moves meanwhile.
    pub busy_wait_max: Duration,
    /// How long the outcome of a seal or abort is asked for before it is called unknown.
    pub outcome_wait_max: Duration,
    /// Bytes of files per second, in both directions together; at least [`crate::BYTES_PER_SECOND_MIN`].
    pub bytes_per_second_max: Option<ByteCount>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_chunks_in_flight_max: 4,
            stream_chunks_held_max: 2,
            download_chunks_in_flight_max: 4,
            download_window_bytes_max: ByteCount::mib(32),
            plans_ahead_max: 16,
            chunk_tries_max: 8,
            call_timeout: Duration::from_secs(10),
            give_up_after: Duration::from_secs(7),
            patient_give_up_after: Duration::from_secs(35),
            data_stall_timeout: Duration::from_secs(10),
            busy_wait_max: Duration::from_secs(600),
            outcome_wait_max: Duration::from_secs(60),
            bytes_per_second_max: None,
        }
    }
}
