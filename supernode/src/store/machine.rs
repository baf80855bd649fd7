//! The names group's state machine, as the replicated log drives it.

use consensus::{Applying, Machine};
use proto::names_log::v1 as log;
use rusqlite::Transaction;

use super::apply::{At, apply};
use super::schema;

/// The tables of this crate behind the names group's log. It keeps nothing besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NamesMachine;

impl Machine for NamesMachine {
    type Command = log::Command;
    type Reply = log::Reply;

    fn create(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        schema::create(tx)
    }

    fn check(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        schema::check(tx)
    }

    fn apply(
        &mut self,
        tx: &Transaction<'_>,
        at: &Applying,
        command: log::Command,
    ) -> rusqlite::Result<log::Reply> {
        let at = At {
            tables: tx,
            now: at.now,
        };
        apply(at, command)
    }
}
