//! The `store` section of the configuration.

use std::path::PathBuf;

use common::units::{ByteCount, Span};

/// Where and how chunks are kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// One data directory per disk.
    pub directories: Vec<DirectoryConfig>,
    /// Kept free on every disk, so that deletions can be written down when it is full.
    pub reserve_bytes: ByteCount,
    /// A segment file takes no new record beyond this length.
    pub segment_bytes: ByteCount,
    /// Chunks that may be received at once per disk; more are refused as busy.
    pub writers_per_disk_max: u32,
    /// Go around the page cache where the file system allows it.
    pub direct_io: bool,
    /// Operations that run at once per disk.
    pub io_threads_per_disk: u32,
    /// How often the index is written out, if it changed. Longer means a longer replay after a crash.
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
            segment_bytes: ByteCount::mib(256),
            writers_per_disk_max: 32,
            direct_io: true,
            io_threads_per_disk: 8,
            checkpoint_period: Span::seconds(60),
            read_buffer_bytes_max: ByteCount::mib(128),
        }
    }
}
