//! The `store` section of the configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::units::{ByteCount, Span};

use super::error::Error;

/// Shorter segments would be mostly file.
const SEGMENT_BYTES_MIN: ByteCount = ByteCount::new(64 << 10);
/// Positions in a segment are 32-bit numbers of pages.
const SEGMENT_BYTES_MAX: ByteCount = ByteCount::new(1 << 40);

/// Where and how chunks are kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// One data directory per disk, for example `[{path: /disks/1, capacity_bytes: 2 TiB}]` (JSON on the command line).
    pub directories: Vec<DirectoryConfig>,
    /// Kept free on every disk, so that deletions can be written down when it is full.
    pub reserve_bytes: ByteCount,
    /// What others keep free on the file system of each directory, on top of that. Found out at start.
    #[serde(skip)]
    pub beside_bytes: Vec<ByteCount>,
    /// A segment file takes no new record beyond this length.
    pub segment_bytes: ByteCount,
    /// Chunks that may be received at once per disk; more are refused as busy.
    pub writers_per_disk_max: u32,
    /// Go around the page cache where the file system allows it.
    pub direct_io: bool,
    /// Operations that run at once per disk.
    pub io_threads_per_disk: u32,
    /// How often the index is written out, if a sixteenth of it changed; after ten times as long, if anything changed.
    /// Longer means a longer replay after a crash.
    pub checkpoint_period: Span,
    /// Memory for blocks that are being read.
    pub read_buffer_bytes_max: ByteCount,
}

/// One data directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// The directory; made if it is missing.
    pub path: PathBuf,
    /// Use no more than this; absent means all there is.
    #[serde(default)]
    pub capacity_bytes: Option<ByteCount>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            directories: Vec::new(),
            reserve_bytes: ByteCount::mib(256),
            beside_bytes: Vec::new(),
            segment_bytes: ByteCount::mib(256),
            writers_per_disk_max: 32,
            direct_io: true,
            io_threads_per_disk: 8,
            checkpoint_period: Span::seconds(60),
            read_buffer_bytes_max: ByteCount::mib(128),
        }
    }
}

impl StoreConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first key that does not fit, and why.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Invalid { reason });
        if self.directories.is_empty() {
            return refuse("store.directories: name at least one data directory".to_owned());
        }
        let mut seen = BTreeSet::new();
        for entry in &self.directories {
            if !seen.insert(&entry.path) {
                return refuse(format!(
                    "store.directories: {} is named twice",
                    entry.path.display()
                ));
            }
        }
        if self.segment_bytes < SEGMENT_BYTES_MIN || self.segment_bytes > SEGMENT_BYTES_MAX {
            return refuse(format!(
                "store.segment_bytes: must be between {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX}"
            ));
        }
        if self.writers_per_disk_max == 0 || self.io_threads_per_disk == 0 {
            return refuse(
                "store.writers_per_disk_max, store.io_threads_per_disk: must be at least 1".to_owned(),
            );
        }
        if self.checkpoint_period.get().is_zero() {
            return refuse("store.checkpoint_period: must not be zero".to_owned());
        }
        Ok(())
    }
}
