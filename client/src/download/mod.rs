//! Download: the bytes of one version, each of them verified, from whichever copies are good.
//!
//! The journey: [`manifest`] finds the version and where its chunks are, [`pieces`] cuts what is wanted, [`fetch`] gets
//! each piece from a copy that gives it, [`by_chunk`] or [`in_order`] checks digests and delivers.
//!
//! Invariant (P3): nothing is delivered that does not match the checksums made where it was written; a file takes its
//! name only when the whole has the digest of the version.

mod by_chunk;
mod fetch;
mod in_order;
mod manifest;
mod options;
mod part;
mod pieces;
mod place;
mod placement;
mod range;
mod sink;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::path::RemotePath;
use common::units::ByteCount;
use tokio::io::AsyncWrite;

pub use options::{DownloadOptions, DownloadReport};
pub use place::is_stdout;
pub(crate) use placement::placement;
pub use placement::{PlacedChunk, PlacedCopy, Placement, ReplicaState};
pub use range::{ByteRange, ParseRangeError};
pub use sink::Sink;

use crate::error::Error;
use crate::routing::Router;
use fetch::Fetcher;
use manifest::Version;
use part::{Part, PartGuard};
use place::Place;
use range::Extent;
use sink::Target;

/// One download from beginning to end.
pub(crate) async fn run(
    router: &Arc<Router>,
    path: &RemotePath,
    sink: Sink,
    options: DownloadOptions,
) -> Result<DownloadReport, Error> {
    let shutdown = options.shutdown.clone();
    let work = Box::pin(carry_out(router, path, sink, options));
    shutdown.guard(work).await.unwrap_or(Err(Error::Interrupted))
}

async fn carry_out(
    router: &Arc<Router>,
    path: &RemotePath,
    sink: Sink,
    options: DownloadOptions,
) -> Result<DownloadReport, Error> {
    let version = Arc::new(manifest::find(router, path, options.version).await?);
    let extent = match options.range {
        None => Extent::whole(version.size),
        Some(range) => range.of(version.size).ok_or_else(|| {
            let size = ByteCount::new(version.size);
            Error::Invalid(format!(
                "the range begins beyond the end of {path}, which has {size}"
            ))
        })?,
    };
    // One chunk tells how long all are.
    let chunk_bytes = match version.size {
        0 => 1,
        _ => version.page(0, 1).await?.chunk_bytes,
    };
    let touched = extent
        .end
        .div_ceil(chunk_bytes)
        .saturating_sub(extent.start / chunk_bytes);
    options.progress.set_total(extent.length(), touched);
    let fetcher = Fetcher::new(Arc::clone(&version), options.progress.clone());
    let job = Job {
        fetcher,
        extent,
        chunk_bytes,
        resume: options.resume && options.range.is_none(),
    };
    let (digest_verified, resumed) = job.deliver(sink).await?;
    Ok(DownloadReport {
        entry: version.entry.clone(),
        delivered: ByteCount::new(extent.length()),
        resumed: ByteCount::new(resumed),
        digest_verified,
        bad: job.fetcher.bad_copies(),
    })
}

struct Job {
    fetcher: Fetcher,
    extent: Extent,
    chunk_bytes: u64,
    resume: bool,
}

impl Job {
    fn version(&self) -> &Version {
        &self.fetcher.version
    }

    fn is_whole(&self) -> bool {
        self.extent == Extent::whole(self.version().size)
    }

    /// Whether the digest of the whole was verified, and how much was found rather than fetched.
    async fn deliver(&self, sink: Sink) -> Result<(bool, u64), Error> {
        match sink.0 {
            Target::Writer(output) => self.in_order(output).await,
            Target::Discard => self.by_chunk(None).await,
            Target::File(path) => {
                let clock = &self.version().router.settings.seams.clock;
                match place::find(path, clock).await? {
                    Place::File(path) => self.to_file(path).await,
                    Place::Through(through) => {
                        let (output, finish) = through.split();
                        let outcome = self.in_order(output).await?;
                        blocking(finish).await?;
                        Ok(outcome)
                    }
                }
            }
        }
    }

    async fn in_order(
        &self,
        output: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
    ) -> Result<(bool, u64), Error> {
        let digest = in_order::write_all(&self.fetcher, self.chunk_bytes, self.extent, output).await?;
        self.judge(digest)?;
        Ok((digest.is_some(), 0))
    }

    async fn to_file(&self, path: PathBuf) -> Result<(bool, u64), Error> {
        let guard = self.open_part(path).await?;
        match self.by_chunk(Some(guard.part())).await {
            Ok(outcome) => {
                blocking(move || guard.finish()).await?;
                Ok(outcome)
            }
            Err(error) => {
                guard.failed(&error);
                Err(error)
            }
        }
    }

    async fn by_chunk(&self, part: Option<Arc<Part>>) -> Result<(bool, u64), Error> {
        let fetched =
            by_chunk::fetch_all(&self.fetcher, self.chunk_bytes, self.extent, part, self.resume).await?;
        let count = self.version().size.div_ceil(self.chunk_bytes);
        let digest = fetched.digest(count).filter(|_| self.is_whole());
        self.judge(digest)?;
        Ok((digest.is_some(), fetched.resumed))
    }

    fn judge(&self, digest: Option<common::ids::Digest>) -> Result<(), Error> {
        let wrong = self.is_whole() && digest != Some(self.version().digest);
        if wrong {
            let path = self.version().path.clone();
            return Err(Error::WrongDigest { path });
        }
        Ok(())
    }

    async fn open_part(&self, target: PathBuf) -> Result<PartGuard, Error> {
        let tag = if self.resume {
            part_tag(&self.version().path)
        } else {
            let random: [u8; 4] = self.version().router.settings.seams.random.bytes();
            format!("{:08x}", u32::from_be_bytes(random))
        };
        let (keep, length) = (self.resume, self.extent.length());
        blocking(move || {
            let guard = Part::open(&target, &tag, keep)?;
            guard.part().set_length(length)?;
            Ok(guard)
        })
        .await
    }
}

/// The same for the same file, so that a later process finds what an interrupted one left. What it holds of another
/// version is used as far as chunks are the same, and written over otherwise.
fn part_tag(path: &RemotePath) -> String {
    let hash = blake3::hash(path.as_str().as_bytes());
    hash.to_hex().chars().take(8).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::of_task)?
}

/// The part files that resumable downloads to `target` have left behind, for whoever wants to clean up.
///
/// # Errors
/// The directory cannot be read.
pub fn leftover_parts(target: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let begins = part::stem(target.file_name().unwrap_or_default());
    let entries = std::fs::read_dir(directory).map_err(|error| Error::local("read", directory, error))?;
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(names
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.starts_with(begins.as_encoded_bytes()) && name.ends_with(b".part")
        })
        .collect())
}
