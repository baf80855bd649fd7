//! One BLAKE3 pass for chunks and file alike: the digest of a chunk is its subtree's chaining value, and the chaining
//! values of all chunks make the file's digest, equal to what `b3sum` prints for the file.
//!
//! BLAKE3 is a binary tree over 1 KiB leaves in which every left subtree is a power of two long. Chunks are a power
//! of two long too, so that each is a subtree of its own (BLAKE3 paper, section 2.1; `blake3::hazmat`). A chunk's
//! digest ([`ChunkHasher::finish`]) therefore depends on its place in the file. The digest of a file of one chunk is
//! [`ChunkHasher::finish_single`], of more chunks [`combine`]; an empty file has no chunks and [`empty`] as digest.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::ids::Digest;

/// Hashes one chunk.
#[derive(Clone, Debug)]
pub struct ChunkHasher {
    hasher: blake3::Hasher,
}

impl ChunkHasher {
    /// For the chunk that begins `offset` bytes into the file: a multiple of the chunk length.
    pub fn new(offset: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        Self { hasher }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The chunk's digest, as receipts and manifests carry it. The chunk must not be empty: empty chunks do not exist.
    pub fn finish(&self) -> Digest {
        Digest::new(self.hasher.finalize_non_root())
    }

    /// The digest of the file, where it consists of this chunk alone.
    pub fn finish_single(&self) -> Digest {
        Digest::new(*self.hasher.finalize().as_bytes())
    }
}

/// The digest of an empty file.
pub fn empty() -> Digest {
    Digest::new(*blake3::hash(b"").as_bytes())
}

/// The file's digest from the digests of its chunks in order, at least two of them, all but the last of equal
/// power-of-two length. `None` for fewer: a single chunk's [`ChunkHasher::finish_single`] is the file's digest.
pub fn combine(chunks: &[Digest]) -> Option<Digest> {
    let split = split_point(chunks.len())?;
    let (left, right) = chunks.split_at_checked(split)?;
    let root = merge_subtrees_root(&subtree(left)?, &subtree(right)?, Mode::Hash);
    Some(Digest::new(*root.as_bytes()))
}

fn subtree(chunks: &[Digest]) -> Option<[u8; 32]> {
    if let [only] = chunks {
        return Some(*only.bytes());
    }
    let (left, right) = chunks.split_at_checked(split_point(chunks.len())?)?;
    Some(merge_subtrees_non_root(
        &subtree(left)?,
        &subtree(right)?,
        Mode::Hash,
    ))
}

/// The largest power of two below `count`; `None` below two.
fn split_point(count: usize) -> Option<usize> {
    (count >= 2).then(|| count.next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_the_digest_of_the_file() {
        const CHUNK: usize = 4096;
        for length in [
            CHUNK + 1,
            2 * CHUNK,
            3 * CHUNK - 1,
            5 * CHUNK,
            8 * CHUNK,
            9 * CHUNK + 77,
        ] {
            let file: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            let chunks: Vec<Digest> = file
                .chunks(CHUNK)
                .enumerate()
                .map(|(index, bytes)| {
                    let mut hasher = ChunkHasher::new((index * CHUNK) as u64);
                    hasher.update(bytes);
                    hasher.finish()
                })
                .collect();
            let whole = Digest::new(*blake3::hash(&file).as_bytes());
            assert_eq!(combine(&chunks), Some(whole), "length {length}");
        }
    }

    #[test]
    fn a_single_chunk_is_the_file() {
        for bytes in [&b"x"[..], &[7; 4096]] {
            let mut hasher = ChunkHasher::new(0);
            hasher.update(bytes);
            assert_eq!(
                hasher.finish_single(),
                Digest::new(*blake3::hash(bytes).as_bytes())
            );
        }
        assert_eq!(combine(&[]), None);
        assert_eq!(ChunkHasher::new(0).finish_single(), empty());
    }
}
