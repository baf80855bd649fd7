//! What the demonstration uploads: the working files of the checkout it is run in, or generated ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use client::cli::failure::Failure;
use common::units::ByteCount;

/// Directories of a checkout that are no work of anybody's.
pub(super) const LEFT_OUT: [&str; 2] = [".git", "target"];
/// A checkout with more than this is not what a demonstration should take.
const FILES_MAX: usize = 5_000;
const BYTES_MAX: u64 = 200 << 20;
const GENERATED_FILES: usize = 200;
const BUFFER_BYTES: usize = 1 << 20;

/// A directory to be uploaded, and what its files contain.
#[derive(Clone, Debug)]
pub(super) struct Material {
    /// The directory.
    pub(super) root: PathBuf,
    /// BLAKE3 of every file, by its path below the root.
    pub(super) digests: BTreeMap<String, blake3::Hash>,
}

/// The working files of `here`, if it is a checkout of reasonable size; otherwise generated ones in `aside`.
///
/// # Errors
/// Files cannot be read or written.
pub(super) fn find(here: &Path, aside: &Path) -> Result<Material, Failure> {
    if here.join(".git").exists()
        && let Some(files) = working_files(here)
    {
        return digest_all(here.to_owned(), &files);
    }
    let root = aside.join("files");
    let mut files = Vec::new();
    for at in 0..GENERATED_FILES {
        let path = format!("part-{:02}/note-{at:03}.txt", at % 10);
        let local = root.join(&path);
        let fail = |error: std::io::Error| Failure::local("cannot write", &local, &error);
        std::fs::create_dir_all(local.parent().unwrap_or(&root)).map_err(fail)?;
        let text = format!("Note {at}\n").repeat(1 + at * 7 % 400);
        std::fs::write(&local, text).map_err(fail)?;
        files.push(path);
    }
    digest_all(root, &files)
}

/// Regular files below `root`, by their paths; `None` where there are too many.
fn working_files(root: &Path) -> Option<Vec<String>> {
    let walker = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    let entries = walker.filter_entry(|entry| !LEFT_OUT.iter().any(|name| entry.file_name() == *name));
    let mut files = Vec::new();
    let mut bytes = 0;
    for entry in entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
    {
        bytes += entry.metadata().ok()?.len();
        files.push(entry.path().strip_prefix(root).ok()?.to_str()?.to_owned());
        if files.len() > FILES_MAX || bytes > BYTES_MAX {
            return None;
        }
    }
    (!files.is_empty()).then_some(files)
}

fn digest_all(root: PathBuf, files: &[String]) -> Result<Material, Failure> {
    let mut digests = BTreeMap::new();
    for path in files {
        digests.insert(path.clone(), digest(&root.join(path))?);
    }
    Ok(Material { root, digests })
}

/// BLAKE3 of a file.
///
/// # Errors
/// It cannot be read.
pub(super) fn digest(path: &Path) -> Result<blake3::Hash, Failure> {
    let fail = |error: std::io::Error| Failure::local("cannot read", path, &error);
    let mut file = File::open(path).map_err(fail)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(fail)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hasher.finalize());
        };
        hasher.update(bytes);
    }
}

/// Writes `size` bytes that do not compress, different for every `seed`; their BLAKE3.
///
/// # Errors
/// The file cannot be written.
pub(super) fn generate(path: &Path, size: ByteCount, seed: u64) -> Result<blake3::Hash, Failure> {
    let fail = |error: std::io::Error| Failure::local("cannot write", path, &error);
    let mut source = blake3::Hasher::new();
    source.update(b"dbfs demo");
    source.update(&seed.to_le_bytes());
    let mut stream = source.finalize_xof();
    let mut file = BufWriter::new(File::create(path).map_err(fail)?);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = size.get();
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let part = buffer.get_mut(..take).unwrap_or_default();
        stream.fill(part);
        hasher.update(part);
        file.write_all(part).map_err(fail)?;
        left -= take as u64;
    }
    file.flush().map_err(fail)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_have_their_digests() {
        let directory = tempfile::tempdir().unwrap();
        let material = find(Path::new("/nowhere"), directory.path()).unwrap();
        assert_eq!(material.digests.len(), GENERATED_FILES);
        let (path, expected) = material.digests.iter().next().unwrap();
        assert_eq!(digest(&material.root.join(path)).unwrap(), *expected);
        let large = directory.path().join("large");
        let expected = generate(&large, ByteCount::new((3 << 20) + 17), 1).unwrap();
        assert_eq!(std::fs::metadata(&large).unwrap().len(), (3 << 20) + 17);
        assert_eq!(digest(&large).unwrap(), expected);
        assert_ne!(generate(&large, ByteCount::new(17), 2).unwrap(), expected);
    }

    #[test]
    fn a_checkout_is_taken_without_what_is_built() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in [".git/HEAD", "target/x.o", "src/a.rs", "b.txt"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), path).unwrap();
        }
        let material = find(root, root).unwrap();
        assert_eq!(material.digests.keys().collect::<Vec<_>>(), ["b.txt", "src/a.rs"]);
    }
}
