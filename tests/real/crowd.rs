//! Many at once: both clusters are used, full ones are left alone.

use dbfs_tests::{Installation, Shape, until, write_generated};
use serde_json::Value;

#[test]
fn ten_clients_at_once_use_both_clusters() {
    let installation = Installation::start(Shape::FULL);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, 20 << 20, 1);
    let children: Vec<_> = (0..10)
        .map(|at| {
            let path = format!("/admin/file {at}");
            installation
                .command()
                .args(["upload", "--json", source.to_str().unwrap(), &path])
                .spawn()
                .unwrap()
        })
        .collect();
    let mut by_cluster = std::collections::BTreeMap::<String, u32>::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let receipt: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(receipt["digest"].as_str(), Some(digest.as_str()));
        *by_cluster
            .entry(receipt["cluster"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    // Equal clusters get about equal parts: with ten files, at least two each.
    assert!(
        by_cluster.len() == 2 && by_cluster.values().all(|count| *count >= 2),
        "{by_cluster:?}"
    );
}

#[test]
fn a_cluster_above_the_mark_gets_no_new_files_and_a_full_installation_says_so() {
    // Any use at all is above a mark of nothing.
    let marked = [
        ("DBFS__SUPERNODE__HIGH_WATER_PERCENT", "1"),
        ("DBFS_TEST_CAPACITY", ""),
    ];
    let mut installation = Installation::start_with(Shape::FULL, &marked[..1]);
    let source = installation.scratch().join("source");
    write_generated(&source, 64 << 20, 2);
    let source = source.to_str().unwrap().to_owned();
    limit_capacity(&mut installation, "alpha");
    let first = installation
        .run(["upload", "--json", &source, "/admin/first"])
        .ok()
        .json();
    let full = first["cluster"].as_str().unwrap().to_owned();
    if full == "alpha" {
        until("alpha to be above the mark", || {
            (!accepts(&installation, "alpha")?).then_some(())
        });
        for at in 0..5 {
            let receipt = installation
                .run(["upload", "--json", &source, &format!("/admin/f{at}")])
                .ok()
                .json();
            assert_eq!(receipt["cluster"], "beta");
        }
    }
    limit_capacity(&mut installation, "beta");
    until("both clusters to be above the mark", || {
        if !accepts(&installation, "alpha")? && !accepts(&installation, "beta")? {
            return Some(());
        }
        // Whichever still accepts takes this one, and is above the mark then.
        installation.run(["upload", &source, "/admin/filler"]);
        None
    });
    let ran = installation.run(["upload", &source, "/admin/refused"]);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert_eq!(installation.run(["stat", "/admin/refused"]).code, 3);
    installation.run(["delete", "--yes", "/admin/first"]).ok();
}

/// Restarts the nodes of a cluster with disks of 2 GiB, of which one upload is more than a percent.
fn limit_capacity(installation: &mut Installation, cluster: &str) {
    let names: Vec<String> = installation
        .processes
        .iter()
        .filter(|process| process.cluster == cluster)
        .map(|process| process.name.clone())
        .collect();
    for name in names {
        let config = installation.data().join(&name).join("config.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        let limited: Vec<String> = text
            .lines()
            .map(|line| match line.split_once("capacity_bytes:") {
                Some((indent, _)) => format!("{indent}capacity_bytes: 2GiB"),
                None => line.to_owned(),
            })
            .collect();
        std::fs::write(&config, limited.join("\n")).unwrap();
        installation.restart(&name, &[]);
    }
    installation.wait_until_whole();
}

fn accepts(installation: &Installation, cluster: &str) -> Option<bool> {
    let status = installation.status()?;
    let clusters = status["clusters"].as_array()?;
    clusters.iter().find(|row| row["name"] == cluster)?["accepts_files"].as_bool()
}
