//! A replicated SQLite state machine: what both tiers stand on (the names group of the supernodes, one group per
//! cluster).
//!
//! **Owns**: the Raft log and its format, elections, epochs, cluster time, membership, snapshots, the transport between
//! members, founding exactly once. openraft is imported here and nowhere else; no type of it leaves this crate.
//!
//! **Never knows**: what a command means. A tier gives a [`Machine`]; everything else is the same for all.
//!
//! Read [`machine`] first, then [`group`], then `start.rs`, then `schema.rs` for what stands on disk.

mod vfs;

pub mod machine;
pub mod settings;
pub mod status;

pub mod error;
pub mod group;

mod directory;
mod founding;
mod start;

mod schema;
mod sqlite;

mod log;
mod state;

mod engine;
mod transport;

mod cluster_time;
mod ledger;
mod proposer;
mod reads;
mod rivals;

mod health;
mod roster;
mod space;

mod background;
mod desk;
mod membership;

pub use error::Error;
pub use group::Group;
pub use machine::{Applying, FeatureLevel, Machine};
pub use settings::{Limits, Settings, Timings};
pub use status::{Condition, GroupStatus, Member, MemberRecord, Reach, Role};
