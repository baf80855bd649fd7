//! Between members: `raft.proto` over mutual TLS.
//!
//! Invariant: every message names the protocol version, the kind of group, the group and the node it is for, and is
//! refused where any of them is another's. A process with another role in its certificate is refused before that.
//!
//! Read `wire.rs` for the conversions, `peers.rs` for who is reached where, `client.rs` for what openraft sends,
//! `service.rs` for what is answered.

mod client;
mod peers;
mod receiving;
mod service;
mod wire;

pub(crate) use client::Links;
pub(crate) use peers::{Claim, Lane, Peers, Seed};
pub(crate) use service::{Desk, RaftService};
pub(crate) use wire::{Identity, record_out};

/// Bytes of one message between members, in both directions: an entry with the largest command fits.
pub(crate) const MESSAGE_BYTES_MAX: usize = proto::CONTROL_MESSAGE_BYTES_MAX;
/// Bytes of a snapshot in one message.
pub(crate) const SNAPSHOT_PART_BYTES: usize = 1 << 20;
