//! What happens to a local file while it is uploaded, beside its being read.
//!
//! Invariant: an upload is sealed only when all bytes that were sent were in the file at one and the same time. A file
//! that nothing happened to needs no proof. One that grew, or whose mode, links or name changed, is read again: where
//! every chunk is what was sent, all of them were there when the first was read again. Any other change ends the upload.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::book::Book;
use super::repeatable::Repeatable;
use super::send::{Sending, Tally};
use super::stamp::Change;
use super::{chunks_of, plans, work};
use crate::error::Error;

/// How often what was appended is sent before the rest is left out: a file may grow faster than it is sent.
const ROUNDS_MAX: u32 = 4;

/// Sends what was appended to the file since it was opened.
pub(super) async fn follow(
    sending: &Sending,
    tally: &mut Tally,
    source: &Arc<Repeatable>,
) -> Result<(), Error> {
    for _ in 0..ROUNDS_MAX {
        match source.look().await? {
            Some((_, now)) if now.stamp.size > source.size() => {
                extend(sending, tally, source, now.stamp.size).await?;
            }
            _ => break,
        }
    }
    Ok(())
}

/// Sends the chunks from the end of what was sent on, up to `size`.
async fn extend(
    sending: &Sending,
    tally: &mut Tally,
    source: &Arc<Repeatable>,
    size: u64,
) -> Result<(), Error> {
    let session = &sending.session;
    let chunk_bytes = session.chunk_bytes;
    let count = chunks_of(size, chunk_bytes)?;
    let first = u32::try_from(source.size() / chunk_bytes).unwrap_or(u32::MAX);
    tracing::info!(upload = %session.upload, bytes = size - source.size(), "the file has grown");
    source.grow_to(size);
    // The last chunk was not full: it is sent again with what has joined it.
    if let Some(stored) = tally.stored.remove(&first) {
        sending.progress.undone(stored.end.length);
        sending.progress.chunk_undone();
    }
    sending.progress.set_total(size, u64::from(count));
    let stored: BTreeSet<u32> = (0..first).collect();
    let ahead = session.router.settings.limits.plans_ahead_max;
    let more = Sending {
        plans: plans::start(session, Book::new(chunk_bytes, Some(size), ahead, stored)),
        known: Arc::default(),
        ..sending.clone()
    };
    let works = work::parts(source, chunk_bytes, first..count, &session.router.buffers);
    more.send_all(works, tally).await
}

/// Fails where what was sent was never the content of the file.
pub(super) async fn check(sending: &Sending, tally: &Tally, source: &Arc<Repeatable>) -> Result<(), Error> {
    let Some((change, now)) = source.look().await? else {
        return Ok(());
    };
    match change {
        Change::None => return Ok(()),
        Change::Content => return Err(source.changed()),
        Change::Touched | Change::Grown => {}
    }
    tracing::info!(upload = %sending.session.upload, ?change, "the file is read again");
    let session = &sending.session;
    let indices = tally.stored.keys().copied();
    let mut works = work::parts(source, session.chunk_bytes, indices, &session.router.buffers);
    while let Some(work) = works.next().await {
        let work = work?;
        let sent = tally.stored.get(&work.index).map(|stored| stored.end);
        if sent != Some(work.source.examine().await?) {
            return Err(source.changed());
        }
    }
    source.accept(now);
    Ok(())
}
