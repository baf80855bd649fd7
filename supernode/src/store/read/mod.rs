//! The queries of the read requests. Every one takes a caller and passes [`crate::core::permission`] first.
//!
//! Invariant (P10): a query looks at a bounded number of rows, and says where it stopped.

pub(crate) mod entry;
pub(crate) mod list;
pub(crate) mod resolve;
pub(crate) mod search;
pub(crate) mod totals;
pub(crate) mod trash;
pub(crate) mod uploads;
pub(crate) mod walk;

#[cfg(test)]
mod tests;
