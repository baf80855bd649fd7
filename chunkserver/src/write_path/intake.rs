//! A put as its connection's reader sees it: where the next blocks go, and what happens when all were sent.
//!
//! Invariant: dropping an intake gives the put up. A task that waits for its blocks then finds its inbox closed.

use bytes::Bytes;
use common::time::Moment;
use proto::bulk::frame::RequestNumber;
use proto::bulk::message::{Failure, PutEnd};
use tokio::sync::mpsc;

use super::order::Order;
use super::{Ended, report, small, stream};
use crate::transfer::{Answers, DataPlane, WeakWindow, WindowBuffer, failure};

/// A run of blocks that arrived, not yet checked.
pub(crate) struct Blocks {
    pub(crate) first_block: u32,
    pub(crate) checksums: Vec<u64>,
    pub(crate) data: Bytes,
}

/// What a streaming put is told.
pub(crate) enum Part {
    Blocks(Blocks),
    End(PutEnd),
}

/// A put whose blocks are due.
pub(crate) enum Intake {
    /// A task takes the blocks as they come.
    Streamed {
        window: WeakWindow,
        inbox: mpsc::Sender<Part>,
    },
    /// The whole chunk comes in one frame; its task begins at the end.
    Small(Box<Gathered>),
}

/// A small put and its only blocks.
pub(crate) struct Gathered {
    order: Order,
    length: usize,
    blocks: Option<Blocks>,
    /// When it has taken longer than any put may.
    due: Moment,
}

impl Order {
    /// Begins the put.
    pub(crate) fn start(self, plane: &DataPlane, request: RequestNumber, answers: &Answers) -> Intake {
        if let Some(length) = self.small() {
            return Intake::Small(Box::new(Gathered {
                due: plane.clock().moment() + self.allowance(plane),
                order: self,
                length,
                blocks: None,
            }));
        }
        // Every buffer of the window finds room, so that the reader never waits for the task here.
        let (inbox, parts) = mpsc::channel(plane.settings().put_buffers_max as usize + 1);
        let window = self.window.watch();
        let (plane, answers) = (plane.clone(), answers.clone());
        tokio::spawn(async move {
            let limit = self.allowance(&plane);
            let running = Box::pin(stream::run(&plane, &self, parts, answers.motion()));
            let outcome = plane.clock().timeout(limit, running).await;
            let outcome = outcome.unwrap_or_else(|| {
                let message = format!("the put took longer than {limit:?}");
                Err(Ended::Failed(failure::too_slow(plane.me(), message)))
            });
            report(&plane, &answers, request, outcome).await;
        });
        Intake::Streamed { window, inbox }
    }
}

impl Intake {
    /// Whether its task has ended, so that no block is due any more.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Intake::Streamed { inbox, .. } => inbox.is_closed(),
            Intake::Small(_) => false,
        }
    }

    /// Whether its blocks should have been here by `now`.
    pub(crate) fn is_overdue(&self, now: Moment) -> bool {
        match self {
            // Its task sees to that.
            Intake::Streamed { .. } => false,
            Intake::Small(gathered) => now >= gathered.due,
        }
    }

    /// Memory for the next blocks; waits until earlier ones are stored and forwarded. `None` when the put is over.
    pub(crate) async fn buffer(&self, plane: &DataPlane) -> Result<Option<WindowBuffer>, Failure> {
        match self {
            Intake::Streamed { window, inbox } => Ok(tokio::select! {
                biased;
                () = inbox.closed() => None,
                buffer = window.take() => buffer,
            }),
            Intake::Small(gathered) if gathered.blocks.is_some() => {
                Err(failure::shape(plane.me(), "a small chunk in more than one frame"))
            }
            Intake::Small(gathered) => Ok(Some(gathered.order.window.take().await)),
        }
    }

    /// Takes the next blocks.
    pub(crate) async fn blocks(&mut self, blocks: Blocks) {
        match self {
            // An error means that the put is over; its task has said why.
            Intake::Streamed { inbox, .. } => drop(inbox.send(Part::Blocks(blocks)).await),
            Intake::Small(gathered) => gathered.blocks = Some(blocks),
        }
    }

    /// All blocks were sent.
    pub(crate) async fn end(
        self,
        end: PutEnd,
        plane: &DataPlane,
        request: RequestNumber,
        answers: &Answers,
    ) -> Result<(), Failure> {
        match self {
            Intake::Streamed { inbox, .. } => {
                // As above.
                let _ = inbox.send(Part::End(end)).await;
                Ok(())
            }
            Intake::Small(gathered) => {
                let Gathered {
                    order,
                    length,
                    blocks,
                    due: _,
                } = *gathered;
                let whole = blocks.filter(|blocks| {
                    blocks.first_block == 0 && blocks.data.len() == length && end.length == length as u64
                });
                let wrong = "a small chunk with another length than its hint";
                let blocks = whole.ok_or_else(|| failure::shape(plane.me(), wrong))?;
                let (plane, answers) = (plane.clone(), answers.clone());
                tokio::spawn(async move {
                    let running = small::run(&plane, &order, blocks, end, answers.motion());
                    let outcome = Box::pin(running).await;
                    report(&plane, &answers, request, outcome.map_err(Ended::Failed)).await;
                });
                Ok(())
            }
        }
    }
}
