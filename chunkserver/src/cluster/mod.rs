//! The file layer of one cluster: version -> manifest, chunk -> replicas, nodes and their load, clean-up.
//!
//! Invariant (P6): nothing is reclaimed but on a committed intent, which is checked again when it is applied. What the
//! cluster knows is one replicated state machine; its leader alone plans, and every order carries its epoch (P7).

pub mod core;

pub mod store;
