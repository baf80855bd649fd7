//! Metadata keys of the system's own, kept with versions and directories so that a round trip loses nothing.

/// What the system's own keys begin with. No other key may.
pub const PREFIX: &str = "dbfs.";
/// When the source's content was last modified: nanoseconds since 1970, signed, in decimal.
pub const MODIFIED_NANOS: &str = "dbfs.modified-nanos";
/// `true` where the source's owner may execute it; absent otherwise.
pub const EXECUTABLE: &str = "dbfs.executable";

/// The value of [`EXECUTABLE`].
pub const TRUE: &str = "true";

/// Whether `key` may have `value`: any may, unless the key begins with [`PREFIX`] and is not one of these, or the value
/// is none of its values.
pub fn is_allowed(key: &str, value: &str) -> bool {
    match key {
        MODIFIED_NANOS => value.parse::<i64>().is_ok(),
        EXECUTABLE => value == TRUE,
        other => !other.starts_with(PREFIX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_kept_for_known_keys() {
        assert!(is_allowed(MODIFIED_NANOS, "-1") && is_allowed(EXECUTABLE, TRUE));
        assert!(is_allowed("dbfs", "x") && is_allowed("mine.dbfs.", ""));
        for (key, value) in [
            (MODIFIED_NANOS, "noon"),
            (MODIFIED_NANOS, ""),
            (EXECUTABLE, "1"),
            ("dbfs.", ""),
            ("dbfs.mode", "755"),
        ] {
            assert!(!is_allowed(key, value), "{key} = {value}");
        }
    }
}
