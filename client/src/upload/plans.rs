//! The task that asks the cluster's leader for plans: several chunks at a time, ahead of need.
//!
//! It owns the [`Book`]; senders hold a [`Plans`] handle. When nothing was asked for some time, it asks for nothing,
//! so that the cluster does not take a slow source for a dead client.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::NodeId;
use common::time::Moment;
use proto::error::RpcError;
use proto::files::v1 as files;
use tokio::sync::{mpsc, oneshot};

use super::book::{Book, Plan};
use super::session::Session;
use crate::error::Error;
use crate::routing::{Ask, Try};
use crate::task::Watched;

/// Requests for plans that wait at once: more than chunks in flight.
const WANTS_MAX: usize = 64;
/// A silent upload is kept alive this often.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);

/// How long plans without the nodes that failed are asked for before those are allowed again.
const AVOIDING_MAX: Duration = Duration::from_secs(1);

/// A handle to the task.
#[derive(Clone)]
pub(super) struct Plans {
    orders: mpsc::Sender<Order>,
    planner: Watched,
}

enum Order {
    Want(Want),
    Failed(NodeId),
}

struct Want {
    index: u32,
    avoid: Vec<NodeId>,
    reply: oneshot::Sender<Result<Plan, RpcError>>,
}

impl Plans {
    /// A plan for `index` that avoids `avoid`.
    pub(super) async fn plan(&self, index: u32, avoid: Vec<NodeId>) -> Result<Plan, Error> {
        let (reply, answer) = oneshot::channel();
        let want = Want { index, avoid, reply };
        if self.orders.send(Order::Want(want)).await.is_err() {
            return Err(self.planner.reason().await);
        }
        let Ok(answer) = answer.await else {
            return Err(self.planner.reason().await);
        };
        answer.map_err(|source| Error::Call {
            call: "plan chunks",
            source: Box::new(source),
        })
    }

    /// `node` failed: plans with it are thrown away.
    pub(super) async fn failed(&self, node: NodeId) {
        // A task that has ended plans with nobody.
        let _ = self.orders.send(Order::Failed(node)).await;
    }
}

/// Starts the task; it ends when the last handle is dropped.
pub(super) fn start(session: &Arc<Session>, book: Book) -> Plans {
    let (orders, inbox) = mpsc::channel(WANTS_MAX);
    let planner = Planner {
        session: Arc::clone(session),
        book,
        inbox,
        wants: Vec::new(),
        may_plan_ahead: true,
    };
    Plans {
        orders,
        planner: Watched::new(tokio::spawn(planner.run())),
    }
}

struct Planner {
    session: Arc<Session>,
    book: Book,
    inbox: mpsc::Receiver<Order>,
    wants: Vec<Want>,
    /// Not after a refusal, in part or in whole: then only what is wanted is asked for.
    may_plan_ahead: bool,
}

/// A request under way: the chunks asked for, and what came of it.
type Call = Pin<Box<dyn Future<Output = (Vec<u32>, Result<Vec<Plan>, Error>)> + Send>>;

impl Planner {
    async fn run(mut self) {
        let clock = self.session.router.settings.seams.clock.clone();
        let mut call: Option<Call> = None;
        loop {
            self.serve(clock.moment());
            let due = !self.wants.is_empty() || (self.may_plan_ahead && self.book.is_low());
            if call.is_none() && due {
                call = Some(self.call(clock.moment()));
            }
            tokio::select! {
                order = self.inbox.recv() => match order {
                    Some(Order::Want(want)) => self.wants.push(want),
                    Some(Order::Failed(node)) => self.book.failed(node, clock.moment()),
                    None => return,
                },
                (asked, answer) = answer_of(&mut call) => {
                    call = None;
                    self.take(&asked, answer, clock.moment());
                }
                () = clock.sleep(KEEP_ALIVE_EVERY), if call.is_none() => {
                    call = Some(Box::pin(ask(Arc::clone(&self.session), Vec::new())));
                }
            }
        }
    }

