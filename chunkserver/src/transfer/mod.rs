//! What the write path and the read path share: accepting connections, their frames, admission, counters, and the
//! connections to other nodes.
//!
//! **How a request travels.** [`serve`] accepts, shakes hands and gives each connection a reader ([`connection`]) and
//! a writer ([`answers`]). The reader knows which requests are under way and hands frames to their tasks
//! ([`crate::write_path`], [`crate::read_path`]); it never waits for a disk. Tasks send their answers to the writer in
//! whatever order they are ready.
//!
//! **Invariants.** Memory is promised before it is used ([`admission`], P10): a request that was let in always gets its
//! buffers, so that nobody waits for memory while holding some. A connection that ends takes its unfinished requests
//! with it.

pub mod settings;

pub mod counters;

mod admission;
mod answers;
mod connection;
pub(crate) mod failure;
mod motion;
mod plane;
mod serve;
mod turns;

pub(crate) use admission::{WeakWindow, Window, WindowBuffer};
pub(crate) use answers::Answers;
pub(crate) use connection::Peer;
pub(crate) use motion::Motion;
pub use plane::{DataPlane, Parts};
pub use serve::serve;
