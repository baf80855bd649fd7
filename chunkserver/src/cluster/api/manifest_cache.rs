//! Pages of manifests in memory. What a manifest says never changes, so that a page is right for as long as it is kept;
//! where its copies are is only a hint and is read anew after a moment.

use std::sync::Arc;
use std::time::Duration;

use common::ids::VersionId;
use common::time::Moment;
use common::units::ByteCount;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::cluster::store::manifests::Placed;
use crate::cluster::store::versions::VersionRow;

/// Chunks of one page, and of one reply.
pub(crate) const PAGE_CHUNKS: u32 = 1024;
/// How long the places in a page are used without looking again.
const PLACES_FRESH_FOR: Duration = Duration::from_secs(1);
/// What a chunk of a page takes in memory, about.
const CHUNK_BYTES: u64 = 192;
const PAGE_BYTES: u64 = 256;

/// One page of one manifest.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) version: VersionRow,
    pub(crate) chunks: Vec<Placed>,
    pub(crate) as_of: Moment,
}

/// An LRU cache bounded in bytes (P10).
pub(crate) struct ManifestCache(Cache<(VersionId, u32), Arc<Page>, PageWeight>);

#[derive(Clone)]
struct PageWeight;

impl Weighter<(VersionId, u32), Arc<Page>> for PageWeight {
    fn weight(&self, _key: &(VersionId, u32), page: &Arc<Page>) -> u64 {
        PAGE_BYTES + CHUNK_BYTES * page.chunks.len() as u64
    }
}

impl ManifestCache {
    pub(crate) fn new(bytes_max: ByteCount) -> Self {
        let typical = PAGE_BYTES + 4 * CHUNK_BYTES;
        let items = usize::try_from(bytes_max.get() / typical)
            .unwrap_or(usize::MAX)
            .max(16);
        Self(Cache::with_weighter(items, bytes_max.get(), PageWeight))
    }

    /// The page, if it is here and its places are fresh.
    pub(crate) fn fresh(&self, version: VersionId, page: u32, now: Moment) -> Option<Arc<Page>> {
        self.0
            .get(&(version, page))
            .filter(|found| now.since(found.as_of) < PLACES_FRESH_FOR)
    }

    /// The page, however old its places are.
    pub(crate) fn any(&self, version: VersionId, page: u32) -> Option<Arc<Page>> {
        self.0.get(&(version, page))
    }

    pub(crate) fn keep(&self, version: VersionId, page: u32, content: Arc<Page>) {
        self.0.insert((version, page), content);
    }

    pub(crate) fn forget(&self, version: VersionId, page: u32) {
        self.0.remove(&(version, page));
    }
}
