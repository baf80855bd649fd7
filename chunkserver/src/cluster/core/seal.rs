//! Whether an upload may be sealed with the receipts which its client shows.
//!
//! Invariant (P1, P3): what passes has no hole, no foreign chunk and no chunk of the wrong length, its digest is that of
//! the whole content, and every chunk has the copies it needs on nodes that are live and still have the disk. The
//! client is believed in nothing but its own digest of a single chunk, which nobody here can compute.

use std::collections::BTreeMap;

use common::digest;
use common::error::Kind;
use common::ids::{Digest, DiskId, NodeId, UploadNumber, VersionId};
use proto::CHUNKS_PER_VERSION_MAX;
use proto::bulk::grant::DataPlaneKeys;
use proto::bulk::receipt::{Copy, Receipt};

/// What the upload is, and what its chunks need.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The upload, as the cluster counts it.
    pub number: UploadNumber,
    /// The version it makes.
    pub version: VersionId,
    /// Length of every chunk but the last.
    pub chunk_bytes: u64,
    /// The most bytes that the quota leaves; `None` means no limit.
    pub size_max: Option<u64>,
    /// Copies that every chunk needs on live nodes.
    pub copies_min: usize,
    /// Keys that nodes sign receipts with.
    pub keys: &'a DataPlaneKeys,
    /// Disks that may be named, and whether a copy there counts: it does on a node that is live.
    pub disks: &'a BTreeMap<(NodeId, DiskId), bool>,
}

/// What the client says the content is.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// One receipt for every chunk, in order.
    pub receipts: &'a [Receipt],
    /// Bytes in all.
    pub size: u64,
    /// BLAKE3 of the content.
    pub digest: Digest,
}

/// Chunks as they may be committed, or those that have to be sent again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Each chunk's copies that may be recorded, in order of the receipts.
    Sealable(Vec<Vec<(NodeId, DiskId)>>),
    /// Chunks without their copies.
    NeedChunks(Vec<u32>),
}

/// The claim can never be sealed as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// More chunks than a version may have.
    #[error("{count} chunks are more than a version may have ({CHUNKS_PER_VERSION_MAX})")]
    TooManyChunks {
        /// How many.
        count: usize,
    },
    /// Receipts are not one for every chunk in order.
    #[error("receipt {at} is for chunk {index}")]
    OutOfOrder {
        /// Its place in the request.
        at: u32,
        /// The chunk it is for.
        index: u32,
    },
    /// A receipt of another upload.
    #[error("the receipt for chunk {index} belongs to another upload")]
    Foreign {
        /// The chunk.
        index: u32,
    },
    /// No node said this.
    #[error("the receipt for chunk {index} is not genuine")]
    Forged {
        /// The chunk.
        index: u32,
    },
    /// Chunks do not have the lengths they must have.
    #[error(
        "chunk {index} has {length} bytes; only the last chunk may be shorter than {chunk_bytes}, and none empty"
    )]
    Length {
        /// The chunk.
        index: u32,
        /// Its length.
        length: u64,
        /// What it should be.
        chunk_bytes: u64,
    },
    /// The lengths do not add up.
    #[error("the chunks have {found} bytes in all, not {claimed}")]
    Size {
        /// The sum of the lengths.
        found: u64,
        /// What was said.
        claimed: u64,
    },
    /// More than was reserved.
    #[error("{size} bytes are more than the {size_max} that were reserved")]
    OverReservation {
        /// The size.
        size: u64,
        /// The reservation.
        size_max: u64,
    },
    /// The digest is not that of the chunks.
    #[error("the digest of the content is not that of its chunks")]
    Digest,
}

impl Refusal {
    /// What the client can do.
    pub const fn kind(self) -> Kind {
        match self {
            Refusal::Foreign { .. } | Refusal::Forged { .. } => Kind::Denied,
            Refusal::OverReservation { .. } => Kind::Full,
            Refusal::Digest => Kind::Corrupt,
            Refusal::TooManyChunks { .. }
            | Refusal::OutOfOrder { .. }
            | Refusal::Length { .. }
            | Refusal::Size { .. } => Kind::Invalid,
        }
    }

