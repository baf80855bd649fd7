//! The seam to a tier: its deterministic state machine.

use common::ids::{Epoch, LogIndex};
use common::time::ClusterTime;

/// What a tier gives: tables, and how a command changes them.
///
/// Every member applies the same commands in the same order and must end with the same tables. So [`Machine::apply`]
/// reads no clock, no randomness, no environment, and no query whose order is not fixed by `ORDER BY`; it keeps no
/// state of its own that is not rebuilt from the tables (a snapshot replaces them under it).
pub trait Machine: Send + 'static {
    /// What is proposed. An unknown (newer) command decodes to something that `apply` refuses.
    type Command: prost::Message + Default + Clone + Send + Sync + 'static;
    /// What the proposer gets back, refusals included.
    type Reply: prost::Message + Default + Clone + Send + Sync + 'static;

    /// Creates or migrates tables. Called whenever the database is opened, before the first `apply`, in a transaction
    /// of its own; a snapshot that was installed is opened too. Tables are `STRICT`; names must not begin with
    /// `consensus_`.
    ///
    /// # Errors
    /// A broken database; the member does not start.
    fn migrate(&self, tx: &rusqlite::Transaction<'_>) -> rusqlite::Result<()>;

    /// Applies one command inside the transaction of its batch. A refusal is part of [`Machine::Reply`] and must leave
    /// nothing written: commands of others share the transaction.
    ///
    /// # Errors
    /// An error is a broken database, never a refusal: it rolls the batch back and ends the member
    /// ([`crate::Error::Fatal`]).
    fn apply(
        &mut self,
        tx: &rusqlite::Transaction<'_>,
        at: &Applying,
        command: Self::Command,
    ) -> rusqlite::Result<Self::Reply>;
}

/// Where in the log a command stands. The same on every member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applying {
    /// The log entry. Several commands may share one.
    pub index: LogIndex,
    /// Counts the commands that this group ever applied, from 1: unique, so that ids can be derived from it.
    pub sequence: u64,
    /// The leadership in force.
    pub epoch: Epoch,
    /// Never lower than at any earlier command.
    pub now: ClusterTime,
}
