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
    // The reserve of 256 MiB, which is never written to, is half of the limit below.
    let marked = [("DBFS__SUPERNODE__PLACEMENT__HIGH_WATER_PERCENT", "40")];
    let mut installation = Installation::start_with(Shape::FULL, &marked);
    let source = installation.scratch().join("source");
    write_generated(&source, 3 << 20, 2);
    let source = source.to_str().unwrap().to_owned();
    installation.run(["upload", &source, "/admin/early"]).ok();

    limit_capacity(&mut installation, "alpha", "512MiB");
    for at in 0..5 {
        let path = format!("/admin/file {at}");
        let receipt = installation.run(["upload", "--json", &source, &path]).ok().json();
        assert_eq!(receipt["cluster"], "beta");
    }

    limit_capacity(&mut installation, "beta", "512MiB");
    let ran = installation.run(["upload", &source, "/admin/refused"]);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert_eq!(installation.run(["stat", "/admin/refused"]).code, 3);
    // Deleting still works, and so does reading.
    installation.run(["download", "/admin/file 1", "-"]).ok();
    installation.run(["delete", "--yes", "/admin/file 1"]).ok();

    limit_capacity(&mut installation, "alpha", "4GiB");
    let receipt = installation
        .run(["upload", "--json", &source, "/admin/refused"])
        .ok()
        .json();
    assert_eq!(receipt["cluster"], "alpha");
}

/// Restarts the nodes of a cluster with disks of this size, and waits until the supernodes have heard of it.
fn limit_capacity(installation: &mut Installation, cluster: &str, limit: &str) {
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
                Some((indent, _)) => format!("{indent}capacity_bytes: {limit}"),
                None => line.to_owned(),
            })
            .collect();
        std::fs::write(&config, limited.join("\n")).unwrap();
        installation.restart(&name, &[]);
    }
    let small = limit == "512MiB";
    until(&format!("{cluster} to be at work again"), || {
        let status = installation.status()?;
        let row = status["clusters"]
            .as_array()?
            .iter()
            .find(|row| row["name"] == cluster)?;
        let live = row["nodes"]
            .as_array()?
            .iter()
            .all(|node| node["state"] == "live");
        (live && row["accepts_files"].as_bool()? != small).then_some(())
    });
}
