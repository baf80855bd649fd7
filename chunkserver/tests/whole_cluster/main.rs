//! Whole chunkservers in one process: real TLS, disks and Raft over loopback, before a names layer in memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test"
)]

mod hush;
mod installation;
#[path = "../../src/cluster/tests/names.rs"]
#[allow(dead_code, reason = "shared with the unit tests, which use more of it")]
mod names;

mod journeys;
