//! Connections kept for the next request, by target.
//!
//! Invariant (P10): at most [`Limits::connections_max`] connections exist at once, idle ones included; beyond it a
//! caller waits for a while and then hears Busy. A connection whose last request did not end in good order is never
//! handed out again.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use common::time::Moment;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::dial::{Connection, Dialer, Target};
use super::error::Error;
use super::pipeline::Pipeline;

/// Bounds on the connections of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all, idle ones and pipelines included.
    pub connections_max: usize,
    /// Idle connections kept for one target.
    pub idle_per_target_max: usize,
    /// An idle connection is closed after so long; shorter than the servers' own limit.
    pub idle_for_max: Duration,
    /// How long to wait for a free connection.
    pub wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            idle_per_target_max: 8,
            idle_for_max: Duration::from_secs(30),
            wait_max: Duration::from_secs(5),
        }
    }
}

/// A cloneable handle to a pool of connections to the nodes of one cluster.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    limits: Limits,
    free: Arc<Semaphore>,
    /// Idle connections by target, the most recently used last.
    idle: Mutex<BTreeMap<Target, Vec<Idle>>>,
    /// One pipeline per target, made by whoever needs it first.
    pipelines: Mutex<BTreeMap<Target, Arc<OnceCell<Shared>>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    permit: OwnedSemaphorePermit,
    since: Moment,
}

#[derive(Debug)]
struct Shared {
    pipeline: Pipeline,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool whose connections come from `dialer`.
    pub fn new(dialer: Dialer, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            dialer,
            limits,
            free: Arc::new(Semaphore::new(limits.connections_max)),
            idle: Mutex::default(),
            pipelines: Mutex::default(),
        }))
    }

    /// A connection to `target` for one caller alone: an idle one, or a new one.
    ///
    /// # Errors
    /// The target cannot be reached, or no connection is free in time.
    pub async fn connection(&self, target: &Target) -> Result<Pooled, Error> {
        let inner = &self.0;
        if let Some(idle) = inner.take_idle(target) {
            return Ok(Pooled {
                held: Some((idle.connection, idle.permit)),
                pool: self.clone(),
            });
        }
        let permit = inner.permit(target).await?;
        let connection = inner.dialer.connect(target).await?;
        Ok(Pooled {
            held: Some((connection, permit)),
            pool: self.clone(),
        })
    }

    /// The pipeline to `target`, shared by everyone who has small puts for it.
    ///
    /// # Errors
    /// The target cannot be reached, or no connection is free in time.
    pub async fn pipeline(&self, target: &Target) -> Result<Pipeline, Error> {
        let inner = &self.0;
        let cell = inner.pipeline_cell(target);
        let shared = cell
            .get_or_try_init(|| async {
                let permit = inner.permit(target).await?;
                let connection = inner.dialer.connect(target).await?;
                Ok::<_, Error>(Shared {
                    pipeline: Pipeline::start(connection),
                    _permit: permit,
                })
            })
            .await?;
        Ok(shared.pipeline.clone())
    }

    /// Closes what has been idle for too long and forgets pipelines that ended. Called now and then by the owner; every
    /// request does it too.
    pub fn tidy(&self) {
        self.0.tidy();
    }

    /// Connections that exist, idle ones included.
    pub fn connections(&self) -> usize {
        self.0
            .limits
            .connections_max
            .saturating_sub(self.0.free.available_permits())
    }
}

impl Inner {
    fn take_idle(&self, target: &Target) -> Option<Idle> {
        let stale = self.tidy();
        drop(stale);
        loop {
            let mut found = self.idle.lock().get_mut(target)?.pop()?;
            if found.connection.is_reusable() {
                return Some(found);
            }
        }
    }

    fn pipeline_cell(&self, target: &Target) -> Arc<OnceCell<Shared>> {
        let mut pipelines = self.pipelines.lock();
        let cell = pipelines.entry(target.clone()).or_default();
        if cell.get().is_some_and(|shared| !shared.pipeline.is_open()) {
            *cell = Arc::default();
        }
        Arc::clone(cell)
    }

    /// Room for one more connection, made by closing an idle one if need be.
    async fn permit(&self, target: &Target) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(permit);
        }
        drop(self.longest_idle());
        let waiting = Arc::clone(&self.free).acquire_owned();
        let permit = self.dialer.clock().timeout(self.limits.wait_max, waiting).await;
        permit
            .and_then(Result::ok)
            .ok_or(Error::NoneFree { node: target.node })
    }

    fn longest_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.lock();
        let oldest = idle
            .values_mut()
            .filter(|of_target| !of_target.is_empty())
            .min_by_key(|of_target| of_target.first().map(|idle| idle.since))?;
        Some(oldest.remove(0))
    }

    /// What is no longer needed, to be dropped outside the locks.
    fn tidy(&self) -> Vec<Idle> {
        let now = self.dialer.clock().moment();
        let mut stale = Vec::new();
        self.idle.lock().retain(|_, of_target| {
            stale.extend(of_target.extract_if(.., |idle| now.since(idle.since) > self.limits.idle_for_max));
            !of_target.is_empty()
        });
        self.pipelines
            .lock()
            .retain(|_, cell| cell.get().is_none_or(|shared| shared.pipeline.is_open()));
        stale
    }

    fn give_back(&self, mut connection: Connection, permit: OwnedSemaphorePermit) {
        if !connection.is_reusable() {
            return;
        }
        let since = self.dialer.clock().moment();
        let target = connection.target().clone();
        let mut idle = self.idle.lock();
        let of_target = idle.entry(target).or_default();
        if of_target.len() < self.limits.idle_per_target_max {
            of_target.push(Idle {
                connection,
                permit,
                since,
            });
        }
    }
}

/// A connection that goes back to its pool when it is dropped, if its last request ended in good order.
#[derive(Debug)]
pub struct Pooled {
    held: Option<(Connection, OwnedSemaphorePermit)>,
    pool: Pool,
}

impl Deref for Pooled {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        let held = self.held.as_ref();
        &held.expect("held until it is dropped").0
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        let held = self.held.as_mut();
        &mut held.expect("held until it is dropped").0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some((connection, permit)) = self.held.take() {
            self.pool.0.give_back(connection, permit);
        }
    }
}
