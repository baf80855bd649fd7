//! What this node knows of its cluster and of the names layer, as heartbeats last said.
//!
//! Owns: the node's view (keys, cluster time, epoch, peers) and the view of the names layer (its time, the keys that
//! sign tickets). Decides nothing; the data plane reads the first on every frame, the API the second on every call.

mod context;
mod names_view;

pub use context::{Learned, NodeContext};
pub use names_view::NamesView;
