//! Connections that only read: a bounded number, each query limited in time, each query on one snapshot of the tables.

use std::path::PathBuf;
use std::sync::Arc;

use common::time::Clock;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::settings::Timings;
use crate::sqlite;

/// SQLite's instructions between two looks at the clock.
const STEPS_PER_LOOK: i32 = 10_000;

pub(crate) struct Readers {
    slots: Arc<Semaphore>,
    pool: Arc<Mutex<Pool>>,
    timings: Timings,
    clock: Clock,
}

struct Pool {
    path: PathBuf,
    idle: Vec<Connection>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, count: usize, timings: Timings, clock: Clock) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(count)),
            pool: Arc::new(Mutex::new(Pool {
                path,
                idle: Vec::new(),
            })),
            timings,
            clock,
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
        self.slots.close();
        self.pool.lock().idle.clear();
    }

    pub(crate) async fn run<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let slot = Arc::clone(&self.slots).acquire_owned();
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
