//! Connections that only read: a bounded number, each query limited in time, each query on one snapshot of the tables.
//!
//! Queries of a few rows and scans have places of their own, so that no scan keeps a look at one row waiting. Where the
//! write-ahead log is too long, new queries wait for a moment at a gate (`gate.rs`).

use std::path::PathBuf;
use std::sync::Arc;

use common::time::Clock;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::settings::{Settings, Timings};
use crate::sqlite;
use crate::state::gate::Gate;

/// SQLite's instructions between two looks at the clock.
const STEPS_PER_LOOK: i32 = 10_000;

/// What a query looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Rows that it finds by their keys.
    Rows,
    /// Many rows in a row.
    Scan,
}

pub(crate) struct Readers {
    rows: Arc<Semaphore>,
    scans: Arc<Semaphore>,
    pool: Arc<Mutex<Pool>>,
    timings: Timings,
    clock: Clock,
    gate: Arc<Gate>,
}

struct Pool {
    path: PathBuf,
    idle: Vec<Connection>,
}

impl Readers {
    /// Queries on the file at `path`. `ask` asks for a checkpoint.
    pub(crate) fn new(path: PathBuf, settings: &Settings, ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            rows: Arc::new(Semaphore::new(settings.limits.readers)),
            scans: Arc::new(Semaphore::new(settings.limits.scanners)),
            pool: Arc::new(Mutex::new(Pool {
                path,
                idle: Vec::new(),
            })),
            timings: settings.timings,
            clock: settings.clock.clone(),
            gate: Arc::new(Gate::new(settings.clock.clone(), ask)),
        }
    }

    /// From now on queries run on the file at `path`; those under way end on the old one.
    pub(crate) fn move_to(&self, path: PathBuf) {
        let mut pool = self.pool.lock();
        pool.path = path;
        pool.idle.clear();
    }

    /// No more queries.
    pub(crate) fn close(&self) {
        self.rows.close();
        self.scans.close();
        self.pool.lock().idle.clear();
    }

    /// Keeps new queries waiting for a moment, unless that led to nothing a short while ago; whether they wait.
    pub(crate) fn hold(&self) -> bool {
        self.gate.hold()
    }

    /// Whether new queries wait.
    pub(crate) fn are_held(&self) -> bool {
        self.gate.is_held()
    }

    /// Runs `checkpoint`, which says whether it was complete. Lets queries go on if it was, or if none was in its way.
    pub(crate) fn during<E>(&self, checkpoint: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        let clear = self.gate.is_clear();
        let complete = checkpoint()?;
        match complete {
            true => self.gate.release(),
            false if clear => self.gate.give_up(),
            false => {}
        }
        Ok(complete)
    }

    /// Queries go on.
    pub(crate) fn release(&self) {
        self.gate.release();
    }

    /// How often queries were held.
    pub(crate) fn holds(&self) -> u64 {
        self.gate.holds()
    }

    pub(crate) async fn run<T, F>(&self, lane: Lane, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let slots = match lane {
            Lane::Rows => &self.rows,
            Lane::Scan => &self.scans,
        };
        let slot = async {
            let slot = Arc::clone(slots).acquire_owned().await?;
            // In this order: the gate counts queries that are at work.
            Ok::<_, tokio::sync::AcquireError>((self.gate.pass().await, slot))
        };
        let slot = match self.clock.timeout(self.timings.read_timeout, slot).await {
            Some(Ok(slot)) => slot,
            Some(Err(_)) => return Err(Error::Closed),
            None => return Err(Error::Busy),
        };
        let (pool, clock, limit) = (
            Arc::clone(&self.pool),
            self.clock.clone(),
            self.timings.query_timeout,
        );
        let work = move || {
            let outcome = run_query(&pool, &clock, limit, query);
            drop(slot);
            outcome
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::Query {
                reason: format!("the query panicked: {error}"),
            })?
    }
}

fn run_query<T>(
    pool: &Mutex<Pool>,
    clock: &Clock,
    limit: std::time::Duration,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    let (path, idle) = {
        let mut pool = pool.lock();
        (pool.path.clone(), pool.idle.pop())
    };
    let refused = |error: &dyn std::fmt::Display| Error::Query {
        reason: error.to_string(),
    };
    let mut connection = match idle {
        Some(connection) => connection,
        None => sqlite::open_reader(&path).map_err(|error| refused(&error))?,
    };
    let until = clock.moment() + limit;
    let watcher = clock.clone();
    let outcome = connection
        .progress_handler(STEPS_PER_LOOK, Some(move || watcher.moment() > until))
        .and_then(|()| {
            let tx = connection.transaction()?;
            let value = query(&tx)?;
            tx.commit()?;
            Ok(value)
        });
    let cleared = connection.progress_handler(0, None::<fn() -> bool>);
    let mut pool = pool.lock();
    if cleared.is_ok() && pool.path == path {
        pool.idle.push(connection);
    }
    drop(pool);
    outcome.map_err(|error| refused(&error))
}
