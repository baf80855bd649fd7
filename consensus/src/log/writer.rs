//! The one thread that writes `log.db`: what waits goes into one transaction, one fsync.

use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::engine::Types;
use crate::health::Health;
use crate::log::Shared;
use crate::log::rows::{self, Row};
use crate::schema::{self, meta_key};
use crate::sqlite::{self, failure};

/// Writes in one transaction.
const BATCH_WRITES_MAX: usize = 1024;
/// Bytes of entries in one transaction (one larger write still gets one of its own).
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Entries by which the commit index in the file may lag: each time it is written costs a page.
const COMMITTED_LAG_MAX: u64 = 256;

/// Something to write, and whom to tell.
pub(crate) enum Write {
    Append {
        rows: Vec<Row>,
        done: IOFlushed<Types>,
    },
    Vote {
        vote: schema::Vote,
        done: Done,
    },
    /// Not awaited; goes along with some later write or the next quiet moment.
    Committed {
        committed: schema::LogId,
    },
    Truncate {
        after: Option<u64>,
        done: Done,
    },
    Purge {
        upto: schema::LogId,
        done: Done,
    },
    /// Little is going on.
    Quiet,
    Close {
        done: oneshot::Sender<()>,
    },
}

type Done = oneshot::Sender<io::Result<()>>;

pub(crate) fn spawn(
    connection: Connection,
    waiting: mpsc::Receiver<Write>,
    shared: Arc<Shared>,
    health: Health,
) -> io::Result<()> {
    let writer = Writer {
        connection,
        shared,
        health,
        committed: None,
        committed_written: 0,
        untidy: false,
    };
    std::thread::Builder::new()
        .name("raft-log".to_owned())
        .spawn(move || writer.run(waiting))
        .map(drop)
}

struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    health: Health,
    /// Known to be committed, not written yet.
    committed: Option<schema::LogId>,
    /// Up to here the file says what is committed, as far as known here.
    committed_written: u64,
    /// Whether the WAL has grown since the last checkpoint.
    untidy: bool,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Write>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = Batch::default();
            batch.take(first);
            while batch.has_room() {
                match waiting.try_recv() {
                    Ok(next) => batch.take(next),
                    Err(_) => break,
                }
            }
            let outcome = self.write(&batch);
            if let Err(error) = &outcome {
                self.health
                    .fail(format!("the Raft log cannot be written: {error}"));
            } else if let Some(index) = batch.last_index() {
                self.shared.flushed(index);
            }
            if let Some(closed) = batch.tell(&outcome) {
                self.shared.rows.close();
                drop(self.connection);
                let _ = closed.send(());
                return;
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        // After a failed write the file is not to be trusted: nothing more goes to it.
        if let Some(reason) = self.health.reason() {
            return Err(io::Error::other(reason));
        }
        if let Some(committed) = batch.committed {
            self.committed = Some(committed);
        }
        let flush_committed = batch.quiet || batch.closing.is_some();
        if batch.writes.is_empty() && !(flush_committed && self.committed.is_some()) {
            if batch.quiet && self.untidy {
                // With a reader in the way the next quiet moment comes.
                self.untidy = !sqlite::checkpoint(&self.connection)?;
            }
            return Ok(());
        }
        let tx = self.connection.transaction().map_err(failure)?;
        for write in &batch.writes {
            match write {
                Write::Append { rows, .. } => rows::insert(&tx, rows)?,
                Write::Vote { vote, .. } => rows::put_meta(&tx, meta_key::VOTE, vote)?,
                Write::Truncate { after, .. } => rows::truncate(&tx, *after)?,
                Write::Purge { upto, .. } => rows::purge(&tx, upto)?,
                Write::Committed { .. } | Write::Quiet | Write::Close { .. } => {}
            }
        }
        let lag = |committed: &schema::LogId| committed.index.saturating_sub(self.committed_written);
        let due = self
            .committed
            .filter(|committed| flush_committed || lag(committed) >= COMMITTED_LAG_MAX);
        if let Some(committed) = due {
            rows::put_meta(&tx, meta_key::COMMITTED, &committed)?;
        }
        common::fail::point("raft.log:before");
        tx.commit().map_err(failure)?;
        common::fail::point("raft.log:after");
        if let Some(committed) = due {
            self.committed = None;
            self.committed_written = committed.index;
        }
        self.untidy = true;
        Ok(())
    }
}

/// What goes into one transaction.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    committed: Option<schema::LogId>,
    quiet: bool,
    closing: Option<oneshot::Sender<()>>,
    bytes: usize,
}

impl Batch {
    fn has_room(&self) -> bool {
        self.closing.is_none() && self.bytes < BATCH_BYTES_MAX && self.writes.len() < BATCH_WRITES_MAX
    }

    fn take(&mut self, write: Write) {
        match write {
            Write::Committed { committed } => self.committed = Some(committed),
            Write::Quiet => self.quiet = true,
            Write::Close { done } => self.closing = Some(done),
            Write::Append { .. } | Write::Vote { .. } | Write::Truncate { .. } | Write::Purge { .. } => {
                if let Write::Append { rows, .. } = &write {
                    self.bytes += rows.iter().map(|row| row.payload.len()).sum::<usize>();
                }
                self.writes.push(write);
            }
        }
    }

    /// The last entry in the file after this batch, where it says so.
    fn last_index(&self) -> Option<u64> {
        self.writes.iter().rev().find_map(|write| match write {
            Write::Append { rows, .. } => rows.last().map(|row| row.index),
            _ => None,
        })
    }

    /// Tells everyone what came of it.
    fn tell(self, outcome: &io::Result<()>) -> Option<oneshot::Sender<()>> {
        let copy = || match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        for write in self.writes {
            match write {
                Write::Append { done, .. } => done.io_completed(copy()),
                Write::Vote { done, .. } | Write::Truncate { done, .. } | Write::Purge { done, .. } => {
                    // Whoever asked may have gone.
                    let _ = done.send(copy());
                }
                Write::Committed { .. } | Write::Quiet | Write::Close { .. } => {}
            }
        }
        self.closing
    }
}
