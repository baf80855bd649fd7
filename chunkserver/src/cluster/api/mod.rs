//! What others may ask of the file layer: one file per RPC. The services only dispatch.
//!
//! Invariants: a call is admitted or refused at once (P10), and then runs in a task of its own, so that a client which
//! goes away never stops a commit half way. Calls between nodes need a certificate of the cluster (P9).

pub(crate) mod manifest_cache;

mod abandon;
mod get_manifest;
mod get_outcome;
pub(crate) mod heartbeat;
mod plan_chunks;
pub(crate) mod report_inventory;
mod seal;

mod formation;
mod outcome;
pub(crate) mod status;
mod ticket;

mod dispatch;

pub use dispatch::{FilesService, NodesService};
