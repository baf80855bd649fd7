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
