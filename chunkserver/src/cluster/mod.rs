//! The file layer of one cluster: version -> manifest, chunk -> replicas, nodes and their load, clean-up.
//!
//! Invariant (P6): nothing is reclaimed but on a committed intent, which is checked again when it is applied. What the
//! cluster knows is one replicated state machine ([`store`]); its leader alone plans ([`core`]), and every order carries
//! its epoch (P7). What a leader knows besides (loads, who was heard when) is soft and ends with it.
//!
//! Read [`store`] first, then [`core`], then [`api`] and [`background`].

pub mod store;

pub mod core;

mod commit;
mod directory;
mod growth;
mod handle;
mod leadership;
mod machine;
mod open_uploads;
mod outcomes;
mod supernodes;
mod unpublished;

pub mod api;
pub mod background;

#[cfg(test)]
mod tests;

pub use handle::{Cluster, Parts};
pub use machine::ClusterMachine;
pub use supernodes::Supernodes;
