//! The seam to a tier: its deterministic state machine.

use common::ids::{Epoch, LogIndex};
use common::time::ClusterTime;

/// What a tier gives: tables, and how a command changes them.
///
/// Every member applies the same commands in the same order and must end with the same tables. So [`Machine::apply`]
/// reads no clock, no randomness, no environment, and no query whose order is not fixed by `ORDER BY`; it keeps no
/// state of its own that is not rebuilt from the tables (a snapshot replaces them under it).
pub trait Machine: Send + 'static {
    /// What is proposed. A member that meets a command, or a part of one, that its build does not know ends (P12): see
    /// [`Machine::level_of`].
    type Command: prost::Message + Default + Clone + Send + Sync + 'static;
    /// What the proposer gets back, refusals included.
    type Reply: prost::Message + Default + Clone + Send + Sync + 'static;

    /// The highest feature level that this build knows. The group works at the highest one that all of its members
    /// know, once that is committed.
    fn level(&self) -> FeatureLevel {
        FeatureLevel::FIRST
    }

    /// The level from which on `command` may be proposed. A new command, a new field of one and a change of what one does
    /// each belong to a new level: below it some member does not know them.
    fn level_of(command: &Self::Command) -> FeatureLevel {
        let _ = command;
        FeatureLevel::FIRST
    }

    /// Creates the tables of [`FeatureLevel::FIRST`] in a new database. Tables are `STRICT`; names must not begin with
    /// `consensus_`.
    ///
    /// # Errors
    /// A broken database; the member does not start.
    fn create(&self, tx: &rusqlite::Transaction<'_>) -> rusqlite::Result<()>;

    /// Checks that this build knows the tables of a database that is opened, or was installed as a snapshot. It changes
    /// nothing: members whose builds differ have equal tables.
    ///
    /// # Errors
    /// Tables of another build, or a broken database; the member does not start.
    fn check(&self, tx: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        let _ = tx;
        Ok(())
    }

    /// Migrates the tables from the level below to `to`. Every member calls it at the same position of the log.
    ///
    /// # Errors
    /// A broken database; the member ends.
    fn migrate(&self, tx: &rusqlite::Transaction<'_>, to: FeatureLevel) -> rusqlite::Result<()> {
        let _ = (tx, to);
        Ok(())
    }

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

/// What a group may do: each level adds to the one below. Levels are raised by a committed entry and never fall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FeatureLevel(u32);

impl FeatureLevel {
    /// Of every new group.
    pub const FIRST: Self = Self(1);

    /// Level `number`.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for FeatureLevel {
    fn default() -> Self {
        Self::FIRST
    }
}

impl std::fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
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
    /// The feature level in force: what a command does may depend on it.
    pub level: FeatureLevel,
    /// Never lower than at any earlier command.
    pub now: ClusterTime,
}
