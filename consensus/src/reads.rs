//! Positions for linearizable reads: ReadIndex, never a lease, one round for all that wait.
//!
//! Invariant: a position handed out was confirmed by a round that began after it was asked for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::time::Clock;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use proto::error::RpcError;
use proto::raft::v1 as pb;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::ledger::Ledger;
use crate::transport::{Lane, Peers};

/// A read of a group that has been without a quorum for longer than elections take waits only so long for one.
const NO_QUORUM_WAIT: Duration = Duration::from_millis(500);
/// Pause before asking again during an election.
const ASK_AGAIN: Duration = Duration::from_millis(50);

type Ask = oneshot::Sender<Result<u64, Error>>;

/// A cheap handle to a task that answers with positions.
#[derive(Clone)]
pub(crate) struct Gate(mpsc::Sender<Ask>);

impl Gate {
    /// Whoever asks while `confirm` is under way is answered by the next round.
    pub(crate) fn open<F, Fut>(waiting_max: usize, confirm: F) -> Self
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<u64, Error>> + Send,
    {
        let (asks, mut waiting) = mpsc::channel::<Ask>(waiting_max.max(1));
        tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let mut round = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    round.push(next);
                }
                let outcome = confirm().await;
                for ask in round {
                    // Whoever gave up needs no answer.
                    let _ = ask.send(outcome.clone());
                }
            }
        });
        Self(asks)
    }

    pub(crate) async fn index(&self) -> Result<u64, Error> {
        let (ask, answer) = oneshot::channel();
        self.0.try_send(ask).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// One round on the leader.
pub(crate) async fn confirm_leading(ledger: &Ledger, limit: Duration) -> Result<u64, Error> {
    ledger.roster.health.check()?;
    let round = ledger.raft.get_read_linearizer(ReadPolicy::ReadIndex);
    match ledger.clock.timeout(limit, round).await {
        Some(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
        Some(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
            Err(ledger.roster.not_leader())
        }
        Some(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | None => {
            Err(Error::retry("no quorum answers"))
        }
        Some(Err(RaftError::Fatal(fatal))) => Err(ledger.fatal(&fatal)),
    }
}

/// Rounds wherever the leader is, until one succeeds or `limit` is over.
pub(crate) struct Anywhere {
    pub(crate) ledger: Ledger,
    pub(crate) peers: Arc<Peers>,
    pub(crate) here: Gate,
    pub(crate) limit: Duration,
}

impl Anywhere {
    pub(crate) async fn confirm(&self) -> Result<u64, Error> {
        let clock: &Clock = &self.ledger.clock;
        let began = clock.moment();
        loop {
            let outcome = self.ask_leader().await;
            let passing = match &outcome {
                Ok(_) => return outcome,
                Err(error) => matches!(error, Error::NotLeader { .. } | Error::Retry { .. }),
            };
            if !passing {
                return outcome;
            }
            let waited = clock.moment().since(began);
            if waited >= NO_QUORUM_WAIT && self.ledger.roster.lost_quorum() {
                return Err(Error::retry("no majority of the group works together"));
            }
            if waited > self.limit {
                return Err(Error::retry("no leader confirms the position of a read"));
            }
            clock.sleep(ASK_AGAIN).await;
        }
    }

    async fn ask_leader(&self) -> Result<u64, Error> {
        let us = self.ledger.roster.identity.node.get();
        let leader = self.ledger.roster.leader_id();
        let leader = leader.ok_or_else(|| self.ledger.roster.not_leader())?;
        if leader == us && self.ledger.roster.lost_quorum() {
            // A round would only wait for those who do not answer.
            return Err(Error::retry("this member leads without a majority"));
        }
        if leader == us {
            return self.here.index().await;
        }
        let client = self.peers.client(leader, Lane::Log);
        let mut client = client.ok_or_else(|| Error::retry("nobody knows where the leader is"))?;
        let mut request = tonic::Request::new(pb::ReadIndexRequest {
            envelope: self.peers.identity.envelope(leader),
        });
        request.set_timeout(self.limit);
        match client.read_index(request).await {
            Ok(reply) => Ok(reply.into_inner().index),
            Err(status) => Err(Error::retry(RpcError::from(status).message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_asks_during_a_round_is_answered_by_the_next() {
        let (rounds, may_end) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (begun, ending) = (Arc::clone(&rounds), Arc::clone(&may_end));
        let gate = Gate::open(16, move || {
            let (begun, ending) = (Arc::clone(&begun), Arc::clone(&ending));
            async move {
                let round = begun.fetch_add(1, Ordering::SeqCst) + 1;
                ending.acquire().await.unwrap().forget();
                Ok(round)
            }
        });
        let asked = |gate: &Gate| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.index().await.unwrap() })
        };
        let first = asked(&gate);
        while rounds.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let late = [asked(&gate), asked(&gate)];
        tokio::task::yield_now().await;
        may_end.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        for late in late {
            assert_eq!(
                late.await.unwrap(),
                2,
                "together, by a round that began after they asked"
            );
        }
    }
}
