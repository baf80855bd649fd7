//! Checksums: one function for client, wire and disk, so that a block is summed once at its source and checked
//! everywhere after.

use crc_fast::CrcAlgorithm::Crc64Nvme;

use crate::ids::AttemptId;

/// The CRC-64/NVME of `bytes` (check value of `123456789`: `ae8b14860a799888`), for records and frames.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// The [`crc64`] of bytes that come in pieces.
pub struct Crc64(crc_fast::Digest);

impl Default for Crc64 {
    fn default() -> Self {
        Self(crc_fast::Digest::new(Crc64Nvme))
    }
}

impl Crc64 {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces so far.
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.finish())
    }
}

/// The checksum of one block of a chunk: its [`crc64`], combined by exclusive or with a mixture of the attempt and
/// the block's place in the chunk. A block that is swapped with another or written to the wrong place fails (P5),
/// though its bytes are whole.
///
/// Blocks are [`crate::units::BLOCK_BYTES`] long, the last of a chunk may be shorter. The value is part of the wire
/// and disk formats: `crc64(block) ^ mix(mix(mix(epoch) ^ sequence) ^ index)`, where `mix` is one step of SplitMix64.
pub fn block_checksum(attempt: AttemptId, block_index: u32, block: &[u8]) -> u64 {
    let leadership = mix(attempt.epoch().get());
    let place = mix(mix(leadership ^ attempt.sequence()) ^ u64::from(block_index));
    crc64(block) ^ place
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads neighbouring numbers apart.
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    #[test]
    fn values_are_frozen() {
        assert_eq!(crc64(b"123456789"), 0xae8b_1486_0a79_9888);
        let mut pieces = Crc64::default();
        pieces.update(b"1234");
        pieces.update(b"56789");
        assert_eq!(pieces.finish(), 0xae8b_1486_0a79_9888);
        let attempt = AttemptId::new(Epoch::new(7), 42);
        assert_eq!(block_checksum(attempt, 3, b"123456789"), 0xb584_5aa6_af98_a2e7);
    }

    #[test]
    fn the_place_of_a_block_counts() {
        let attempt = |epoch, sequence| AttemptId::new(Epoch::new(epoch), sequence);
        let block = [0_u8; 4096];
        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..10 {
            for sequence in 0..10 {
                for index in 0..10 {
                    assert!(seen.insert(block_checksum(attempt(epoch, sequence), index, &block)));
                }
            }
        }
    }
}
