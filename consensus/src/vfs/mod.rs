//! A SQLite VFS with page checksums, over the operating system's own.
//!
//! Why: SQLite's pages carry no checksums, so that rot on disk would be served as data (P5, P11). Every page of a
//! database opened through [`open`] ends in eight reserved bytes with a CRC-64/NVME of the page and its offset; a page
//! that fails it, or that was written to another place, ends the read with `SQLITE_IOERR_DATA`. The idea is that of
//! SQLite's `cksumvfs` extension.
//!
//! Invariant: a page reaches the main database file only with its checksum, and leaves it only when that holds: reads of
//! a part of a page, of a hole and behind the end of the file fail as well. After a failed fsync a file accepts no
//! further write or fsync: what the kernel dropped must not look durable later.
//!
//! Not covered: pages that are still in the write-ahead log. SQLite checks the log's own checksums when it recovers,
//! not when it reads.
//!
//! `shim.rs` has the C side: the only unsafe code of this crate.

#[allow(
    unsafe_code,
    reason = "SQLite asks for a table of C functions; see the safety notes there"
)]
mod shim;

#[cfg(test)]
mod tests;

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// The one page size of our databases, in bytes.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Reserved bytes at the end of each page: the checksum.
const CHECKSUM_BYTES: usize = 8;
/// Where the page lies that SQLite locks and never writes.
const LOCK_PAGE_AT: u64 = 1 << 30;

/// Opens or creates a database whose pages carry checksums.
///
/// # Errors
/// SQLite's own, and `SQLITE_NOTADB` for a database that was made without checksums.
pub(crate) fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    shim::register();
    let connection = Connection::open_with_flags_and_vfs(path, flags, shim::NAME)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES as u32)?;
    shim::reserve_checksum_bytes(&connection)?;
    Ok(connection)
}

/// CRC-64/NVME of the page's content and of where it lies.
fn page_checksum(content: &[u8], offset: u64) -> [u8; CHECKSUM_BYTES] {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(&offset.to_le_bytes());
    digest.update(content);
    digest.finalize().to_le_bytes()
}

/// Puts the checksum at the end of a whole page.
fn stamp(page: &mut [u8], offset: u64) {
    let at = page.len().saturating_sub(CHECKSUM_BYTES);
    let (content, checksum) = page.split_at_mut(at);
    checksum.copy_from_slice(&page_checksum(content, offset));
}

/// Whether a whole page is as it was written. Only the page of the lock bytes may be a hole: SQLite writes every other
/// page before it reads it.
fn is_intact(page: &[u8], offset: u64) -> bool {
    let (content, checksum) = page.split_at(page.len().saturating_sub(CHECKSUM_BYTES));
    page_checksum(content, offset) == checksum
        || (offset == LOCK_PAGE_AT && page.iter().all(|byte| *byte == 0))
}
