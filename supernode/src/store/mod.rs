//! What the names layer keeps: a SQLite state machine behind the names group's Raft log.
//!
//! **Owns**: the tables (`schema.rs`), one file of rows per thing, one file per command under `apply/`, and the queries
//! of the read requests under `read/`.
//!
//! **Never knows**: how commands are agreed on, or who sent them over which connection.
//!
//! Invariant: applying is deterministic. It reads the command, the tables and the names group's time, nothing else; it
//! judges first and writes after, so that a refused command has changed nothing.
//!
//! Read `schema.rs` first, then `apply/mod.rs`.

pub(crate) mod schema;

pub(crate) mod counter;
pub(crate) mod number;

pub(crate) mod below;
pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod key;
pub(crate) mod lost;
pub(crate) mod session;
pub(crate) mod trash;
pub(crate) mod tree;
pub(crate) mod user;
pub(crate) mod version;

pub(crate) mod apply;
pub(crate) mod read;

mod machine;

#[cfg(test)]
mod plans;

pub(crate) use machine::NamesMachine;
