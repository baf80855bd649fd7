//! Byte ranges, as people write them, and what they mean for a file of some length and its chunks.

use std::str::FromStr;

/// A range of bytes, inclusive at both ends as in HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteRange {
    /// `A-B`: from byte A to byte B, both included; B may lie beyond the end.
    Between(u64, u64),
    /// `A-`: from byte A to the end.
    From(u64),
    /// `-N`: the last N bytes, or all where there are fewer.
    Last(u64),
}

/// A text is not a byte range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a byte range: expected A-B, A- or -N")]
pub struct ParseRangeError(String);

impl FromStr for ByteRange {
    type Err = ParseRangeError;
    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let bad = || ParseRangeError(text.to_owned());
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain)
        };
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        match (first, last) {
            ("", last) => number(last).map(ByteRange::Last),
            (first, "") => number(first).map(ByteRange::From),
            (first, last) => number(first)
                .zip(number(last))
                .filter(|(first, last)| first <= last)
                .map(|(first, last)| ByteRange::Between(first, last)),
        }
        .ok_or_else(bad)
    }
}

/// Bytes `start..end` of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Extent {
    /// The whole of something `size` long.
    pub(crate) const fn whole(size: u64) -> Self {
        Self { start: 0, end: size }
    }

    pub(crate) const fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// The part of this that lies in `start..end`, relative to `start`; `None` where there is none.
    pub(crate) fn within(self, start: u64, end: u64) -> Option<Extent> {
        let (from, to) = (self.start.max(start), self.end.min(end));
        (from < to).then(|| Extent {
            start: from - start,
            end: to - start,
        })
    }

    /// Cuts this into pieces of at most `piece` bytes which begin at multiples of it.
    pub(crate) fn pieces(self, piece: u64) -> impl Iterator<Item = Extent> + Send {
        let piece = piece.max(1);
        let mut next = self.start;
        std::iter::from_fn(move || {
            let start = next;
            next = self.end.min((start / piece + 1).saturating_mul(piece));
            (start < self.end).then_some(Extent { start, end: next })
        })
    }
}

impl ByteRange {
    /// What this means for a file of `size` bytes; `None` where it begins beyond the end.
    pub(crate) fn of(self, size: u64) -> Option<Extent> {
        let (start, end) = match self {
            ByteRange::Between(first, last) => (first, last.saturating_add(1).min(size)),
            ByteRange::From(first) => (first, size),
            ByteRange::Last(count) => (size.saturating_sub(count), size),
        };
        // Nothing of an empty file is all of it; otherwise a range has at least one byte.
        (start < end || (size == 0 && start == 0)).then_some(Extent { start, end })
    }
}

/// Which of `length` bytes that arrived for `offset..` belong to `wanted`, and where in the chunk they begin.
pub(crate) fn trim(offset: u64, length: usize, wanted: Extent) -> Option<(u64, std::ops::Range<usize>)> {
    let part = wanted.within(offset, offset.saturating_add(length as u64))?;
    let range = usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?;
    Some((offset + part.start, range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{
        Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    #[test]
    fn ranges_are_read_as_people_write_them() {
        assert_eq!("3-9".parse(), Ok(ByteRange::Between(3, 9)));
        assert_eq!("3-".parse(), Ok(ByteRange::From(3)));
        assert_eq!("-9".parse(), Ok(ByteRange::Last(9)));
        for text in [
            "",
            "-",
            "9-3",
            "a-b",
            "3",
            "+3-4",
            "3--4",
            "1-99999999999999999999999",
        ] {
            assert!(text.parse::<ByteRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_end_with_the_file() {
        let extent = |start, end| Some(Extent { start, end });
        assert_eq!(ByteRange::Between(2, u64::MAX).of(10), extent(2, 10));
        assert_eq!(ByteRange::Between(2, 2).of(10), extent(2, 3));
        assert_eq!(ByteRange::Last(99).of(10), extent(0, 10));
        assert_eq!(ByteRange::From(10).of(10), None);
        assert_eq!(ByteRange::Last(0).of(10), None);
        assert_eq!(ByteRange::From(0).of(0), extent(0, 0));
        assert_eq!(ByteRange::From(1).of(0), None);
    }

    fn any_range() -> impl Strategy<Value = ByteRange> {
        prop_oneof![
            (0_u64..3000, 0_u64..3000).prop_map(|(a, b)| ByteRange::Between(a.min(b), a.max(b))),
            (0_u64..3000).prop_map(ByteRange::From),
            (0_u64..3000).prop_map(ByteRange::Last),
            Just(ByteRange::Between(0, u64::MAX)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Cutting a range into chunks and pieces, fetching whole blocks of them, and trimming gives the range.
        #[test]
        fn a_range_is_made_of_its_trimmed_blocks(
            size in 0_u64..2500,
            chunk in 1_u64..700,
            piece in 1_u64..300,
            block in 1_u64..64,
            frame_blocks in 1_u64..8,
            range in any_range(),
        ) {
            let file: Vec<u8> = (0..size).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect();
            let Some(extent) = range.of(size) else {
                return Ok(());
            };
            let mut got = Vec::new();
            for index in 0..size.div_ceil(chunk) {
                let (from, to) = (index * chunk, (index * chunk + chunk).min(size));
                let Some(part) = extent.within(from, to) else { continue };
                for wanted in part.pieces(piece) {
                    prop_assert!(wanted.length() >= 1 && wanted.length() <= piece);
                    // What a node sends: whole blocks, several to a frame.
                    let mut at = wanted.start / block * block;
                    let stop = wanted.end.next_multiple_of(block).min(to - from);
                    while at < stop {
                        let next = (at + block * frame_blocks).min(stop);
                        let sent = &file[(from + at) as usize..(from + next) as usize];
                        if let Some((begins, range)) = trim(at, sent.len(), wanted) {
                            prop_assert_eq!(from + begins, extent.start + got.len() as u64);
                            got.extend_from_slice(&sent[range]);
                        }
                        at = next;
                    }
                }
            }
            prop_assert_eq!(&got[..], &file[extent.start as usize..extent.end as usize]);
        }
    }
}
