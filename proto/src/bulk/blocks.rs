//! Block checksums of a run of blocks: made once at the source, checked at every hop (P3).

use common::checksum::block_checksum;
use common::ids::AttemptId;
use common::units::BLOCK_BYTES;

/// A block does not match its checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("block {0} does not match its checksum")]
pub struct CorruptBlock(
    /// Its number in the chunk, from 0.
    pub u32,
);

/// How many blocks `length` bytes make; the last may be short.
pub const fn count(length: usize) -> usize {
    length.div_ceil(BLOCK_BYTES)
}

/// The checksums of `data`, which begins with block `first_block` of `attempt`.
pub fn checksums(attempt: AttemptId, first_block: u32, data: &[u8]) -> Vec<u64> {
    (first_block..)
        .zip(data.chunks(BLOCK_BYTES))
        .map(|(index, block)| block_checksum(attempt, index, block))
        .collect()
}

/// Checks `data`, which begins with block `first_block` of `attempt`.
///
/// # Errors
/// The first block that differs; a missing checksum counts as a difference.
pub fn verify(
    attempt: AttemptId,
    first_block: u32,
    data: &[u8],
    checksums: &[u64],
) -> Result<(), CorruptBlock> {
    let mut expected = checksums.iter();
    for (index, block) in (first_block..).zip(data.chunks(BLOCK_BYTES)) {
        if expected.next() != Some(&block_checksum(attempt, index, block)) {
            return Err(CorruptBlock(index));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Epoch;

    #[test]
    fn a_changed_swapped_or_missing_block_is_named() {
        let attempt = AttemptId::new(Epoch::new(1), 2);
        let mut data: Vec<u8> = (0..3 * BLOCK_BYTES - 9).map(|at| (at / 7) as u8).collect();
        let mut sums = checksums(attempt, 5, &data);
        assert_eq!(sums.len(), count(data.len()));
        assert_eq!(verify(attempt, 5, &data, &sums), Ok(()));
        assert_eq!(verify(attempt, 6, &data, &sums), Err(CorruptBlock(6)));
        assert_eq!(verify(attempt, 5, &data, &sums[..2]), Err(CorruptBlock(7)));
        data[BLOCK_BYTES] ^= 1;
        assert_eq!(verify(attempt, 5, &data, &sums), Err(CorruptBlock(6)));
        data[BLOCK_BYTES] ^= 1;
        sums.swap(0, 1);
        assert_eq!(verify(attempt, 5, &data, &sums), Err(CorruptBlock(5)));
    }
}
