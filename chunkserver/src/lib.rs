//! A chunkserver: one process per machine of a cluster, which keeps chunks and takes part in the cluster's file layer.
//!
//! **Owns**: the file layer of one cluster (manifests, replicas, nodes, clean-up), the chunk store on this machine's
//! disks, the bulk data plane between clients and disks, and the process around them ([`run`]).
//!
//! **Never knows**: paths, users, quotas. It sees tickets which the names layer signed, and version numbers.
//!
//! Read [`cluster`] first (what a cluster decides), then [`store`] (how bytes are kept), then [`write_path`].

pub mod cluster;

pub mod store;

pub mod read_path;
pub mod transfer;
pub mod write_path;

pub mod control;

pub mod config;
pub mod metrics;

mod credentials;
mod reserve;
mod run;

pub use config::Config;
pub use run::{Error, Seams, run};
