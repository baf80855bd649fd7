//! Decisions of the file layer: pure functions from a snapshot to a plan or a verdict. Time and randomness come in as
//! arguments, effects go out as data.

pub mod copy_sets;
pub mod placement;

pub mod seal;

pub mod durability;
pub mod orphans;
pub mod presence;
