//! Whole installations of real processes, with real files and real faults.
//!
//! Every test starts its own installation and ends it; they take turns.

// A test that meets something else than it expects has nothing better to do than to fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod access;
mod crowd;
mod fail_points;
mod faults;
mod files;
mod half_way;
mod large;
mod restart;
mod start_up;
