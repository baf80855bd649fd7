//! Many small puts at once on one connection: no put waits for the one before it, and puts that are ready at the same
//! time leave in one write. One task owns the connection; [`Pipeline`] is a handle to it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{Digest, NodeId};
use tokio::sync::{mpsc, oneshot};

use super::activity::{Activity, Quiet, tick, while_moving};
use super::blocks;
use super::dial::Connection;
use super::error::Error;
use super::frame::{DATA_BYTES_MAX, FrameType, Malformed, RequestNumber};
use super::message::{Goodbye, PutBegin, PutEnd};
use super::receipt::Receipt;
use super::transport::{self, Frame};

/// The longest chunk that is put through a pipeline; longer ones have a connection to themselves ([`super::put`]).
pub const PIPELINED_BYTES_MAX: usize = 256 << 10;
/// Puts that wait for their answer on one connection at once. A server may refuse more.
pub const PIPELINED_REQUESTS_MAX: usize = 256;
const QUEUE_PUTS_MAX: usize = 64;
/// Puts that leave in one write.
const JOBS_AT_ONCE_MAX: usize = 16;
/// Bytes that wait for their answer on one connection, one put aside: what a slow link has to carry before a put that is
/// sent now is answered.
const PIPELINED_BYTES_WAITING_MAX: u64 = 4 << 20;

const _: () = assert!(PIPELINED_BYTES_MAX <= DATA_BYTES_MAX, "one data frame");

/// A whole small chunk.
#[derive(Clone, Debug)]
pub struct SmallPut {
    /// Permits and attempt; the length hint is set from the data.
    pub begin: PutBegin,
    /// 1 to [`PIPELINED_BYTES_MAX`] bytes.
    pub data: Bytes,
    /// One for every block.
    pub checksums: Vec<u64>,
    /// BLAKE3 chaining value of the chunk at its place in the file.
    pub digest: Digest,
}

/// A handle to a connection that carries small puts. The connection ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Pipeline {
    node: NodeId,
    jobs: mpsc::Sender<Job>,
    activity: Activity,
    _alive: Arc<()>,
}

struct Job {
    put: SmallPut,
    done: oneshot::Sender<Result<Receipt, Error>>,
}

impl Pipeline {
    /// Gives `connection` to a task of its own. Must be called within a tokio runtime.
    pub fn start(connection: Connection) -> Self {
        let node = connection.target.node;
        let activity = connection.activity.clone();
        let (jobs, queue) = mpsc::channel(QUEUE_PUTS_MAX);
        let carrier = Carrier {
            quiet: Quiet::new(0),
            waiting_bytes: 0,
            connection,
            queue,
            pending: BTreeMap::new(),
            request: RequestNumber::CONNECTION,
        };
        tokio::spawn(carrier.run());
        let _alive = Arc::new(());
        Self {
            node,
            jobs,
            activity,
            _alive,
        }
    }

    /// What moves on the connection.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether the connection still carries puts.
    pub fn is_open(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// Puts one chunk; returns when it is durable at every node. Dropping the future does not take the put back.
    ///
    /// # Errors
    /// As for [`super::put::Put::finish`].
    pub async fn put(&self, put: SmallPut) -> Result<Receipt, Error> {
        let node = self.node;
        let fits = (1..=PIPELINED_BYTES_MAX).contains(&put.data.len())
            && blocks::count(put.data.len()) == put.checksums.len();
        if !fits {
            let what = "not a small chunk with its checksums";
            return Err(Error::Misuse { node, what });
        }
        let (done, outcome) = oneshot::channel();
        let broken = || Error::Broken {
            node,
            source: io::ErrorKind::BrokenPipe.into(),
        };
        self.jobs.send(Job { put, done }).await.map_err(|_| broken())?;
        outcome.await.map_err(|_| broken())?
    }
}

struct Waiting {
    begin_attempt: common::ids::AttemptId,
    end: PutEnd,
    done: oneshot::Sender<Result<Receipt, Error>>,
}

/// The task that owns the connection.
struct Carrier {
    connection: Connection,
    queue: mpsc::Receiver<Job>,
    /// In the order of sending.
    pending: BTreeMap<RequestNumber, Waiting>,
    request: RequestNumber,
    /// How long nothing has moved while answers are due.
    quiet: Quiet,
    /// Of the puts that are pending.
    waiting_bytes: u64,
}

enum Event {
    Jobs(usize),
    Answer(Result<Option<Frame>, transport::Error>),
    /// Some time has passed.
    Look,
}

impl Carrier {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(JOBS_AT_ONCE_MAX);
        let ended = loop {
            match self.event(&mut jobs).await {
                Event::Jobs(0) if self.pending.is_empty() => return,
                Event::Jobs(_) => {
                    if let Err(source) = self.send(&mut jobs).await {
                        break Error::Broken {
                            node: self.connection.target.node,
                            source,
                        };
                    }
                }
                Event::Answer(next) => {
                    if let Err(error) = self.take(next) {
                        break error;
                    }
                }
                Event::Look if self.quiet.lasts(self.connection.activity.moved()) => {
                    break Error::Timeout {
                        node: self.connection.target.node,
                        what: "confirm a chunk",
                        limit: self.connection.deadlines.answer,
                    };
                }
                Event::Look => {}
            }
        };
        self.queue.close();
        let node = self.connection.target.node;
        for (_, waiting) in std::mem::take(&mut self.pending) {
            // Whoever asked may be gone.
            let _ = waiting.done.send(Err(like(&ended, node)));
        }
    }

