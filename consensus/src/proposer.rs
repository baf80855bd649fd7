//! Coalesces the commands of many callers into few log entries.
//!
//! While an entry is under way the next one gathers, and where several callers come at once, entries keep a distance in
//! which more gather: the longer, the more came with the last one. A lone caller waits for nobody. Each command has its
//! own outcome.

use std::sync::Arc;
use std::time::Duration;

use common::ids::Epoch;
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::engine::{Answer, Outcome};
use crate::error::Error;
use crate::ledger::{Ledger, Pending};
use crate::schema::{self, Command, Commands, Kind};
use crate::settings::Limits;

/// One command that waits.
pub(crate) struct Proposal<R> {
    pub(crate) epoch: Option<Epoch>,
    pub(crate) body: Bytes,
    pub(crate) reply: oneshot::Sender<Result<R, Error>>,
}

/// Takes proposals until all handles are gone.
pub(crate) async fn run<R: Send + 'static>(
    mut waiting: mpsc::Receiver<Proposal<R>>,
    ledger: Ledger,
    limits: Limits,
) {
    let slots = Arc::new(Semaphore::new(limits.entries_in_flight_max));
    let (mut submitted, mut distance) = (ledger.clock.moment(), Duration::ZERO);
    loop {
        let Some(first) = waiting.recv().await else {
            return;
        };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let since = ledger.clock.moment().since(submitted);
        if since < distance {
            ledger.clock.sleep(distance - since).await;
        }
        let batch = gather(first, &mut waiting, &limits);
        let others = u32::try_from(batch.len() - 1).unwrap_or(u32::MAX);
        let wanted = limits.spacing_per_caller.saturating_mul(others);
        (submitted, distance) = (ledger.clock.moment(), wanted.min(limits.spacing));
        submit(batch, slot, &ledger).await;
    }
}

fn gather<R>(
    first: Proposal<R>,
    waiting: &mut mpsc::Receiver<Proposal<R>>,
    limits: &Limits,
) -> Vec<Proposal<R>> {
    let mut bytes = first.body.len();
    let mut batch = vec![first];
    while batch.len() < limits.commands_per_entry_max && bytes < limits.entry_bytes_max {
        let Ok(next) = waiting.try_recv() else {
            break;
        };
        bytes += next.body.len();
        batch.push(next);
    }
    batch
}

async fn submit<R: Send + 'static>(batch: Vec<Proposal<R>>, slot: OwnedSemaphorePermit, ledger: &Ledger) {
    let (replies, commands): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|proposal| {
            let command = Command {
                epoch: proposal.epoch.map(Epoch::get),
                body: proposal.body,
            };
            ((proposal.epoch, proposal.reply), command)
        })
        .unzip();
    match hand_over(ledger, commands).await {
        Ok(pending) => {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let outcome = ledger.outcome(pending).await;
                drop(slot);
                distribute(replies, outcome);
            });
        }
        Err(error) => distribute(replies, Err(error)),
    }
}

async fn hand_over(ledger: &Ledger, commands: Vec<Command>) -> Result<Pending, Error> {
    let leading = ledger.leading()?;
    let stamp = ledger.roster.timekeeper.stamp(leading);
    let payload = schema::encode_entry(stamp, Kind::Commands(Commands { commands }));
    ledger.hand_over(leading.term, payload).await
}

type Replies<R> = Vec<(Option<Epoch>, oneshot::Sender<Result<R, Error>>)>;

/// Callers that have gone away need no answer.
fn distribute<R: Send + 'static>(replies: Replies<R>, outcome: Result<Answer, Error>) {
    let outcomes = match outcome {
        Ok(Answer::Commands(outcomes)) => outcomes
            .downcast::<Vec<Outcome<R>>>()
            .map_err(|_| Error::OutcomeUnknown),
        Ok(Answer::Applied | Answer::Joined(_)) => Err(Error::OutcomeUnknown),
        Err(error) => Err(error),
    };
    match outcomes {
        Ok(outcomes) => {
            for ((asked, reply), outcome) in replies.into_iter().zip(*outcomes) {
                let _ = reply.send(match outcome {
                    Outcome::Applied(answer) => Ok(answer),
                    Outcome::Stale => Err(Error::Stale {
                        asked: asked.unwrap_or_default(),
                    }),
                });
            }
        }
        Err(error) => {
            for (_, reply) in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
