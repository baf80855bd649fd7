//! Fail points: places at which a test can end the process, named after the arrows of the state table
//! ([`crate::lifecycle`]), each with a side: `upload.sealed:before` or `upload.sealed:after`.
//!
//! They are armed by the environment alone: `DBFS_FAIL_POINTS="upload.sealed:before,version.published:after=3"` ends
//! the process, as SIGKILL would, at the first and at the third passage. Unarmed, a point costs one load.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable that arms fail points.
pub const VARIABLE: &str = "DBFS_FAIL_POINTS";

static ARMED: OnceLock<Option<BTreeMap<String, AtomicU32>>> = OnceLock::new();

/// Passes the fail point `name` (an arrow and a side).
pub fn point(name: &str) {
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| parse(&text)));
    if let Some(left) = armed.as_ref().and_then(|points| points.get(name))
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("fail point {name}: ending the process");
        std::process::abort();
    }
}

fn parse(text: &str) -> BTreeMap<String, AtomicU32> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (name, count) = entry.split_once('=').unwrap_or((entry, "1"));
            (name.to_owned(), AtomicU32::new(count.parse().unwrap_or(1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_a_count() {
        let points = parse("a:before, b:after=3,");
        assert_eq!(points.len(), 2);
        assert_eq!(points["a:before"].load(Ordering::SeqCst), 1);
        assert_eq!(points["b:after"].load(Ordering::SeqCst), 3);
    }
}
