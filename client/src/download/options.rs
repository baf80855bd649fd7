//! What may be asked of a download, and what it tells in the end.

use common::ids::VersionId;
use common::shutdown::Shutdown;
use common::units::ByteCount;

use super::ByteRange;
use crate::error::BadCopy;
use crate::names::Entry;
use crate::progress::Progress;

/// What may be asked of a download. The default is the whole current version.
#[derive(Clone, Debug, Default)]
pub struct DownloadOptions {
    /// Only these bytes.
    pub range: Option<ByteRange>,
    /// This version instead of the current one.
    pub version: Option<VersionId>,
    /// To a path: go on with what an interrupted download left beside it, and leave such behind when interrupted.
    pub resume: bool,
    /// Where to count.
    pub progress: Progress,
    /// Stops the download when given: [`crate::Error::Interrupted`].
    pub shutdown: Shutdown,
}

/// What a download did.
#[derive(Clone, PartialEq, Debug)]
pub struct DownloadReport {
    /// The version that was read: path, size, digest.
    pub entry: Entry,
    /// Bytes delivered: the size, or the length of the range.
    pub delivered: ByteCount,
    /// Of these, bytes that were found in an earlier attempt's part file.
    pub resumed: ByteCount,
    /// Whether the whole content was read and has the version's digest. A range is verified block by block.
    pub digest_verified: bool,
    /// Copies that were bad or out of reach; another copy served instead.
    pub bad: Vec<BadCopy>,
}
