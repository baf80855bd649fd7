//! Finds records in a segment by reading it: all of them, whatever else the file holds.
//!
//! Invariant: a record is found whole only if header, trailer and every block agree; whatever is not is stepped over
//! page by page, so that damage costs the record it is in and none that follow (P5).

use std::collections::BTreeSet;

use common::checksum::block_checksum;
use common::disk::buffer::AlignedBuf;
use common::disk::{DiskFile, PAGE_BYTES};
use common::ids::{AttemptId, UploadNumber, VersionId};
use common::units::BLOCK_BYTES;

use super::error::Error;
use super::record::{Header, Layout, Trailer, trailer_bytes};
use super::schema::{BLOCK, BLOCKS_MAX, PAGE, RECORD_TAG, TRAILER_TAG, Unreadable};
use super::segment::SegmentName;

/// Read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// A record, or what is left of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) attempt: AttemptId,
    pub(super) upload: UploadNumber,
    pub(super) version: VersionId,
    pub(super) index: u32,
    pub(super) layout: Layout,
    /// 0 where it is not known.
    pub(super) length: u64,
    pub(super) start: u64,
    /// Behind the record; where that is not known, behind what was recognised.
    pub(super) end: u64,
    pub(super) whole: bool,
}

/// What a scan found.
#[derive(Default, Debug)]
pub(super) struct Scan {
    /// In order of position.
    pub(super) found: Vec<Found>,
    /// All before this position was durable before the last write, by the word of the headers.
    pub(super) settled: u64,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Pages that the medium would not give, by position.
    pub(super) unreadable: BTreeSet<u64>,
}

/// Scans the segment `name` from `from` (a page boundary) to its end.
///
/// # Errors
/// The disk cannot be read at all, or not for the moment, or a record was written by a newer build.
pub(super) async fn scan(file: &DiskFile, name: SegmentName, from: u64) -> Result<Scan, Error> {
    let mut scanner = Scanner {
        name,
        length: file.length().await?,
        window: Window::new(file.clone()),
    };
    let mut scan = Scan::default();
    let mut at = from;
    while at < scanner.length {
        at = match scanner.look(at, &mut scan.settled).await? {
            Some(found) => {
                let end = found.end;
                scan.found.push(found);
                end
            }
            None => at + PAGE,
        };
    }
    scan.bytes = scanner.window.bytes;
    scan.unreadable = scanner.window.unreadable;
    Ok(scan)
}

struct Scanner {
    name: SegmentName,
    length: u64,
    window: Window,
}

impl Scanner {
    /// What begins, or ends, at the page `at`.
    async fn look(&mut self, at: u64, settled: &mut u64) -> Result<Option<Found>, Error> {
        let page = self.window.get(at, PAGE_BYTES).await?;
        if page.starts_with(&RECORD_TAG) {
            match Header::decode(page, self.name.place(at)) {
                Ok(header) => {
                    *settled = (*settled).max(header.settled);
                    return self.record(header, at).await.map(Some);
                }
                Err(Unreadable::Newer(version)) => return Err(self.newer(version)),
                Err(Unreadable::Damaged) => return Ok(None),
            }
        }
        if page.starts_with(&TRAILER_TAG) {
            let Some(start) = Trailer::announced_offset(page).filter(|start| *start < at) else {
                return Ok(None);
            };
            // Its header did not decode, or the trailer would have been found from there.
            return Ok(self
                .trailer(at, start)
                .await?
                .map(|trailer| found(&trailer, start, false)));
        }
        Ok(None)
    }

    async fn record(&mut self, header: Header, start: u64) -> Result<Found, Error> {
        match self.find_trailer(&header, start).await? {
            Some(trailer) => {
                let whole = self.payload_is_whole(&trailer, start).await?;
                Ok(found(&trailer, start, whole))
            }
            None => Ok(Found {
                attempt: header.meta.attempt,
                upload: header.meta.upload,
                version: header.meta.version,
                index: header.meta.index,
                layout: header.layout,
                length: 0,
                start,
                end: start + PAGE,
                whole: false,
            }),
        }
    }

    /// Where the header's length says first; a record that was written as it came may have ended earlier.
    async fn find_trailer(&mut self, header: &Header, start: u64) -> Result<Option<Trailer>, Error> {
        let fits = |trailer: &Trailer| {
            trailer.attempt == header.meta.attempt
                && trailer.layout == header.layout
                && trailer.length <= header.length_max
        };
        let last = start + header.layout.trailer_at(header.length_max);
        if let Some(trailer) = self.trailer(last, start).await?.filter(fits) {
            return Ok(Some(trailer));
        }
        if header.layout == Layout::Packed {
            return Ok(None);
        }
        let mut at = start + 2 * PAGE;
        while at < last.min(self.length) {
            let page = self.window.get(at, PAGE_BYTES).await?;
            if page.starts_with(&RECORD_TAG) && Header::decode(page, self.name.place(at)).is_ok() {
                return Ok(None);
            }
            if page.starts_with(&TRAILER_TAG)
                && let Some(trailer) = self.trailer(at, start).await?.filter(fits)
            {
                return Ok(Some(trailer));
            }
            at += PAGE;
        }
        Ok(None)
    }

