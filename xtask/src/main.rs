//! `cargo xtask tidy`: what a script can check of the house style, and that the generated code is what the `.proto`
//! files say. Read-only; prints every finding, then fails. `cargo xtask generate` writes the generated code anew.

mod generate;
mod rules;
mod tree;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy(root),
        Some("generate") => generate(root),
        _ => {
            eprintln!("usage: cargo xtask tidy | generate");
            ExitCode::from(2)
        }
    }
}

fn generate(root: &Path) -> ExitCode {
    match generate::write(root) {
        Ok(files) => {
            println!("generate: {files} files written to {}", generate::TARGET);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("generate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tidy(root: &Path) -> ExitCode {
    let tree = match tree::Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy: cannot read the tree: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut findings = rules::check(&tree);
    match generate::stale(root) {
        Ok(stale) => findings.extend(stale),
        Err(error) => findings.push(format!("{}: {error:#}", generate::SOURCE)),
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", tree.files.len());
        ExitCode::SUCCESS
    } else {
        eprintln!("tidy: {} findings", findings.len());
        ExitCode::FAILURE
    }
}
