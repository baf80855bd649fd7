//! Continuation tokens: the position after which the next page begins, made opaque.
//!
//! A position is a text that orders like what is listed, so that a page continues rightly whatever was added or
//! removed in between. A token proves nothing: the permission check runs again for every page.

use super::refusal::Refusal;

/// The longest token that is looked at, in bytes: deep renames can make positions longer than a path may be.
pub(crate) const TOKEN_BYTES_MAX: usize = 64 << 10;

const VERSION: &str = "1";

/// The token of a position; the empty token stands for the end.
pub(crate) fn token(position: &str) -> String {
    let digits = position.bytes().map(|byte| format!("{byte:02x}"));
    VERSION.chars().map(String::from).chain(digits).collect()
}

/// The position of a token; `None` for the first page.
///
/// # Errors
/// `Invalid`: not a token of this installation.
pub(crate) fn position(token: &str) -> Result<Option<String>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let decode = || {
        let digits = token.strip_prefix(VERSION)?;
        if digits.len() > TOKEN_BYTES_MAX || digits.len() % 2 != 0 || !digits.is_ascii() {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
            .collect();
        String::from_utf8(bytes?).ok()
    };
    decode().map(Some).ok_or_else(not_a_token)
}

/// The token is not one that was given out for this listing.
pub(crate) fn not_a_token() -> Refusal {
    Refusal::invalid("E_PAGE_TOKEN", "the page token is not one of this installation")
        .hint("begin again with an empty token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_give_back_their_position() {
        for text in ["a", "a/b", "\u{1f980}", ""] {
            assert_eq!(position(&token(text)), Ok(Some(text.to_owned())));
        }
        assert_eq!(position(""), Ok(None));
        for bad in ["2aa", "1a", "1zz", "1\u{e4}", "1ff"] {
            assert!(position(bad).is_err(), "{bad}");
        }
    }
}
