//! The client library: everything that a program does with DBFS, and the only way in for the CLI and the gateways.
//!
//! **Owns**: finding and following supernodes and cluster leaders, the client's half of the journeys (upload,
//! download, update, names), verification of every byte in both directions, retries and their budgets.
//!
//! **Never knows**: how the servers decide or store anything. Bulk bytes go only to the data addresses that plans and
//! manifests name, never through a supernode or a leader.
//!
//! Read [`Client`] first, then [`upload`].

mod buffer;
mod client;
mod durable;
mod error;
mod pace;
mod patience;
mod progress;
mod settings;
mod task;
mod throttle;

pub mod download;
pub mod names;
mod routing;
pub mod update;
pub mod upload;

pub mod cli;

pub use client::Client;
pub use error::{BadCopy, Error};
pub use progress::{Progress, ProgressNow};
pub use settings::{Limits, Seams, Settings};
pub use throttle::BYTES_PER_SECOND_MIN;