    /// The stable name of the error.
    pub const fn code(self) -> &'static str {
        match self {
            Refusal::TooManyChunks { .. } => "E_TOO_MANY_CHUNKS",
            Refusal::OutOfOrder { .. } => "E_RECEIPT_ORDER",
            Refusal::Foreign { .. } => "E_RECEIPT_FOREIGN",
            Refusal::Forged { .. } => "E_RECEIPT_FORGED",
            Refusal::Length { .. } => "E_CHUNK_LENGTH",
            Refusal::Size { .. } => "E_SIZE_MISMATCH",
            Refusal::OverReservation { .. } => "E_OVER_RESERVATION",
            Refusal::Digest => "E_DIGEST_MISMATCH",
        }
    }
}

/// Judges `claim` on `terms`.
///
/// # Errors
/// The first thing that makes it impossible.
pub fn judge(terms: &Terms<'_>, claim: &Claim<'_>) -> Result<Verdict, Refusal> {
    check_content(terms, claim)?;
    let mut all = Vec::with_capacity(claim.receipts.len());
    let mut need = Vec::new();
    for receipt in claim.receipts {
        match copies(terms, receipt)? {
            Some(copies) => all.push(copies),
            None => need.push(receipt.statement.index),
        }
    }
    Ok(if need.is_empty() {
        Verdict::Sealable(all)
    } else {
        Verdict::NeedChunks(need)
    })
}

fn check_content(terms: &Terms<'_>, claim: &Claim<'_>) -> Result<(), Refusal> {
    let count = claim.receipts.len();
    if count > CHUNKS_PER_VERSION_MAX as usize {
        return Err(Refusal::TooManyChunks { count });
    }
    let mut size = 0_u64;
    for (at, receipt) in (0_u32..).zip(claim.receipts) {
        let said = &receipt.statement;
        let index = said.index;
        if index != at {
            return Err(Refusal::OutOfOrder { at, index });
        }
        if said.version != terms.version {
            return Err(Refusal::Foreign { index });
        }
        let is_last = at as usize + 1 == count;
        let fits =
            said.length == terms.chunk_bytes || (is_last && (1..terms.chunk_bytes).contains(&said.length));
        if !fits {
            return Err(Refusal::Length {
                index,
                length: said.length,
                chunk_bytes: terms.chunk_bytes,
            });
        }
        size = size.saturating_add(said.length);
    }
    if size != claim.size {
        return Err(Refusal::Size {
            found: size,
            claimed: claim.size,
        });
    }
    if let Some(size_max) = terms.size_max.filter(|most| size > *most) {
        return Err(Refusal::OverReservation { size, size_max });
    }
    check_digest(claim)
}

fn check_digest(claim: &Claim<'_>) -> Result<(), Refusal> {
    let expected = match claim.receipts {
        [] => digest::empty(),
        // The chaining value of a lone chunk says nothing about the file's digest without its bytes.
        [_] => return Ok(()),
        many => {
            let digests: Vec<Digest> = many.iter().map(|receipt| receipt.statement.digest).collect();
            digest::combine(&digests).ok_or(Refusal::Digest)?
        }
    };
    if expected == claim.digest {
        Ok(())
    } else {
        Err(Refusal::Digest)
    }
}

/// The copies of a chunk that may be recorded; `None` if too few of them count, or if it was written under another
/// number of the same upload: that number ended with the leader that alone knew it.
fn copies(terms: &Terms<'_>, receipt: &Receipt) -> Result<Option<Vec<(NodeId, DiskId)>>, Refusal> {
    if receipt.statement.upload != terms.number {
        return Ok(None);
    }
    let mut recorded: Vec<(NodeId, DiskId)> = Vec::with_capacity(receipt.copies.len());
    let mut counted = 0;
    for copy in &receipt.copies {
        if !is_genuine(terms, receipt, copy)? || recorded.iter().any(|(node, _)| *node == copy.node) {
            continue;
        }
        if let Some(counts) = terms.disks.get(&(copy.node, copy.disk)) {
            recorded.push((copy.node, copy.disk));
            counted += usize::from(*counts);
        }
    }
    Ok((counted >= terms.copies_min).then_some(recorded))
}

/// Whether the node said so; not known any more if its key is not, and then the chunk is asked for again.
fn is_genuine(terms: &Terms<'_>, receipt: &Receipt, copy: &Copy) -> Result<bool, Refusal> {
    if terms.keys.find(copy.key).is_none() {
        return Ok(false);
    }
    if copy.is_genuine(&receipt.statement, terms.keys) {
        return Ok(true);
    }
    Err(Refusal::Forged {
        index: receipt.statement.index,
    })
}

#[cfg(test)]
mod tests;
