//! The control plane's transport: gRPC over TLS, accepted by an accept loop of ours and connected through the network
//! seam, so that certificates can be reloaded, connections counted and a whole installation simulated.
//!
//! Invariant (P10): connections and handshakes are bounded on the server; every channel finds out by itself when the
//! other end is gone (HTTP/2 keepalive). Who the other end is stands in its certificate: handlers ask
//! [`Peer`], which [`serve`] puts among the extensions of every request.
//!
//! Read [`serve`] first.

mod accept;
mod connect;
mod gather;
mod routes;

pub use accept::{Limits, Peer, serve};
pub use connect::connect;
pub use routes::Routes;

/// Flow-control window of one HTTP/2 stream of the control plane.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Flow-control window of one HTTP/2 connection of the control plane.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

#[cfg(test)]
mod tests;
