//! What ties this node to its cluster: what it last heard ([`NodeContext`], [`NamesView`]) and the loops by which it
//! reports and obeys.
//!
//! | loop | period key | trigger | what it may change |
//! |---|---|---|---|
//! | [`load`] | - (1 s) | - | this node's view of its own CPU and memory |
//! | [`heartbeat`] | `heartbeat_period` | a new leader; orders carried out | the node's view of its cluster; by [`orders`], which a heartbeat never waits for: the epoch on the disks, drops that were ordered |
//! | [`inventory`] | `inventory_period` | `inventory_delay` after the start | on the disks: drops that were ordered |
//!
//! Owns the node's view. Decides nothing: orders come from a leader, carry its epoch, and are refused below the highest
//! epoch that the disks have seen (P7).

mod context;
mod names_view;

mod link;

pub(crate) mod heartbeat;
pub(crate) mod inventory;
pub(crate) mod load;
pub(crate) mod orders;

pub use context::{Learned, NodeContext};
pub(crate) use link::LeaderLink;
pub use names_view::NamesView;
