//! Test files: generated, incompressible, checked by digest.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use common::random::Random;

/// Writes `bytes` random bytes from `seed` to `path` and returns their BLAKE3 digest in hex.
///
/// # Panics
/// If the file cannot be written.
pub fn write_generated(path: &Path, bytes: u64, seed: u64) -> String {
    let random = Random::seeded(seed);
    let mut block = vec![0_u8; 1 << 20];
    random.fill(&mut block);
    let mut hasher = blake3::Hasher::new();
    let mut out = BufWriter::new(File::create(path).expect("the test file can be created"));
    let mut left = bytes;
    while left > 0 {
        // A fresh number in each block keeps blocks different from each other.
        block[..8].copy_from_slice(&random.number().to_le_bytes());
        let part = &block[..usize::try_from(left.min(block.len() as u64)).expect("a block fits")];
        hasher.update(part);
        out.write_all(part).expect("the test file can be written");
        left -= part.len() as u64;
    }
    out.flush().expect("the test file can be written");
    hasher.finalize().to_hex().to_string()
}

/// BLAKE3 of a file in hex.
///
/// # Panics
/// If the file cannot be read.
pub fn digest_of(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut block).expect("the file can be read") {
            0 => return hasher.finalize().to_hex().to_string(),
            read => hasher.update(&block[..read]),
        };
    }
}
