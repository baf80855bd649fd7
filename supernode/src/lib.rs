//! A supernode: one member of the names group, which knows users, paths and where every version is.
//!
//! **Owns**: users and their tokens, buckets, directories, the path of every version, quotas, the registry of clusters,
//! the choice of a cluster for a new file, trash and release.
//!
//! **Never knows**: chunks, nodes' disks, or a single byte of a file. Bulk data never passes through here.
//!
//! Read `store/` first (what is kept and which commands change it), then `core/` (what is decided), then `api/` (what
//! callers ask) and `background/` (what happens by itself). [`run`] puts them together.

#![allow(
    clippy::result_large_err,
    reason = "an error toward a caller is made once per failed request"
)]

mod core;
mod store;

mod api;
mod background;

mod admission;
mod arrow;
mod board;
mod context;
mod growth;
mod keyring;
mod open_sessions;
mod passwords;

pub mod config;
pub mod metrics;

mod run;

pub use config::Config;
pub use run::{Error, Seams, run};
