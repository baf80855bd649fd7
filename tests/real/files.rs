//! What goes in comes back: every awkward size and name, trees, streams, ranges.

use std::fs;
use std::process::Stdio;

use dbfs_tests::{Installation, Shape, digest_of, write_generated};

const BLOCK: u64 = 64 << 10;
const CHUNK: u64 = 64 << 20;

#[test]
fn every_size_comes_back_identical() {
    let installation = Installation::start(Shape::FULL);
    let source = installation.scratch().join("source");
    let copy = installation.scratch().join("copy");
    let sizes = [
        0,
        1,
        8191,
        8192,
        8193,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        3 * CHUNK + 12_345,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        let digest = write_generated(&source, size, seed as u64);
        let path = format!("/admin/size-{size}");
        let receipt = installation
            .run(["upload", "--json", source.to_str().unwrap(), &path])
            .ok()
            .json();
        assert_eq!(
            (receipt["size"].as_u64(), receipt["digest"].as_str()),
            (Some(size), Some(digest.as_str()))
        );
        let copies = if size == 0 { 0 } else { 2 };
        assert!(
            receipt["durability"]["copies"].as_u64() >= Some(copies),
            "{receipt}"
        );
        assert_eq!(receipt["durability"]["reduced"], false);
        let entry = installation.run(["stat", "--json", &path]).ok().json();
        assert_eq!(entry["digest"].as_str(), Some(digest.as_str()));
        installation.run(["download", &path, copy.to_str().unwrap()]).ok();
        assert_eq!(digest_of(&copy), digest, "size {size}");
        fs::remove_file(&copy).unwrap();
    }
    ranges(&installation);
    streams(&installation);
    names(&installation);
}

fn ranges(installation: &Installation) {
    let source = installation.scratch().join("ranged");
    write_generated(&source, 3 * BLOCK + 100, 77);
    installation
        .run(["upload", source.to_str().unwrap(), "/admin/ranged"])
        .ok();
    let whole = fs::read(&source).unwrap();
    for (first, last) in [(0, 0), (1, 70_000), (65_535, 65_536), (100_000, 3 * 65_536 + 99)] {
        let range = format!("{first}-{last}");
        let output = installation
            .command()
            .args(["get", "--range", &range, "/admin/ranged", "-"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stdout == whole[first..=last], "range {range}");
    }
}

fn streams(installation: &Installation) {
    let source = installation.scratch().join("streamed");
    let digest = write_generated(&source, CHUNK + 777, 5);
    let mut upload = installation.command();
    upload
        .args(["upload", "--json", "-", "/admin/streamed"])
        .stdin(Stdio::from(fs::File::open(&source).unwrap()));
    let output = upload.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = installation
        .command()
        .args(["download", "/admin/streamed", "-"])
        .output()
        .unwrap();
    assert_eq!(blake3_hex(&output.stdout), digest);
}

fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn names(installation: &Installation) {
    let source = installation.scratch().join("named");
    let digest = write_generated(&source, 100, 6);
    let long = "n".repeat(255);
    let deep = vec!["a deep folder name of forty characters xx"; 23].join("/");
    for name in [
        "two words",
        "quote\"s and 'more'",
        "\u{1f980}\u{1f600} emoji",
        "-dash",
        "*?[x]",
        &long,
        &deep,
    ] {
        let path = format!("/admin/names/{name}");
        installation.run(["upload", source.to_str().unwrap(), &path]).ok();
        let entry = installation.run(["stat", "--json", &path]).ok().json();
        assert_eq!(
            (entry["path"].as_str(), entry["digest"].as_str()),
            (Some(path.as_str()), Some(digest.as_str()))
        );
    }
    let listed = installation.run(["list", "-r", "/admin/names"]).ok();
    assert_eq!(listed.out.lines().count(), 7, "{}", listed.out);
    for bad in [
        "/admin/../x",
        "/admin//x",
        "/admin/a\nb",
        &format!("/admin/{}", "n".repeat(256)),
        "admin/x",
    ] {
        let ran = installation.run(["upload", source.to_str().unwrap(), bad]);
        assert_eq!(ran.code, 2, "{bad:?}: {}", ran.err);
    }
}

#[test]
fn a_tree_of_two_thousand_files_comes_back_identical() {
    let installation = Installation::start(Shape::FULL);
    let tree = installation.scratch().join("tree");
    for at in 0..2000_u64 {
        let folder = tree.join(format!("folder {}", at % 20));
        fs::create_dir_all(&folder).unwrap();
        write_generated(&folder.join(format!("file {at}")), at * 7 % 5000, at);
    }
    let tree_path = tree.to_str().unwrap();
    installation
        .run(["upload", "-q", "-r", tree_path, "/admin/"])
        .ok();
    let back = installation.scratch().join("back");
    fs::create_dir(&back).unwrap();
    installation
        .run([
            "download",
            "-q",
            "-r",
            "/admin/tree",
            &format!("{}/", back.display()),
        ])
        .ok();
    for at in 0..2000_u64 {
        let below = format!("tree/folder {}/file {at}", at % 20);
        assert_eq!(
            digest_of(&back.join(&below)),
            digest_of(&installation.scratch().join(&below)),
            "{below}"
        );
    }
    let found = installation.run(["search", "/admin/tree", "file 199*"]).ok();
    assert_eq!(found.out.lines().count(), 11, "{}", found.out);
    let substring = installation.run(["search", "/admin/tree", "ile 1234"]).ok();
    assert_eq!(substring.out.trim(), "/admin/tree/folder 14/file 1234");
    let counted = || installation.status().unwrap()["files"].as_u64();
    assert_eq!(counted(), Some(2000));
    installation.run(["delete", "-r", "--yes", "/admin/tree"]).ok();
    assert_eq!(counted(), Some(0), "at once, although the tree is in the trash");
    assert_eq!(installation.run(["stat", "/admin/tree/folder 1/file 1"]).code, 3);
    assert_eq!(installation.run(["search", "/admin", "file 1*"]).ok().out, "");
}

#[test]
fn an_update_is_one_new_version_and_conditions_hold() {
    let installation = Installation::start(Shape::ONE_CLUSTER);
    let (old, new) = (
        installation.scratch().join("old"),
        installation.scratch().join("new"),
    );
    write_generated(&old, 100_000, 1);
    let digest = write_generated(&new, 200_000, 2);
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    assert_eq!(
        installation.run(["update", new, "/admin/f"]).code,
        3,
        "nothing to update yet"
    );
    let first = installation
        .run(["upload", "--json", "--if-none-match", old, "/admin/f"])
        .ok()
        .json();
    assert_eq!(
        installation
            .run(["upload", "--if-none-match", old, "/admin/f"])
            .code,
        6
    );
    let version = first["version"].as_u64().unwrap().to_string();
    let second = installation
        .run(["update", "--json", "--if-match", &version, new, "/admin/f"])
        .ok()
        .json();
    assert_ne!(second["version"], first["version"]);
    assert_eq!(
        installation
            .run(["update", "--if-match", &version, old, "/admin/f"])
            .code,
        6
    );
    let entry = installation.run(["stat", "--json", "/admin/f"]).ok().json();
    assert_eq!(entry["digest"].as_str(), Some(digest.as_str()));
    installation.run(["delete", "--yes", "/admin/f"]).ok();
    assert_eq!(installation.run(["download", "/admin/f", "-"]).code, 3);
    assert_eq!(installation.run(["delete", "--yes", "/admin/f"]).code, 3);
}
