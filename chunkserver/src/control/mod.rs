//! What this node knows of its cluster, as its heartbeats and the replicated state last said.
//!
//! Owns: the node's view (keys, cluster time, epoch, peers). Decides nothing; the data plane reads it on every frame.

mod context;

pub use context::{Learned, NodeContext};
