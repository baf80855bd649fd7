//! The client's journeys against servers in this process that do wrong what each test asks for.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::result_large_err,
    reason = "tests"
)]

extern crate dbfs_client as client;

mod commands;
mod contract;
mod download;
mod fake;
mod names;
mod resume;
mod sinks;
mod sources;
mod targets;
mod upload;

use common::ids::Digest;
use common::path::RemotePath;

fn path(text: &str) -> RemotePath {
    text.parse().unwrap()
}

/// Bytes that repeat nowhere within a file of test length.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let random = common::random::Random::seeded(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(*blake3::hash(bytes).as_bytes())
}