    async fn event(&mut self, jobs: &mut Vec<Job>) -> Event {
        let room = match self.waiting_bytes < PIPELINED_BYTES_WAITING_MAX {
            true => PIPELINED_REQUESTS_MAX.saturating_sub(self.pending.len()),
            false => 0,
        };
        let due = !self.pending.is_empty();
        let look = tick(self.connection.deadlines.answer);
        // Once all handles are gone only answers are waited for.
        let wants_jobs = room > 0 && !(self.queue.is_closed() && self.queue.is_empty() && due);
        let connection = &mut self.connection;
        tokio::select! {
            biased;
            next = connection.reader.next() => Event::Answer(next),
            count = self.queue.recv_many(jobs, room.min(JOBS_AT_ONCE_MAX)), if wants_jobs => Event::Jobs(count),
            () = connection.clock.sleep(look), if due => Event::Look,
        }
    }

    async fn send(&mut self, jobs: &mut Vec<Job>) -> io::Result<()> {
        let limit = self.connection.deadlines.frame;
        let Connection {
            reader,
            writer,
            activity,
            clock,
            ..
        } = &mut self.connection;
        let sending = async {
            for Job { put, done } in jobs.drain(..) {
                self.request = self.request.next();
                let end = PutEnd {
                    length: put.data.len() as u64,
                    digest: put.digest,
                };
                let begin = PutBegin {
                    length_hint: Some(end.length),
                    ..put.begin
                };
                let waiting = Waiting {
                    begin_attempt: begin.attempt,
                    end,
                    done,
                };
                self.waiting_bytes += end.length;
                self.pending.insert(self.request, waiting);
                writer.control(self.request, &begin);
                writer.data(self.request, 0, &put.checksums, &put.data).await?;
                writer.control(self.request, &end);
            }
            writer.flush().await
        };
        let sent = while_moving(clock, limit, || activity.moved(), sending, || reader.poke()).await;
        sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    fn take(&mut self, next: Result<Option<Frame>, transport::Error>) -> Result<(), Error> {
        let node = self.connection.target.node;
        let malformed = |source| Error::protocol(node, source);
        let frame = next
            .map_err(|error| Error::of_transport(node, error))?
            .ok_or_else(|| Error::Broken {
                node,
                source: io::ErrorKind::UnexpectedEof.into(),
            })?;
        if frame.frame_type == FrameType::Goodbye {
            let goodbye: Goodbye = frame.decode().map_err(malformed)?;
            return Err(Error::Refused { node, goodbye });
        }
        let Some(waiting) = self.pending.remove(&frame.request) else {
            return Ok(());
        };
        self.waiting_bytes -= waiting.end.length;
        let outcome = if frame.frame_type == FrameType::Failed {
            frame.decode().map(|failure| Err(Error::Failed(failure)))
        } else {
            frame.decode().and_then(|receipt: Receipt| {
                let statement = &receipt.statement;
                let same = statement.attempt == waiting.begin_attempt
                    && statement.length == waiting.end.length
                    && statement.digest == waiting.end.digest
                    && !receipt.copies.is_empty();
                same.then_some(Ok(receipt)).ok_or(Malformed::Field("receipt"))
            })
        };
        match outcome {
            Ok(outcome) => {
                // Whoever asked may be gone.
                let _ = waiting.done.send(outcome);
                Ok(())
            }
            Err(source) => {
                let _ = waiting.done.send(Err(malformed(source)));
                Err(malformed(source))
            }
        }
    }
}

/// The error that ended the connection, once more for everyone who waited.
fn like(ended: &Error, node: NodeId) -> Error {
    match ended {
        Error::Refused { goodbye, .. } => Error::Refused {
            node,
            goodbye: goodbye.clone(),
        },
        Error::Timeout { what, limit, .. } => Error::Timeout {
            node,
            what,
            limit: *limit,
        },
        Error::Protocol { source, .. } => Error::Protocol {
            node,
            source: *source,
        },
        other => Error::Broken {
            node,
            source: io::Error::new(io::ErrorKind::BrokenPipe, common::error::chain(other)),
        },
    }
}
