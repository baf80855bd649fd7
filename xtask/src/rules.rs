//! One function per rule, each from a tree to findings. Order: shape of files, edges between crates, words.

use crate::tree::{SourceFile, Tree};

const PRODUCT_LINES_MAX: usize = 600;
const HEADER_FROM_LINES: usize = 120;

/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "utils.rs",
    "util.rs",
    "helpers.rs",
    "helper.rs",
    "misc.rs",
    "types.rs",
    "manager.rs",
    "common.rs",
];

/// What each crate may import of ours, in layers.
const EDGES: [(&str, &[&str]); 6] = [
    ("common", &[]),
    ("proto", &["common"]),
    ("consensus", &["common", "proto"]),
    ("supernode", &["common", "proto", "consensus"]),
    ("chunkserver", &["common", "proto", "consensus"]),
    ("client", &["common", "proto"]),
];

/// What code under `core/` must not know.
const IMPURE: [&str; 6] = [
    "tokio::",
    "tonic::",
    "std::fs",
    "std::net",
    "Clock",
    "Random::system",
];

/// What the text of the project must not name: registry hosts and the paths of one machine.
const FOREIGN_WORDS: [&str; 4] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("deb.", "debian.org"),
    concat!("npmjs", ".org"),
];

/// All findings, one line each: `path:line: what is wrong`.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let rules: [fn(&SourceFile) -> Vec<String>; 8] = [
        long_files,
        missing_headers,
        empty_names,
        glob_imports,
        stubs,
        crate_edges,
        impure_core,
        foreign_words,
    ];
    let each = tree
        .files
        .iter()
        .filter(|file| !file.is_generated())
        .flat_map(|file| rules.iter().flat_map(|rule| rule(file)));
    each.chain(openraft_users(tree)).collect()
}

fn long_files(file: &SourceFile) -> Vec<String> {
    let lines = file.product_lines().count();
    if file.is_rust() && !file.is_test() && lines > PRODUCT_LINES_MAX {
        return vec![format!(
            "{}: {lines} product lines; stop at {PRODUCT_LINES_MAX}",
            file.path
        )];
    }
    Vec::new()
}

fn missing_headers(file: &SourceFile) -> Vec<String> {
    let needs_one = file.is_rust() && file.text.lines().count() > HEADER_FROM_LINES;
    if needs_one && !file.text.starts_with("//!") {
        return vec![format!(
            "{}:1: a long file opens with a //! header that says why it exists",
            file.path
        )];
    }
    Vec::new()
}

fn empty_names(file: &SourceFile) -> Vec<String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let twin = name.strip_suffix(".rs").is_some_and(|stem| {
        stem.rsplit_once("_v")
            .is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if EMPTY_NAMES.contains(&name) || twin {
        return vec![format!(
            "{}: the name says nothing; name it after what it does",
            file.path
        )];
    }
    Vec::new()
}

fn glob_imports(file: &SourceFile) -> Vec<String> {
    let bad = |line: &str| {
        let line = line.trim_start();
        line.starts_with("use ") && line.ends_with("::*;") && line != "use super::*;"
    };
    findings(file, file.is_rust(), bad, "import names, not everything")
}

fn stubs(file: &SourceFile) -> Vec<String> {
    let bad = |line: &str| line.contains("todo!(") || line.contains("unimplemented!(");
    findings(
        file,
        file.is_rust() && !file.path.starts_with("xtask/"),
        bad,
        "a stub is not a feature",
    )
}

fn crate_edges(file: &SourceFile) -> Vec<String> {
    let Some((owner, _)) = file.path.split_once('/') else {
        return Vec::new();
    };
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == owner) else {
        return Vec::new();
    };
    if file.path != format!("{owner}/Cargo.toml") {
        return Vec::new();
    }
    let section = file.text.split("[dev-dependencies]").next().unwrap_or_default();
    EDGES
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !allowed.contains(name))
        .filter(|name| {
            section
                .lines()
                .any(|line| line.starts_with(&format!("{name}.workspace")))
        })
        .map(|name| format!("{}: {owner} must not depend on {name}", file.path))
        .collect()
}

fn impure_core(file: &SourceFile) -> Vec<String> {
    let is_core = file.is_rust() && !file.is_test() && file.path.contains("/core/");
    let bad =
        |line: &str| !line.trim_start().starts_with("//") && IMPURE.iter().any(|word| line.contains(word));
    findings(
        file,
        is_core,
        bad,
        "core/ is pure: take time and randomness as arguments, return effects",
    )
}

fn foreign_words(file: &SourceFile) -> Vec<String> {
    let bad = |line: &str| FOREIGN_WORDS.iter().any(|word| line.contains(word));
    findings(file, file.path != "Cargo.lock", bad, "name no registry host")
}

/// openraft is seen by `consensus` alone.
fn openraft_users(tree: &Tree) -> Vec<String> {
    tree.files
        .iter()
        .filter(|file| {
            file.is_rust() && !file.path.starts_with("consensus/") && !file.path.starts_with("xtask/")
        })
        .flat_map(|file| {
            findings(
                file,
                true,
                |line: &str| line.contains("openraft::"),
                "openraft stays inside consensus",
            )
        })
        .collect()
}

fn findings(file: &SourceFile, applies: bool, bad: impl Fn(&str) -> bool, message: &str) -> Vec<String> {
    if !applies {
        return Vec::new();
    }
    file.product_lines()
        .filter(|(_, line)| bad(line))
        .map(|(number, _)| format!("{}:{number}: {message}", file.path))
        .collect()
}
