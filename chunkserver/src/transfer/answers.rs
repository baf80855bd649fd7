//! The writing half of a connection: one task, fed by a bounded queue.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use common::shutdown::Shutdown;
use common::time::Clock;
use proto::bulk::activity::{Activity, while_moving};
use proto::bulk::frame::RequestNumber;
use proto::bulk::message::{Failure, GetEnd, Goodbye};
use proto::bulk::receipt::Receipt;
use proto::bulk::transport::FrameWriter;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::counters::DataPlaneCounters;
use super::motion::Motion;

/// Answers that wait to be written on one connection; four of them may be data frames of 1 MiB.
const ANSWERS_WAITING_MAX: usize = 4;
/// Gathered answers are written once they are this long, or when no other is waiting.
const GATHERED_BYTES_MAX: usize = 64 << 10;

enum Answer {
    Stored(Box<Receipt>),
    Failed(Failure),
    Blocks {
        first_block: u32,
        checksums: Vec<u64>,
        data: Bytes,
    },
    GetEnd(GetEnd),
    Progress,
    Goodbye(Goodbye),
}

/// A handle to the writer of a connection. When the connection is gone answers are dropped silently: nobody is left
/// to hear them.
#[derive(Clone)]
pub(crate) struct Answers {
    queue: mpsc::Sender<(RequestNumber, Answer)>,
    motion: Motion,
}

impl Answers {
    /// The put is durable.
    pub(crate) async fn stored(&self, request: RequestNumber, receipt: Receipt) {
        self.send(request, Answer::Stored(Box::new(receipt))).await;
    }

    /// The request is over without success.
    pub(crate) async fn failed(&self, request: RequestNumber, failure: Failure) {
        self.send(request, Answer::Failed(failure)).await;
    }

    /// The next blocks of a get; false when nobody is left to hear them.
    pub(crate) async fn blocks(
        &self,
        request: RequestNumber,
        first_block: u32,
        checksums: Vec<u64>,
        data: Bytes,
    ) -> bool {
        let blocks = Answer::Blocks {
            first_block,
            checksums,
            data,
        };
        self.queue.send((request, blocks)).await.is_ok()
    }

    /// All blocks of a get were sent.
    pub(crate) async fn get_end(&self, request: RequestNumber, end: GetEnd) {
        self.send(request, Answer::GetEnd(end)).await;
    }

    /// The connection ends.
    pub(super) async fn goodbye(&self, goodbye: Goodbye) {
        self.send(RequestNumber::CONNECTION, Answer::Goodbye(goodbye))
            .await;
    }

    async fn send(&self, request: RequestNumber, answer: Answer) {
        // An error means that the connection is gone.
        let _ = self.queue.send((request, answer)).await;
    }

    /// What goes on for the requests of the connection.
    pub(crate) fn motion(&self) -> &Motion {
        &self.motion
    }

    /// Payload has arrived, or a request waits for its turn. Where other answers wait, those say enough.
    pub(super) fn progress(&self) {
        let _ = self.queue.try_send((RequestNumber::CONNECTION, Answer::Progress));
    }
}

/// Starts the writer of a connection. It ends when all handles are dropped or the stream fails; the stream is closed
/// then, and `gone` is triggered.
pub(super) fn start<W: AsyncWrite + Unpin + Send + 'static>(
    writer: FrameWriter<W>,
    activity: Activity,
    clock: Clock,
    progress_timeout: Duration,
    counters: DataPlaneCounters,
    gone: Shutdown,
) -> Answers {
    let (answers, waiting) = mpsc::channel(ANSWERS_WAITING_MAX);
    let mut task = Writer {
        writer,
        waiting,
        activity,
        clock,
        progress_timeout,
        counters,
    };
    tokio::spawn(async move {
        if let Err(error) = task.run().await {
            tracing::debug!(%error, "a data connection takes no more answers");
        }
        gone.trigger();
    });
    Answers {
        queue: answers,
        motion: Motion::default(),
    }
}

struct Writer<W> {
    writer: FrameWriter<W>,
    waiting: mpsc::Receiver<(RequestNumber, Answer)>,
    activity: Activity,
    clock: Clock,
    progress_timeout: Duration,
    counters: DataPlaneCounters,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(&mut self) -> io::Result<()> {
        while let Some(first) = self.waiting.recv().await {
            let mut next = Some(first);
            while let Some((request, answer)) = next {
                self.write(request, answer).await?;
                next = self.waiting.try_recv().ok();
                if next.is_none() || self.writer.gathered() > GATHERED_BYTES_MAX {
                    let flushing = self.writer.flush();
                    in_time(&self.activity, &self.clock, self.progress_timeout, flushing).await?;
                }
            }
        }
        let closing = self.writer.close();
        in_time(&self.activity, &self.clock, self.progress_timeout, closing).await
    }

    async fn write(&mut self, request: RequestNumber, answer: Answer) -> io::Result<()> {
        match answer {
            Answer::Stored(receipt) => self.writer.control(request, receipt.as_ref()),
            Answer::Failed(failure) => self.writer.control(request, &failure),
            Answer::GetEnd(end) => self.writer.control(request, &end),
            Answer::Progress => self.writer.progress(),
            Answer::Goodbye(goodbye) => self.writer.control(request, &goodbye),
            Answer::Blocks {
                first_block,
                checksums,
                data,
            } => {
                let writing = self.writer.data(request, first_block, &checksums, &data);
                in_time(&self.activity, &self.clock, self.progress_timeout, writing).await?;
                self.counters.sent_bytes.inc_by(data.len() as u64);
            }
        }
        Ok(())
    }
}

async fn in_time(
    activity: &Activity,
    clock: &Clock,
    limit: Duration,
    work: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let done = while_moving(clock, limit, || activity.moved(), work, || {}).await;
    done.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}
