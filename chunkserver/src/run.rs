//! The process: opens what it keeps, serves, runs the loops, ends in order.

use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::Clock;

/// Where time, randomness and connections come from, and when to end.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Time.
    pub clock: Clock,
    /// Random numbers.
    pub random: Random,
    /// Connections.
    pub network: Network,
    /// Ends the process in order.
    pub shutdown: Shutdown,
}

/// A chunkserver could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
}
