//! Words and small seams that every other crate speaks.
//!
//! **Owns**: identifiers and units, the kinds an error can have, the seams through which time, randomness, disk and
//! network enter (so that a whole installation can run in one deterministic simulation), TLS material, configuration
//! loading, fail points, telemetry set-up.
//!
//! **Never knows**: what a file, a chunk or a cluster does with them. Nothing here makes a decision.
//!
//! Read [`ids`] first, then [`error`], then [`time`].

pub mod ids;
pub mod units;

pub mod digest;
pub mod glob;
pub mod path;

pub mod error;
pub mod lifecycle;

pub mod checksum;
pub mod random;
pub mod time;

pub mod address;
pub mod disk;
pub mod net;
pub mod tls;

pub mod config;
pub mod fail;
pub mod reload;
pub mod retry;
pub mod shutdown;
pub mod standing;
pub mod telemetry;
