//! The binary under test: the one that `cargo build` makes, in the profile of the running test.

use std::path::PathBuf;

/// Path of the `dbfs` command. Tests that use it belong to the package `dbfs`, so that cargo builds it before them.
///
/// # Panics
/// If it is not there.
pub fn dbfs_binary() -> PathBuf {
    // target/<profile>/deps/<test> -> target/<profile>/dbfs
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/<profile>/deps");
    let binary = profile.join("dbfs");
    assert!(
        binary.is_file(),
        "{} is missing: run cargo test -p dbfs",
        binary.display()
    );
    binary
}
