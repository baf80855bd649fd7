//! What cannot start says why in one line, exits non-zero, and touches nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use dbfs_tests::{Installation, Ran, Shape, dbfs_binary};

/// Starts a role with `config` in the foreground; it must end by itself.
fn start(role: &str, config: &Path) -> Ran {
    let output = Command::new(dbfs_binary())
        .arg(role)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    Ran::from(output)
}

fn assert_one_clear_error(ran: &Ran, mentions: &str) {
    assert_ne!(ran.code, 0);
    let errors: Vec<&str> = ran
        .err
        .lines()
        .filter(|line| line.starts_with("error["))
        .collect();
    assert_eq!(errors.len(), 1, "{}", ran.err);
    assert!(
        ran.err.contains(mentions),
        "expected '{mentions}' in: {}",
        ran.err
    );
}

/// Every file below `directory` with its length.
fn listing(directory: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                all.insert(entry.path().display().to_string(), metadata.len());
            }
        }
    }
    all
}

#[test]
fn what_cannot_start_says_why_and_touches_nothing() {
    let mut installation = Installation::start(Shape {
        supernodes: 1,
        clusters: 2,
        nodes: 1,
    });
    let config = |name: &str| installation.data().join(name).join("config.yaml");
    let (alpha, beta, supernode) = (config("alpha-1"), config("beta-1"), config("supernode-1"));

    let broken_path = installation.scratch().join("broken.yaml");
    let broken = |from: &Path, change: &dyn Fn(String) -> String| {
        std::fs::write(&broken_path, change(std::fs::read_to_string(from).unwrap())).unwrap();
        broken_path.clone()
    };

    // A second process on one data directory, while the first runs.
    for (role, name, config) in [
        ("chunkserver", "alpha-1", &alpha),
        ("supernode", "supernode-1", &supernode),
    ] {
        let elsewhere = broken(config, &|text| on_other_ports(&installation, name, text));
        let ran = start(role, &elsewhere);
        assert_one_clear_error(&ran, name);
        assert!(ran.err.contains("E_DATA_DIR_IN_USE"), "{}", ran.err);
    }

    installation.process("alpha-1").kill();
    let before = listing(&installation.data().join("alpha-1"));

    let unknown = broken(&alpha, &|text| format!("{text}\nlisten_adress: x\n"));
    assert_one_clear_error(&start("chunkserver", &unknown), "listen_adress");

    // The data directory of another cluster.
    let other = broken(&beta, &|text| text.replace("beta-1/data", "alpha-1/data"));
    installation.process("beta-1").kill();
    assert_one_clear_error(&start("chunkserver", &other), "alpha-1/data");

    // The port is taken by the supernode.
    let taken = supernode_address(&installation);
    let own = address_of(&installation, "alpha-1");
    let port = broken(&alpha, &|text| text.replace(&own, &taken));
    assert_one_clear_error(&start("chunkserver", &port), &taken);

    let key = installation.data().join("alpha-1/identity/node.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::write(&key, "not a key").unwrap();
    assert_one_clear_error(&start("chunkserver", &alpha), "node.key");
    std::fs::write(&key, kept).unwrap();

    assert_eq!(
        listing(&installation.data().join("alpha-1")),
        before,
        "nothing was touched"
    );
    installation.restart("alpha-1", &[]);
    installation.restart("beta-1", &[]);
    // Not healthy, which would need three nodes, but at work again.
    for cluster in ["alpha", "beta"] {
        installation.leader_of(cluster);
    }
}

/// The configuration of the process `name`, with ports that are free in place of its own.
fn on_other_ports(installation: &Installation, name: &str, mut text: String) -> String {
    let row = row_of(installation, name);
    for address in ["control", "data", "metrics"] {
        if let Some(address) = row[address].as_str().filter(|address| !address.is_empty()) {
            // In lists of peers too: it will not get as far as to ask them.
            text = text.replace(address, "127.0.0.1:0");
        }
    }
    text
}

fn plan(installation: &Installation) -> serde_json::Value {
    let text = std::fs::read_to_string(installation.data().join("installation.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn supernode_address(installation: &Installation) -> String {
    plan(installation)["supernodes"][0]["control"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn row_of(installation: &Installation, name: &str) -> serde_json::Value {
    let plan = plan(installation);
    let rows = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let nodes = rows(&plan["clusters"])
        .into_iter()
        .flat_map(|cluster| rows(&cluster["nodes"]));
    let mut found = rows(&plan["supernodes"])
        .into_iter()
        .chain(nodes)
        .filter(|row| row["name"] == name);
    found.next().unwrap()
}

fn address_of(installation: &Installation, name: &str) -> String {
    row_of(installation, name)["control"].as_str().unwrap().to_owned()
}

#[test]
fn fewer_than_three_nodes_must_be_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let mut up = Command::new(dbfs_binary());
    up.args(["up", "--detach", "--nodes", "2", "--data"])
        .arg(directory.path().join("data"));
    up.env("XDG_CONFIG_HOME", directory.path());
    let ran = Ran::from(up.output().unwrap());
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("--durability reduced"), "{}", ran.err);
    assert!(!directory.path().join("data").exists());
}
