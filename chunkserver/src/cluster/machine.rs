//! The state machine as the consensus crate drives it.

use consensus::{Applying, Machine};
use proto::cluster_log::v1::{Command, Reply};
use rusqlite::Transaction;

use super::store::{self, Moment, schema};

/// A cluster's state machine: all of it is in the tables of [`super::store`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterMachine;

impl Machine for ClusterMachine {
    type Command = Command;
    type Reply = Reply;

    fn create(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        schema::create(transaction)
    }

    fn check(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        schema::check(transaction)
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        at: &Applying,
        command: Command,
    ) -> rusqlite::Result<Reply> {
        let at = Moment { now: at.now };
        store::apply(transaction, at, &command).map(Reply::from)
    }
}
