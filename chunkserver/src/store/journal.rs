//! The journal of one disk: what must be durable at once and is small. One task writes it; those who ask together
//! share a sync.
//!
//! A journal file is a sequence of pages, each whole by itself: `tag | version | count | disk | number | notes |
//! checksum`, so that a page torn by a crash costs nothing but itself. The checksum is bound to the disk, the file's
//! number and the page's position. A note is a kind (1 byte) and 16 bytes: 1 tombstone (attempt), 2 epoch (number, 8
//! zero bytes), 3 suspect (attempt).
//!
//! Invariant: notes are applied to the index after the sync that covers them and before their askers are answered, by
//! the task that also turns to the next file. So when it has turned from file N, the index contains all of N, and a
//! checkpoint made then needs N no more.
//!
//! The file is allocated ahead and a new one is made early, so that deletions can be noted down on a full disk (P11).

use bytes::{Buf, BufMut};
use std::sync::Arc;

use common::disk::buffer::AlignedBuf;
use common::disk::{DiskFile, OpenMode, PAGE_BYTES};
use common::ids::{AttemptId, DiskId, Epoch};
use common::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::disk::StoreDisk;
use super::error::Error;
use super::index::Note;
use super::schema::{FORMAT_VERSION, JOURNAL_TAG, PAGE, Unreadable, check_version, place_checksum};

/// A journal file's length: room for about 60,000 notes.
pub(super) const JOURNAL_BYTES: u64 = 1 << 20;

const NAME_PREFIX: &str = "journal-";
const CREATE: &str = "make the next journal";
const HEAD_BYTES: usize = 8 + 2 + 2 + 4 + 16 + 8;
const NOTE_BYTES: usize = 17;
const NOTES_PER_PAGE_MAX: usize = (PAGE_BYTES - HEAD_BYTES - 8) / NOTE_BYTES;
/// Notes that share one sync, at most.
const NOTES_PER_SYNC_MAX: usize = 10_000;
const REQUESTS_WAITING_MAX: usize = 256;

/// A handle to the task.
#[derive(Clone)]
pub(super) struct Journal {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Append(Vec<Note>, oneshot::Sender<Result<(), Error>>),
    Turn(oneshot::Sender<u64>),
}

impl Journal {
    /// Begins to write journals of `disk`, until `stop`.
    pub(super) fn start(disk: Arc<StoreDisk>, stop: Shutdown) -> (Self, JoinHandle<()>) {
        let (requests, inbox) = mpsc::channel(REQUESTS_WAITING_MAX);
        let task = Task { disk, current: None };
        (Self { requests }, tokio::spawn(task.run(inbox, stop)))
    }

    /// Makes `notes` durable and applies them to the index.
    ///
    /// # Errors
    /// The disk is poisoned or full; whether the notes are durable is unknown then, and they are not applied.
    pub(super) async fn append(&self, notes: Vec<Note>) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Append(notes, answer);
        self.requests.send(request).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Turns to the next file; its number. The index now contains all notes of lower numbers.
    pub(super) async fn turn(&self) -> Result<u64, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Request::Turn(answer))
            .await
            .map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)
    }
}

struct Task {
    disk: Arc<StoreDisk>,
    current: Option<Current>,
}

struct Current {
    number: u64,
    file: DiskFile,
    position: u64,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, stop: Shutdown) {
        while let Some(request) = stop.guard(inbox.recv()).await.flatten() {
            let mut notes = Vec::new();
            let mut answers = Vec::new();
            let mut turn = None;
            let mut next = Some(request);
            while let Some(request) = next.take() {
                match request {
                    Request::Append(more, answer) => {
                        notes.extend(more);
                        answers.push(answer);
                        if notes.len() < NOTES_PER_SYNC_MAX {
                            next = inbox.try_recv().ok();
                        }
                    }
                    Request::Turn(answer) => turn = Some(answer),
                }
            }
            if !answers.is_empty() {
                let outcome = self.append(&notes).await;
                for answer in answers {
                    // Who no longer waits finds the notes in the index.
                    let _ = answer.send(outcome.as_ref().copied().map_err(Error::shared));
                }
            }
            if let Some(answer) = turn {
                let _ = answer.send(self.turn().await);
            }
        }
    }

    async fn append(&mut self, notes: &[Note]) -> Result<(), Error> {
        if let Some(reason) = self.disk.refusal() {
            let reason = format!("{}: {reason}", self.disk.disk.describe());
            return Err(Error::Unwritable { reason });
        }
        let pages = notes.len().div_ceil(NOTES_PER_PAGE_MAX) as u64;
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.position + pages * PAGE > JOURNAL_BYTES)
        {
            self.turn().await;
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => self.create().await?,
        };
        let current = self.current.insert(current);
        let id = self.disk.owner.disk;
        let mut buffer = AlignedBuf::unpooled(pages as usize * PAGE_BYTES);
        let mut offset = current.position;
        for group in notes.chunks(NOTES_PER_PAGE_MAX) {
            // There is room: it was counted above.
            let _ = buffer.extend(&encode_page(id, current.number, offset, group));
            offset += PAGE;
        }
        current
            .file
            .write(current.position, vec![buffer.freeze()])
            .await?;
        current.file.sync().await?;
        current.position = offset;
        self.disk.index.write(|content| {
            for note in notes {
                content.apply(self.disk.number, *note);
            }
        });
        Ok(())
    }

    async fn turn(&mut self) -> u64 {
        if let Some(current) = self.current.as_ref().filter(|current| current.position == 0) {
            return current.number;
        }
        self.current = None;
        let number = self.disk.next_journal();
        match self.create().await {
            Ok(current) => self.current = Some(current),
            Err(error) => self.disk.log_failure(CREATE, &error),
        }
        number
    }

    async fn create(&mut self) -> Result<Current, Error> {
        let number = self.disk.next_journal();
        let disk = &self.disk.disk;
        let file = match disk.open(&file_name(number), OpenMode::Create).await {
            Ok(file) => file,
            // Left by a try that failed half way.
            Err(common::disk::Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                disk.open(&file_name(number), OpenMode::Update).await?
            }
            Err(error) => return Err(error.into()),
        };
        file.allocate(0, JOURNAL_BYTES).await?;
        disk.sync_directory().await?;
        self.disk.raise_next_journal(number + 1);
        self.disk.log_success(CREATE);
        self.disk.space.add(JOURNAL_BYTES);
        Ok(Current {
            number,
            file,
            position: 0,
        })
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:016x}")
}

pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

fn seed(disk: DiskId, number: u64) -> u64 {
    let mut bytes = &disk.bytes()[..];
    bytes.get_u64() ^ bytes.get_u64().rotate_left(1) ^ number.rotate_left(32)
}

fn encode_page(disk: DiskId, number: u64, offset: u64, notes: &[Note]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAGE_BYTES);
    out.put_slice(&JOURNAL_TAG);
    out.put_u16(FORMAT_VERSION);
    out.put_u16(notes.len() as u16);
    out.put_u32(0);
    out.put_slice(disk.bytes());
    out.put_u64(number);
    for note in notes {
        match note {
            Note::Tombstone(attempt) => {
                out.put_u8(1);
                out.put_slice(&attempt.to_bytes());
            }
            Note::Epoch(epoch) => {
                out.put_u8(2);
                out.put_u64(epoch.get());
                out.put_u64(0);
            }
            Note::Suspect(attempt) => {
                out.put_u8(3);
                out.put_slice(&attempt.to_bytes());
            }
        }
    }
    out.resize(PAGE_BYTES - 8, 0);
    let sum = place_checksum(seed(disk, number), offset, &out);
    out.put_u64(sum);
    out
}

/// The notes of one page of the journal `number`.
pub(super) fn decode_page(
    disk: DiskId,
    number: u64,
    offset: u64,
    page: &[u8],
) -> Result<Vec<Note>, Unreadable> {
    let (body, mut sum) = page.split_at_checked(PAGE_BYTES - 8).ok_or(Unreadable::Damaged)?;
    let mut rest = body.strip_prefix(&JOURNAL_TAG).ok_or(Unreadable::Damaged)?;
    if sum.get_u64() != place_checksum(seed(disk, number), offset, body) {
        return Err(Unreadable::Damaged);
    }
    check_version(rest.get_u16())?;
    let count = usize::from(rest.get_u16());
    let notes = rest
        .get(4 + 16 + 8..)
        .unwrap_or_default()
        .chunks_exact(NOTE_BYTES);
    notes.take(count).map(decode_note).collect()
}

fn decode_note(mut bytes: &[u8]) -> Result<Note, Unreadable> {
    let kind = bytes.get_u8();
    let mut epoch = bytes;
    let mut attempt = [0; 16];
    bytes.copy_to_slice(&mut attempt);
    let attempt = AttemptId::from_bytes(attempt);
    match kind {
        1 => Ok(Note::Tombstone(attempt)),
        2 => Ok(Note::Epoch(Epoch::new(epoch.get_u64()))),
        3 => Ok(Note::Suspect(attempt)),
        _ => Err(Unreadable::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_round_trip_in_their_place_alone() {
        let disk = DiskId::new([7; 16]);
        let attempt = |sequence| AttemptId::new(Epoch::new(1), sequence);
        let mut notes: Vec<Note> = (2..NOTES_PER_PAGE_MAX as u64)
            .map(|at| Note::Tombstone(attempt(at)))
            .collect();
        notes.push(Note::Epoch(Epoch::new(9)));
        notes.push(Note::Suspect(attempt(5)));
        let page = encode_page(disk, 3, 4096, &notes);
        assert_eq!(page.len(), PAGE_BYTES);
        assert_eq!(decode_page(disk, 3, 4096, &page), Ok(notes));
        assert!(decode_page(disk, 3, 8192, &page).is_err());
        assert!(decode_page(disk, 4, 4096, &page).is_err());
        assert!(decode_page(DiskId::new([8; 16]), 3, 4096, &page).is_err());
        for at in (0..PAGE_BYTES).step_by(7) {
            let mut damaged = page.clone();
            damaged[at] ^= 1;
            assert!(decode_page(disk, 3, 4096, &damaged).is_err(), "byte {at}");
        }
        assert_eq!(parse_name(&file_name(77)), Some(77));
    }
}
