//! The reading half of a connection: knows which requests are under way and hands frames to their tasks.
//!
//! Invariant: a frame of a request that is not under way is skipped without complaint, because an answer that ended a
//! request may cross the frames which the other side still sent for it. What breaks the protocol ends the connection,
//! with a goodbye that says why. When the reader ends, unfinished puts lose their inbox and unfinished gets are
//! stopped; puts that have all their blocks go on to their end, heard or not.

use std::collections::HashMap;
use std::sync::Arc;

use common::error::Kind;
use common::ids::NodeId;
use common::shutdown::Shutdown;
use proto::bulk::activity::{Activity, while_moving};
use proto::bulk::frame::{DATA_BYTES_MAX, DataHead, FrameType, Malformed, RequestNumber};
use proto::bulk::message::{Failure, GetRequest, Goodbye, PutBegin, PutEnd};
use proto::bulk::transport::{self, Frame, FrameReader};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::answers::Answers;
use super::failure;
use super::plane::DataPlane;
use crate::read_path;
use crate::write_path::{self, Blocks, Intake};

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// Anyone; what they may do stands in their grants.
    Client,
    /// A node of this cluster, as its certificate and its hello say.
    Node(NodeId),
}

/// A connection, and what is under way on it.
pub(super) struct Connection<R> {
    plane: DataPlane,
    peer: Peer,
    activity: Activity,
    reader: FrameReader<R>,
    answers: Answers,
    /// Puts whose blocks are still due.
    intakes: HashMap<RequestNumber, Intake>,
    /// Gets, to be stopped when nobody wants them any more.
    gets: HashMap<RequestNumber, AbortHandle>,
    /// Places for requests under way.
    places: Arc<Semaphore>,
}

/// Why a connection ends.
enum End {
    /// The other side closed it.
    Closed,
    /// The stream failed.
    Broken(transport::Error),
    /// This side ends it and says why.
    Goodbye(Goodbye),
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        End::Goodbye(Goodbye::new(Kind::Invalid, "E_MALFORMED", malformed.to_string()))
    }
}

impl From<transport::Error> for End {
    fn from(error: transport::Error) -> Self {
        match error {
            // There is nobody to say it to.
            transport::Error::Malformed(Malformed::Truncated) => End::Broken(error),
            transport::Error::Malformed(malformed) => malformed.into(),
            transport::Error::Io(_) => End::Broken(error),
        }
    }
}

