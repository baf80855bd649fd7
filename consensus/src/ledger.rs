//! Puts entries into the log under our own leadership, and says what became of them.

use std::sync::Arc;
use std::time::Duration;

use common::time::{Clock, ClusterTime};
use futures::future::BoxFuture;
use openraft::impls::ProgressResponder;
use prost::bytes::Bytes;
use tokio::sync::oneshot;

use crate::cluster_time::Leading;
use crate::engine::{self, Answer, Fatal, Payload, Raft, Types, WriteError};
use crate::error::Error;
use crate::roster::Roster;
use crate::schema::{self, Kind};

/// A cheap handle.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) raft: Raft,
    pub(crate) roster: Arc<Roster>,
    pub(crate) clock: Clock,
    pub(crate) timeout: Duration,
}

type Outcome = Result<openraft::raft::ClientWriteResponse<Types>, WriteError>;

/// An entry on its way.
pub(crate) struct Pending(oneshot::Receiver<Outcome>);

impl Ledger {
    /// Our leadership, or who leads instead.
    pub(crate) fn leading(&self) -> Result<Leading, Error> {
        self.roster.health.check()?;
        if let Some(leading) = self.roster.timekeeper.leading() {
            return Ok(leading);
        }
        match self.roster.leader_id() {
            Some(leader) if leader == self.roster.identity.node.get() => {
                Err(Error::retry("this member's leadership is only beginning"))
            }
            _ => Err(self.roster.not_leader()),
        }
    }

    /// Hands `payload` to Raft if we lead in `term`; entries handed over in order stand in that order.
    /// Boxed, as [`Ledger::outcome`] is, so that openraft is compiled in this crate alone.
    pub(crate) fn hand_over(&self, term: u64, payload: Bytes) -> BoxFuture<'_, Result<Pending, Error>> {
        Box::pin(async move {
            let (responder, outcome) = ProgressResponder::complete_only();
            self.raft
                .write(Payload(payload))
                .with_leader(engine::leader(term))
                .responder(responder)
                .await
                .map_err(|fatal| self.fatal(&fatal))?;
            Ok(Pending(outcome))
        })
    }

    /// Waits for an entry to be applied here.
    pub(crate) fn outcome(&self, pending: Pending) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(async move {
            match self.clock.timeout(self.timeout, pending.0).await {
                Some(Ok(Ok(written))) => Ok(written.data),
                // Refused before it entered the log.
                Some(Ok(Err(WriteError::ForwardToLeader(forward)))) => Err(match forward.leader_id {
                    Some(leader) if leader == self.roster.identity.node.get() => {
                        Error::retry("no quorum answers")
                    }
                    _ => self.roster.not_leader(),
                }),
                Some(Ok(Err(WriteError::PreconditionFailed(_)))) => Err(self.roster.not_leader()),
                // In the log once, and taken out again or out of sight: another leader may have committed it.
                Some(Ok(Err(WriteError::LogEntryDiscarded(_)))) | None => Err(Error::OutcomeUnknown),
                Some(Ok(Err(WriteError::ChangeMembershipError(error)))) => {
                    Err(Error::retry(error.to_string()))
                }
                Some(Err(_)) => Err(match self.roster.health.check() {
                    Err(fatal) => fatal,
                    Ok(()) => Error::OutcomeUnknown,
                }),
            }
        })
    }

    /// Commits one entry of ours.
    pub(crate) async fn commit(&self, kind: Kind) -> Result<Answer, Error> {
        let leading = self.leading()?;
        let stamp = self.roster.timekeeper.stamp(leading);
        self.commit_at(leading.term, stamp, kind).await
    }

    pub(crate) async fn commit_at(&self, term: u64, stamp: ClusterTime, kind: Kind) -> Result<Answer, Error> {
        let payload = schema::encode_entry(stamp, kind);
        let pending = self.hand_over(term, payload).await?;
        self.outcome(pending).await
    }

    /// What the end of Raft means to callers.
    pub(crate) fn fatal(&self, fatal: &Fatal) -> Error {
        if !matches!(fatal, Fatal::Stopped) {
            self.roster.health.fail(fatal);
        }
        match self.roster.health.check() {
            Err(error) => error,
            Ok(()) => Error::Closed,
        }
    }
}
