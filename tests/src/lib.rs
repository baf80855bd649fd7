//! Real processes and faults: the harness of the end-to-end tests.
//!
//! **Owns**: starting an installation of the real binary on loopback ports of its own in a temporary folder, running
//! commands against it, ending and restarting single processes, and cleaning all of it up.
//!
//! **Never knows**: what is inside a process. Tests look from outside: commands, exit codes, counters, files.
//!
//! Read [`Installation`] first.

// A harness that meets a value of another form than it expects has nothing better to do than to fail the test.
#![allow(clippy::indexing_slicing)]

mod binary;
mod files;
mod installation;
pub mod partition;
mod ports;
mod process;
mod statements;
mod wait;

pub use binary::dbfs_binary;
pub use files::{digest_of, write_generated};
pub use installation::{Installation, Ran, Shape};
pub use ports::own_ports;
pub use process::{Process, Role, peak_memory_of, signal};
pub use statements::{Statement, statements, unbounded};
pub use wait::{until, within};
