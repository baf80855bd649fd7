//! The reserves of the Raft log and of the chunk store where both are on one file system: two, not one that both count on.
//!
//! Chunks stop at the sum of both, so that the log still has its own when the store is full (P11).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::units::ByteCount;

/// What a data directory leaves free for the log under `data_dir`: its `reserve`, or nothing where they are on different
/// file systems.
pub(crate) fn beside(data_dir: &Path, directory: &Path, reserve: ByteCount) -> ByteCount {
    match (file_system(data_dir), file_system(directory)) {
        (Some(one), Some(other)) if one != other => ByteCount::new(0),
        _ => reserve,
    }
}

/// The file system of `path`, or of where it will be made.
fn file_system(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    absolute
        .ancestors()
        .find_map(|path| std::fs::metadata(path).ok())
        .map(|found| found.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_on_one_file_system_leave_both_reserves() {
        let directory = tempfile::tempdir().unwrap();
        let (meta, chunks) = (directory.path().join("meta"), directory.path().join("not/yet"));
        std::fs::create_dir(&meta).unwrap();
        let reserve = ByteCount::mib(7);
        assert_eq!(beside(&meta, &chunks, reserve), reserve);
        assert_eq!(beside(&meta, Path::new("/proc/self"), reserve), ByteCount::new(0));
    }
}
