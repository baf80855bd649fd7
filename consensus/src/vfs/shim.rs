//! The C side of the checksum VFS: a table of functions that pass everything on to the default VFS, and look at reads,
//! writes and fsyncs on the way.
//!
//! Safety, in one place. SQLite allocates `szOsFile` bytes per open file, aligned for any type, and hands the same
//! pointer to every method between a successful `xOpen` and `xClose`, never from two threads at once. We lay out
//! `ShimFile` followed by the default VFS's own file structure in that memory; [`real`] finds the latter. The default
//! VFS and our own live for ever. Buffers that SQLite passes are valid for the stated number of bytes.
//!
//! SQLite writes each frame of the write-ahead log in two calls. We gather the frames of a transaction and write them
//! with one (`Gathered`). Nothing is held back when it matters: the page of a commit frame, whatever is not the next
//! piece of the log, and every other operation on the file write what is gathered before they return.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Once;

use rusqlite::Connection;
use rusqlite::ffi;

use super::{CHECKSUM_BYTES, PAGE_BYTES, is_intact, stamp};

/// The name under which the VFS is registered.
pub(super) const NAME: &CStr = c"dbfs-checksum";

/// Byte 20 of a database: reserved bytes per page.
const RESERVED_AT: usize = 20;

/// The head of a frame in the write-ahead log, in bytes.
const FRAME_HEAD_BYTES: usize = 24;
/// Where the head of a frame says how many pages the database has after it, if it ends a transaction.
const FRAME_COMMIT_AT: std::ops::Range<usize> = 4..8;
/// Gathered bytes that are written without waiting for more. The default VFS takes at most 128 KiB in one write.
const GATHERED_BYTES_MAX: usize = 64 << 10;

#[repr(C)]
struct ShimFile {
    base: ffi::sqlite3_file,
    is_main: bool,
    is_poisoned: bool,
    /// For a write-ahead log.
    gathered: Option<Gathered>,
}

/// Frames on their way to the write-ahead log.
#[derive(Default)]
struct Gathered {
    /// Not written yet; they end at `end`.
    bytes: Vec<u8>,
    /// Where the last write ended.
    end: i64,
    /// Whether the last head ends a transaction.
    commits: bool,
}

/// What becomes of a write to the write-ahead log.
enum Step {
    /// It waits for more.
    Held,
    /// Everything gathered is to be written.
    Flush,
    /// Everything gathered is to be written, and then this one by itself.
    FlushAndPass,
}

impl Gathered {
    fn take(&mut self, bytes: &[u8], offset: i64) -> Step {
        let follows = offset == self.end;
        self.end = offset.saturating_add_unsigned(bytes.len() as u64);
        let is_head = bytes.len() == FRAME_HEAD_BYTES;
        if is_head {
            let pages = bytes.get(FRAME_COMMIT_AT);
            self.commits = pages.is_some_and(|pages| pages.iter().any(|byte| *byte != 0));
        }
        if !follows {
            return Step::FlushAndPass;
        }
        self.bytes.extend_from_slice(bytes);
        if is_head {
            Step::Held
        } else if self.commits || self.bytes.len() >= GATHERED_BYTES_MAX {
            Step::Flush
        } else {
            Step::Held
        }
    }
}

/// Registers the VFS once per process.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a null name asks for the default VFS, which exists and lives for ever. Our copy of its table is
        // leaked, so that it does too; only `xOpen`, the name and the file size differ from the original.
        unsafe {
            let default = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!default.is_null(), "SQLite has a default VFS");
            let mut vfs = *default;
            vfs.zName = NAME.as_ptr();
            vfs.pNext = ptr::null_mut();
            vfs.szOsFile = size_of::<ShimFile>() as c_int + (*default).szOsFile;
            vfs.xOpen = Some(open);
            let registered = ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0);
            assert_eq!(registered, ffi::SQLITE_OK, "SQLite registers a VFS");
        }
    });
}

/// Asks for the reserved bytes in a database that has no pages yet; no effect on one that has.
pub(super) fn reserve_checksum_bytes(connection: &Connection) -> rusqlite::Result<()> {
    let mut reserved = CHECKSUM_BYTES as c_int;
    // SAFETY: the handle is valid while `connection` lives; the opcode takes a pointer to an int.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_RESERVE_BYTES,
            (&raw mut reserved).cast(),
        )
    };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(code),
            Some("reserve checksum bytes".to_owned()),
        ))
    }
}

unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: see the head of this file; `ShimFile`'s size is a multiple of its alignment, that of a pointer.
    unsafe { file.cast::<u8>().add(size_of::<ShimFile>()).cast() }
}