impl<R: AsyncRead + Unpin> Connection<R> {
    pub(super) fn new(
        plane: DataPlane,
        peer: Peer,
        activity: Activity,
        reader: FrameReader<R>,
        answers: Answers,
    ) -> Self {
        let places = plane.settings().requests_per_connection_max as usize;
        Self {
            plane,
            peer,
            activity,
            reader,
            answers,
            intakes: HashMap::new(),
            gets: HashMap::new(),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Reads until the connection ends, `gone` is given (nobody takes answers any more) or `shutdown`.
    pub(super) async fn run(mut self, gone: &Shutdown, shutdown: &Shutdown) {
        let telling = tell_progress(self.plane.clone(), self.activity.clone(), self.answers.clone());
        let end = tokio::select! {
            end = self.read_all() => end,
            () = telling => End::Closed,
            () = gone.triggered() => End::Closed,
            () = shutdown.triggered() => {
                End::Goodbye(Goodbye::new(Kind::Retry, "E_SHUTTING_DOWN", "this node is shutting down"))
            }
        };
        self.intakes.clear();
        for get in self.gets.values() {
            get.abort();
        }
        match end {
            End::Closed => {}
            End::Broken(error) => {
                let error = common::error::chain(&error);
                tracing::debug!(peer = ?self.peer, %error, "a data connection broke");
            }
            End::Goodbye(goodbye) => {
                tracing::debug!(peer = ?self.peer, code = goodbye.code, "a data connection is ended");
                self.answers.goodbye(goodbye).await;
            }
        }
    }

    async fn read_all(&mut self) -> End {
        loop {
            let frame = match self.next().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::Closed,
                Err(end) => return end,
            };
            if let Err(end) = self.take(frame).await {
                return end;
            }
        }
    }

    /// The next frame, within the time that the requests under way leave for it.
    async fn next(&mut self) -> Result<Option<Frame>, End> {
        let plane = self.plane.clone();
        let settings = plane.settings();
        let places = settings.requests_per_connection_max as usize;
        let (idle, progress) = (settings.idle_timeout.get(), settings.progress_timeout.get());
        loop {
            self.intakes.retain(|_, intake| !intake.is_over());
            self.end_overdue().await;
            let due = !self.intakes.is_empty();
            let limit = if due { progress } else { idle };
            // A frame that trickles has its limit, too.
            let longest = match due {
                true => settings.allowance(DATA_BYTES_MAX as u64),
                false => idle.saturating_mul(1000),
            };
            let count = || self.activity.read();
            let next = while_moving(plane.clock(), limit, count, self.reader.next(), || {});
            if let Some(next) = plane.clock().timeout(longest, next).await.flatten() {
                return Ok(next?);
            }
            if due {
                if self.intakes.values().any(|intake| !intake.is_over()) {
                    return Err(self.too_slow());
                }
                continue;
            }
            // Requests that wait for this node, not for the other side, are no reason to end.
            if self.places.available_permits() == places {
                let message = format!("no request for {idle:?}");
                return Err(End::Goodbye(Goodbye::new(Kind::Retry, "E_IDLE", message)));
            }
        }
    }

    /// Small puts whose only frame does not come.
    async fn end_overdue(&mut self) {
        let now = self.plane.clock().moment();
        let overdue: Vec<RequestNumber> = self
            .intakes
            .iter()
            .filter(|(_, intake)| intake.is_overdue(now))
            .map(|(request, _)| *request)
            .collect();
        for request in overdue {
            self.intakes.remove(&request);
            let failure = failure::too_slow(self.plane.me(), "the chunk did not arrive in time");
            self.fail(request, failure).await;
        }
    }

    fn too_slow(&self) -> End {
        let limit = self.plane.settings().progress_timeout.get();
        let message = format!("nothing of the next block arrived within {limit:?}");
        End::Goodbye(Goodbye::new(Kind::Retry, "E_TOO_SLOW", message))
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        match frame.frame_type {
            FrameType::PutBegin => self.begin_put(frame.request, frame.decode()?).await,
            FrameType::Data => self.take_blocks(&frame).await,
            FrameType::PutEnd => self.end_put(frame.request, frame.decode()?).await,
            FrameType::Cancel => {
                self.intakes.remove(&frame.request);
                if let Some(get) = self.gets.remove(&frame.request) {
                    get.abort();
                }
                Ok(())
            }
            FrameType::Get => self.begin_get(frame.request, frame.decode()?).await,
            FrameType::Goodbye => Err(End::Closed),
            FrameType::Hello
            | FrameType::Progress
            | FrameType::Stored
            | FrameType::GetEnd
            | FrameType::Failed => Err(Malformed::Unexpected(frame.frame_type).into()),
        }
    }

    async fn begin_put(&mut self, request: RequestNumber, begin: PutBegin) -> Result<(), End> {
        if self.intakes.contains_key(&request) {
            return Err(Malformed::Field("request").into());
        }
        let intake = match self.place() {
            Ok(place) => {
                let motion = self.answers.motion();
                write_path::admit(&self.plane, self.peer, begin, place, motion).await
            }
            Err(busy) => Err(busy),
        };
        match intake {
            Ok(intake) => {
                let started = intake.start(&self.plane, request, &self.answers);
                self.intakes.insert(request, started);
            }
            Err(failure) => self.fail(request, failure).await,
        }
        Ok(())
    }

    async fn take_blocks(&mut self, frame: &Frame) -> Result<(), End> {
        let Some(intake) = self.intakes.get_mut(&frame.request) else {
            return Ok(());
        };
        let head = DataHead::decode(&frame.body)?;
        let mut buffer = match intake.buffer(&self.plane).await {
            Ok(Some(buffer)) => buffer,
            Ok(None) => {
                // Its task is over and has said why.
                self.intakes.remove(&frame.request);
                return Ok(());
            }
            Err(failure) => {
                self.intakes.remove(&frame.request);
                self.fail(frame.request, failure).await;
                return Ok(());
            }
        };
        let Some(room) = buffer.room(frame.data_length) else {
            let failure = failure::shape(self.plane.me(), "more bytes than the hint promised");
            self.intakes.remove(&frame.request);
            self.fail(frame.request, failure).await;
            return Ok(());
        };
        let (settings, clock) = (self.plane.settings(), self.plane.clock());
        let (limit, longest) = (
            settings.progress_timeout.get(),
            settings.allowance(frame.data_length as u64),
        );
        let count = || self.activity.read();
        let reading = while_moving(clock, limit, count, self.reader.data(room), || {});
        match clock.timeout(longest, reading).await.flatten() {
            Some(read) => read?,
            None => return Err(self.too_slow()),
        }
        self.plane
            .counters()
            .received_bytes
            .inc_by(frame.data_length as u64);
        let blocks = Blocks {
            first_block: head.first_block,
            checksums: head.checksums,
            data: buffer.freeze(frame.data_length),
        };
        intake.blocks(blocks).await;
        Ok(())
    }

    async fn end_put(&mut self, request: RequestNumber, end: PutEnd) -> Result<(), End> {
        if let Some(intake) = self.intakes.remove(&request)
            && let Err(failure) = intake.end(end, &self.plane, request, &self.answers).await
        {
            self.fail(request, failure).await;
        }
        Ok(())
    }

    async fn begin_get(&mut self, request: RequestNumber, get: GetRequest) -> Result<(), End> {
        self.gets.retain(|_, get| !get.is_finished());
        if self.gets.contains_key(&request) {
            return Err(Malformed::Field("request").into());
        }
        let admitted = self.place().and_then(|place| {
            let order = read_path::admit(&self.plane, self.peer, &get)?;
            Ok((place, order))
        });
        match admitted {
            Ok((place, order)) => {
                let (plane, answers) = (self.plane.clone(), self.answers.clone());
                let task = tokio::spawn(async move {
                    order.run(&plane, request, &answers).await;
                    drop(place);
                });
                self.gets.insert(request, task.abort_handle());
            }
            Err(failure) => self.fail(request, failure).await,
        }
        Ok(())
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| {
            self.plane.busy(
                "E_REQUESTS_BUSY",
                "too many requests are under way on this connection",
            )
        })
    }

    async fn fail(&mut self, request: RequestNumber, failure: Failure) {
        self.plane.counters().count_failure(failure.kind);
        self.answers.failed(request, failure).await;
    }
}

/// Tells the other side from time to time that payload arrives, or that a request waits for its turn. Never ends.
async fn tell_progress(plane: DataPlane, activity: Activity, answers: Answers) {
    let period = plane.settings().progress_period.get();
    let motion = answers.motion();
    let mut told = (activity.payload(), motion.steps());
    loop {
        plane.clock().sleep(period).await;
        let now = (activity.payload(), motion.steps());
        if now != told || motion.has_queued() {
            told = now;
            answers.progress();
        }
    }
}
