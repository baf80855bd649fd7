//! The bulk data plane: framed TCP over TLS beside gRPC, because gRPC costs 1.4 to 2 times the CPU per byte.
//!
//! [`grant`] says what a node may be asked to do, [`receipt`] what it says it has done. [`frame`] and [`message`] are
//! the bytes on the wire (specified in `docs/formats.md`), [`transport`] reads and writes them. The asking side is
//! [`dial`] (connect), [`put`], [`get`], [`pipeline`] (many small puts on one connection) and [`pool`]; the serving
//! side lives in the chunkserver.

pub mod grant;
pub mod receipt;

pub mod blocks;
pub mod frame;
pub mod message;

pub mod activity;
pub mod error;
pub mod handshake;
pub mod transport;

pub mod dial;
pub mod get;
pub mod pipeline;
pub mod pool;
pub mod put;

generated!(, "bulk");
