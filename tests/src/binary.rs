//! The binary under test: the one that `cargo build` makes, in the profile of the running test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Path of the `dbfs` command, built and fresh. Building happens once per test process, and not at all when
/// `cargo test --workspace` has built it already.
///
/// # Panics
/// If the build fails.
pub fn dbfs_binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            // target/<profile>/deps/<test> -> target/<profile>/dbfs
            let test = std::env::current_exe().expect("a test has a path");
            let profile = test
                .ancestors()
                .nth(2)
                .expect("tests lie in target/<profile>/deps");
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--package", "dbfs"]);
            if profile.ends_with("release") {
                build.arg("--release");
            }
            build.env(
                "CARGO_TARGET_DIR",
                profile.parent().expect("a profile lies in a target folder"),
            );
            build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            let status = build.status().expect("cargo runs");
            assert!(status.success(), "building dbfs failed");
            profile.join("dbfs")
        })
        .clone()
}