    /// The trailer at `at` of the record that begins at `start`, if there is one and it is where it belongs.
    async fn trailer(&mut self, at: u64, start: u64) -> Result<Option<Trailer>, Error> {
        let from = at / PAGE * PAGE;
        let skip = (at - from) as usize;
        let most = skip + trailer_bytes(BLOCKS_MAX as usize);
        let bytes = self.window.get(from, most.next_multiple_of(PAGE_BYTES)).await?;
        let bytes = bytes.get(skip..).unwrap_or_default();
        match Trailer::decode(bytes, self.name.place(start)) {
            Ok(trailer) => {
                let belongs = start + trailer.layout.trailer_at(trailer.length) == at;
                Ok(belongs.then_some(trailer))
            }
            Err(Unreadable::Newer(version)) => Err(self.newer(version)),
            Err(Unreadable::Damaged) => Ok(None),
        }
    }

    async fn payload_is_whole(&mut self, trailer: &Trailer, start: u64) -> Result<bool, Error> {
        let payload = start + trailer.layout.payload_at();
        for (index, stated) in trailer.checksums.iter().enumerate() {
            let offset = index as u64 * BLOCK;
            let at = payload + offset;
            let from = at / PAGE * PAGE;
            let skip = (at - from) as usize;
            let length = (trailer.length - offset).min(BLOCK) as usize;
            let bytes = self
                .window
                .get(from, (skip + BLOCK_BYTES).next_multiple_of(PAGE_BYTES))
                .await?;
            let Some(block) = bytes.get(skip..skip + length) else {
                return Ok(false);
            };
            if block_checksum(trailer.attempt, index as u32, block) != *stated {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn newer(&self, version: u16) -> Error {
        Error::Directory {
            path: self.window.file.name().into(),
            reason: format!(
                "it has records of format {version}, which a newer build wrote; run the newer version"
            ),
        }
    }
}

fn found(trailer: &Trailer, start: u64, whole: bool) -> Found {
    Found {
        attempt: trailer.attempt,
        upload: trailer.upload,
        version: trailer.version,
        index: trailer.index,
        layout: trailer.layout,
        length: trailer.length,
        start,
        end: start + trailer.layout.record_bytes(trailer.length),
        whole,
    }
}

/// A file seen through one buffer that moves forward with the scan.
struct Window {
    file: DiskFile,
    start: u64,
    buffer: Option<AlignedBuf>,
    bytes: u64,
    unreadable: BTreeSet<u64>,
}

impl Window {
    fn new(file: DiskFile) -> Self {
        Self {
            file,
            start: 0,
            buffer: None,
            bytes: 0,
            unreadable: BTreeSet::new(),
        }
    }

    /// Up to `length` bytes at `at`, a page boundary; fewer at the end of the file.
    async fn get(&mut self, at: u64, length: usize) -> Result<&[u8], Error> {
        let held = self.buffer.as_ref().map_or(0, AlignedBuf::len) as u64;
        if at < self.start || at + length as u64 > self.start + held {
            self.fill(at).await?;
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        let rest = self
            .buffer
            .as_ref()
            .and_then(|buffer| buffer.as_slice().get(skip..));
        let rest = rest.unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    async fn fill(&mut self, at: u64) -> Result<(), Error> {
        let mut buffer = self
            .buffer
            .take()
            .unwrap_or_else(|| AlignedBuf::unpooled(WINDOW_BYTES));
        buffer.truncate(0);
        self.start = at;
        let buffer = match self.file.read(at, WINDOW_BYTES, buffer).await {
            Ok(buffer) => buffer,
            Err(error) if error.is_of_medium() => self.fill_by_page(at).await?,
            Err(error) => return Err(error.into()),
        };
        self.bytes += buffer.len() as u64;
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Zeros for the pages that cannot be read; an error if none can, here and at the head.
    async fn fill_by_page(&mut self, at: u64) -> Result<AlignedBuf, Error> {
        let mut out = AlignedBuf::unpooled(WINDOW_BYTES);
        let mut readable = 0;
        let mut failure = None;
        while out.len() < WINDOW_BYTES {
            let page = AlignedBuf::unpooled(PAGE_BYTES);
            match self.file.read(at + out.len() as u64, PAGE_BYTES, page).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => {
                    readable += 1;
                    // There is room: pages are counted by the loop.
                    let _ = out.extend(page.as_slice());
                    out.pad(PAGE_BYTES);
                }
                Err(error) if !error.is_of_medium() => return Err(error.into()),
                Err(error) => {
                    self.unreadable.insert(at + out.len() as u64);
                    failure = Some(error);
                    let _ = out.extend(&[0; PAGE_BYTES]);
                }
            }
        }
        match failure {
            Some(error) if readable == 0 && !self.head_is_readable().await => Err(error.into()),
            _ => Ok(out),
        }
    }

    /// Whether the medium gives anything of the file at all: otherwise it is the disk and not a bad sector.
    async fn head_is_readable(&self) -> bool {
        let page = AlignedBuf::unpooled(PAGE_BYTES);
        self.file.read(0, PAGE_BYTES, page).await.is_ok()
    }
}
