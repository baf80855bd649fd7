//! What the disk alone can do: direct writes of 1 MiB, one after the other, and a sync at the end.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use client::cli::context::Context;
use client::cli::failure::Failure;
use common::disk::sync_file;
use common::units::ByteCount;

const WRITE_BYTES: usize = 1 << 20;
const ALIGNMENT: usize = 4096;
/// More than this says nothing more about the disk.
const BYTES_MAX: u64 = 2 << 30;
const BYTES_MIN: u64 = 64 << 20;

/// Bytes per second of a file in `directory`, which is removed again.
///
/// # Errors
/// The file cannot be written.
pub(super) async fn measure(context: &Context, directory: &Path, bytes: ByteCount) -> Result<f64, Failure> {
    context.console.note("baseline: the disk alone");
    let path = directory.join(format!("bench-{:016x}.tmp", context.seams.random.number()));
    let count = bytes.get().clamp(BYTES_MIN, BYTES_MAX) / WRITE_BYTES as u64;
    let began = context.seams.clock.moment();
    let written = tokio::task::spawn_blocking({
        let path = path.clone();
        move || write(&path, count)
    })
    .await;
    let elapsed = context.seams.clock.moment().since(began);
    // Removed whatever happened; what was never created needs no removal.
    let _ = std::fs::remove_file(&path);
    let fail = |error: std::io::Error| Failure::local("cannot write", &PathBuf::from(&path), &error);
    written
        .map_err(|error| fail(std::io::Error::other(error)))?
        .map_err(fail)?;
    Ok((count * WRITE_BYTES as u64) as f64 / elapsed.as_secs_f64().max(1e-9))
}

fn write(path: &Path, count: u64) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    // A file system without direct writes (tmpfs) is measured through the page cache.
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(path);
    let mut file = match direct {
        Ok(file) => file,
        Err(_) => {
            let _ = std::fs::remove_file(path);
            options.open(path)?
        }
    };
    let mut buffer = vec![0x5a; WRITE_BYTES + ALIGNMENT];
    let skip = buffer.as_ptr().align_offset(ALIGNMENT);
    blake3::Hasher::new().finalize_xof().fill(&mut buffer);
    let part = buffer.get(skip..skip + WRITE_BYTES).unwrap_or_default();
    for _ in 0..count {
        file.write_all(part)?;
    }
    sync_file(&file)
}
