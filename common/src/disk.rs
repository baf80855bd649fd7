//! Durable file operations. Every fsync of ours goes through here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Makes the entries of a directory durable: file creations, renames and removals in it.
///
/// # Errors
/// What the operating system reports. The entries may or may not survive a power cut then.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Renames `from` to `to` within one file system and makes the new entry durable.
///
/// # Errors
/// What the operating system reports. After an error either name may be there after a power cut.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_directory(parent(to))
}

/// Replaces the content of `path` so that after a power cut it is the old content or the new, never a mixture.
/// `mode` is the file's permission bits, for example `0o600`.
///
/// # Errors
/// What the operating system reports; the old content is still in place then.
#[allow(clippy::disallowed_methods, reason = "this is the fsync module")]
pub fn write_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename_durably(&aside, path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
