//! The bulk data plane: framed TCP over TLS beside gRPC, because gRPC costs 1.4 to 2 times the CPU per byte.
//!
//! [`grant`] says what a node may be asked to do, [`receipt`] what it says it has done. The frame format is specified
//! in `docs/formats.md`.

pub mod grant;
pub mod receipt;
