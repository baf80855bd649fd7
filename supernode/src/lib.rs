//! A supernode: one member of the names group, which knows users, paths and where every version is.
//!
//! **Owns**: users and their tokens, buckets, directories, the path of every version, quotas, the registry of clusters,
//! the choice of a cluster for a new file, trash and release.
//!
//! **Never knows**: chunks, nodes' disks, or a single byte of a file. Bulk data never passes through here.
//!
//! Read [`store`] first (what is kept and which commands change it), then `core/` (what is decided), then `api/`.

#![allow(dead_code, reason = "the requests that use the tables are added next")]

mod core;
pub mod store;

pub use core::refusal::Refusal;
