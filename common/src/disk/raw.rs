//! The only unsafe code of the disk seam: page-aligned memory, and four system calls which the standard library does
//! not have. Everything here is small enough to be read in one sitting; callers see safe functions alone.
#![allow(
    unsafe_code,
    reason = "aligned memory and system calls, audited in this file alone"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use super::PAGE_BYTES;

/// At most so many parts go into one vectored write; Linux allows 1024.
const PARTS_MAX: usize = 256;

/// Zero-initialised memory whose address and length are multiples of [`PAGE_BYTES`].
pub(super) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: `Pages` owns its memory exclusively, like a `Box<[u8]>`; shared references only read it.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `length` bytes, and never none.
    pub(super) fn new(length: usize) -> Self {
        let length = length.max(1).next_multiple_of(PAGE_BYTES);
        let layout = Layout::from_size_align(length, PAGE_BYTES)
            .expect("a page is a power of two and no buffer comes near the address space");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Self { start, layout },
            None => handle_alloc_error(layout),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory is owned, initialised (zeroed at birth), and `layout.size()` bytes long.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow of `self` makes the slice the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Writes the beginning of `parts` at `offset`; returns how many bytes were written.
pub(super) fn write_vectored_at(file: &File, parts: &[&[u8]], offset: u64) -> io::Result<usize> {
    let vectors: Vec<libc::iovec> = parts
        .iter()
        .take(PARTS_MAX)
        .map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        })
        .collect();
    let count = libc::c_int::try_from(vectors.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: every vector describes a live slice, which the kernel only reads; the descriptor is open.
    let written = unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, signed(offset)?) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Reserves space for `length` bytes at `offset` without changing the file's length.
pub(super) fn allocate(file: &File, offset: u64, length: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_KEEP_SIZE, offset, length)
}

/// Gives the space of `length` bytes at `offset` back; they read as zeros.
pub(super) fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    fallocate(
        file,
        libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
        offset,
        length,
    )
}

fn fallocate(file: &File, mode: libc::c_int, offset: u64, length: u64) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open; no memory is passed.
        let outcome = unsafe { libc::fallocate(file.as_raw_fd(), mode, signed(offset)?, signed(length)?) };
        if outcome == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Total bytes of the file system that holds `path`, and those an ordinary process may still use.
pub(super) fn space(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte and the answer has the right type and is writable.
    let outcome = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed above, which is a valid value of this plain C structure, and filled by the kernel.
    let answer = unsafe { answer.assume_init() };
    let unit = answer.f_frsize;
    Ok((
        unit.saturating_mul(answer.f_blocks),
        unit.saturating_mul(answer.f_bavail),
    ))
}

fn signed(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}