/// Calls a method of the default VFS's file; every file of the unix VFS has all methods of version 2.
macro_rules! pass {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: `$file` is a file of ours (head of this file), so the real one behind it is open.
        unsafe {
            let real = real($file);
            match (*(*real).pMethods).$method {
                Some(method) => method(real $(, $argument)*),
                None => ffi::SQLITE_MISUSE,
            }
        }
    }};
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: `file` points to `szOsFile` bytes of ours to initialise; the default VFS gets the part behind our own.
    unsafe {
        let shim = file.cast::<ShimFile>();
        let is_main = flags & ffi::SQLITE_OPEN_MAIN_DB != 0;
        // Without methods SQLite does not call xClose after a failed open.
        shim.write(ShimFile {
            base: ffi::sqlite3_file {
                pMethods: ptr::null(),
            },
            is_main,
            is_poisoned: false,
            gathered: (flags & ffi::SQLITE_OPEN_WAL != 0).then(Gathered::default),
        });
        let default = ffi::sqlite3_vfs_find(ptr::null());
        let Some(real_open) = (*default).xOpen else {
            return ffi::SQLITE_MISUSE;
        };
        let code = real_open(default, name, real(file), flags, out_flags);
        if code != ffi::SQLITE_OK {
            return code;
        }
        (*shim).base.pMethods = &raw const METHODS;
        code
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Version 2: shared memory for the write-ahead log, but no xFetch, which would map pages past our checks.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Writes what is gathered.
fn flush(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: a file of ours, used by one thread at a time.
    let shim = unsafe { &mut *file.cast::<ShimFile>() };
    let Some(gathered) = &mut shim.gathered else {
        return ffi::SQLITE_OK;
    };
    flush_before(file, gathered, gathered.end)
}

/// Writes what is gathered, which ends at `end`.
fn flush_before(file: *mut ffi::sqlite3_file, gathered: &mut Gathered, end: i64) -> c_int {
    let length = gathered.bytes.len();
    if length == 0 {
        return ffi::SQLITE_OK;
    }
    let offset = end.saturating_sub_unsigned(length as u64);
    let code = pass!(
        file,
        xWrite,
        gathered.bytes.as_ptr().cast(),
        length as c_int,
        offset
    );
    // After a failure SQLite gives the transaction up and writes its frames anew.
    gathered.bytes.clear();
    code
}

/// A write to the write-ahead log.
fn gather(file: *mut ffi::sqlite3_file, gathered: &mut Gathered, bytes: &[u8], offset: i64) -> c_int {
    let before = gathered.end;
    match gathered.take(bytes, offset) {
        Step::Held => ffi::SQLITE_OK,
        Step::Flush => flush_before(file, gathered, gathered.end),
        Step::FlushAndPass => match flush_before(file, gathered, before) {
            ffi::SQLITE_OK => pass!(file, xWrite, bytes.as_ptr().cast(), bytes.len() as c_int, offset),
            code => code,
        },
    }
}

/// Writes what is gathered, then passes on.
macro_rules! flush_and_pass {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        match flush($file) {
            ffi::SQLITE_OK => pass!($file, $method $(, $argument)*),
            code => code,
        }
    }};
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let flushed = flush(file);
    // SAFETY: a file of ours that SQLite does not use again; the default VFS's part is closed below.
    unsafe { (*file.cast::<ShimFile>()).gathered = None };
    let closed = pass!(file, xClose);
    if closed == ffi::SQLITE_OK { flushed } else { closed }
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let code = flush_and_pass!(file, xRead, buffer, amount, offset);
    // SAFETY: a file of ours, and `amount` bytes that the real read has filled (with zeros behind the end of the file).
    let (is_main, bytes) = unsafe {
        (
            (*file.cast::<ShimFile>()).is_main,
            std::slice::from_raw_parts(buffer.cast::<u8>(), amount as usize),
        )
    };
    match code {
        ffi::SQLITE_OK if is_main => judge_read(bytes, offset as u64),
        // SQLite takes a page behind the end of the file for zeros. It never wants one: what a transaction adds is in
        // the cache or the log until it is written here.
        ffi::SQLITE_IOERR_SHORT_READ if is_main && !is_head(bytes, offset as u64) => ffi::SQLITE_IOERR_DATA,
        code => code,
    }
}

/// Whether a read wants only the head of the first page, which SQLite reads again as a whole before it believes it.
fn is_head(bytes: &[u8], offset: u64) -> bool {
    bytes.len() < PAGE_BYTES && offset.saturating_add(bytes.len() as u64) < PAGE_BYTES as u64
}

/// Judges what was read from the main file: a whole page by its checksum, the head of the first page by the size of the
/// checksum it promises. Nothing else is read, because nothing else can be checked.
fn judge_read(bytes: &[u8], offset: u64) -> c_int {
    if offset == 0
        && bytes
            .get(RESERVED_AT)
            .is_some_and(|reserved| *reserved as usize != CHECKSUM_BYTES)
    {
        return ffi::SQLITE_NOTADB;
    }
    if is_head(bytes, offset) || (bytes.len() == PAGE_BYTES && is_intact(bytes, offset)) {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_IOERR_DATA
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: a file of ours, and `amount` readable bytes.
    let (shim, bytes) = unsafe {
        (
            &mut *file.cast::<ShimFile>(),
            std::slice::from_raw_parts(buffer.cast::<u8>(), amount as usize),
        )
    };
    if shim.is_poisoned {
        return ffi::SQLITE_IOERR_WRITE;
    }
    if let Some(gathered) = &mut shim.gathered {
        return gather(file, gathered, bytes, offset);
    }
    if !shim.is_main {
        return pass!(file, xWrite, buffer, amount, offset);
    }
    // The main file is written in whole pages only; anything else would be without a checksum.
    let Ok(mut page) = <[u8; PAGE_BYTES]>::try_from(bytes) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    stamp(&mut page, offset as u64);
    pass!(file, xWrite, page.as_ptr().cast(), amount, offset)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: a file of ours, used by one thread at a time.
    let shim = unsafe { &mut *file.cast::<ShimFile>() };
    if shim.is_poisoned {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    let code = flush_and_pass!(file, xSync, flags);
    shim.is_poisoned = code != ffi::SQLITE_OK;
    code
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    flush_and_pass!(file, xTruncate, size)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    flush_and_pass!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    pass!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    flush_and_pass!(file, xFileControl, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file, xSectorSize)
}

/// Without the right to read parts of pages: SQLite would read overflow pages past the check.
unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file, xDeviceCharacteristics) & !ffi::SQLITE_IOCAP_SUBPAGE_READ
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    pass!(file, xShmMap, page, size, extend, out)
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    pass!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: as in `pass`; the barrier returns nothing.
    unsafe {
        let real = real(file);
        if let Some(barrier) = (*(*real).pMethods).xShmBarrier {
            barrier(real);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    pass!(file, xShmUnmap, delete)
}
