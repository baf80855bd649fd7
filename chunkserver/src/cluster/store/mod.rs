//! The cluster's state machine: SQLite tables, the commands that change them, and what is read from them.
//!
//! Invariant: a command's effect depends only on the command and the tables it meets, so that every member applies the
//! log alike: no clock, no randomness, no configuration, no unordered query. A life is moved by the transition
//! functions of [`common::lifecycle`] alone. An error from SQLite is the end of this member, never a decision.
//!
//! Read [`schema`] first, then [`apply`].

pub mod schema;

pub mod apply;
mod reply;

pub mod counters;
pub mod keys;
pub mod manifests;
pub mod nodes;
pub mod reclaim;
pub mod replicas;
pub mod seal;
pub mod uploads;
pub mod versions;

#[cfg(test)]
mod tests;

pub use apply::{Moment, Reply, apply};