    fn call(&mut self, now: Moment) -> Call {
        let wanted = self.wants.iter().map(|want| (want.index, want.avoid.as_slice()));
        let chunks = self.book.request(wanted, self.may_plan_ahead, now);
        Box::pin(ask(Arc::clone(&self.session), chunks))
    }

    /// Hands out what there is.
    fn serve(&mut self, now: Moment) {
        for want in std::mem::take(&mut self.wants) {
            match self.book.take(want.index, &want.avoid, now) {
                // Whoever wanted it may be gone.
                Some(plan) => drop(want.reply.send(Ok(plan))),
                None => self.wants.push(want),
            }
        }
    }

    fn take(&mut self, asked: &[u32], answer: Result<Vec<Plan>, Error>, now: Moment) {
        let before = std::mem::take(&mut self.wants);
        let (refusal, planned) = match answer {
            Ok(plans) => {
                let planned: Vec<u32> = plans.iter().map(|plan| plan.index).collect();
                self.book.put(plans.into_iter());
                let none = RpcError::new(
                    Kind::Stale,
                    "E_NO_PLAN",
                    "the cluster has no usable plan for a chunk",
                );
                (none, planned)
            }
            Err(error) => (error.into_rpc(), Vec::new()),
        };
        // A leader that runs out of nodes or room plans the first chunks and leaves out the rest: those are asked for
        // again, without others that are not needed yet. Only a reply without any plan is a refusal.
        self.may_plan_ahead = asked.len() == planned.len();
        for want in before {
            if !asked.contains(&want.index) || (!planned.contains(&want.index) && !planned.is_empty()) {
                self.wants.push(want);
                continue;
            }
            // What has just been planned is good even where it names a node that was to be avoided: the leader had
            // its reasons, and asking again would bring the same.
            let plan = self.book.take(want.index, &[], now);
            // Whoever wanted it may be gone.
            drop(want.reply.send(plan.ok_or_else(|| refusal.clone())));
        }
    }
}

async fn answer_of(call: &mut Option<Call>) -> (Vec<u32>, Result<Vec<Plan>, Error>) {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// Asks for plans. Nodes that failed are avoided while there are others: where the leader finds too few without them,
/// they are better than none.
async fn ask(
    session: Arc<Session>,
    mut chunks: Vec<files::ChunkRequest>,
) -> (Vec<u32>, Result<Vec<Plan>, Error>) {
    let asked: Vec<u32> = chunks.iter().map(|chunk| chunk.index).collect();
    let avoids = chunks.iter().any(|chunk| !chunk.avoid_nodes.is_empty());
    if avoids {
        let first = send(&session, &chunks, Some(AVOIDING_MAX)).await;
        let too_few = first
            .as_ref()
            .is_err_and(|error| error.kind().is_passing() || error.kind() == Kind::Full);
        if !too_few {
            return (asked, first);
        }
        chunks.iter_mut().for_each(|chunk| chunk.avoid_nodes.clear());
    }
    (asked, send(&session, &chunks, None).await)
}

async fn send(
    session: &Session,
    chunks: &[files::ChunkRequest],
    give_up_after: Option<Duration>,
) -> Result<Vec<Plan>, Error> {
    let request = files::PlanChunksRequest {
        ticket: bytes::Bytes::new(),
        upload_id: session.upload.get(),
        chunks: chunks.to_vec(),
    };
    let send = |ticket, one: Try| {
        let request = one.request(files::PlanChunksRequest {
            ticket,
            ..request.clone()
        });
        async move { one.files().plan_chunks(request).await }
    };
    let ask = Ask {
        give_up_after,
        ..Ask::leader("plan chunks", &session.cluster)
    };
    let reply: files::PlanChunksReply = session.ask(ask, send).await?;
    session.router.moves_bytes();
    let now = session.router.settings.seams.clock.moment();
    reply
        .plans
        .into_iter()
        .map(|plan| Plan::from_wire(plan, now))
        .collect()
}

/// Makes sure that the cluster knows the upload, also where it has no chunks.
pub(super) async fn touch(session: &Arc<Session>) -> Result<(), Error> {
    ask(Arc::clone(session), Vec::new()).await.1.map(drop)
}
