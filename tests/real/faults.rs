//! Single processes die in the middle of things (SIGKILL), or all stand still: what was acknowledged stays, what was
//! not is not seen.

use std::time::Duration;

use dbfs_tests::{Installation, Role, Shape, digest_of, signal, until, write_generated};

use crate::half_way::{HalfWay, nodes};

const LARGE: u64 = 400 << 20;
/// Longer than any member of a group waits for another.
const STANDSTILL: Duration = Duration::from_secs(4);

/// What a stream has sent cannot be sent again, and a copy on a silent node does not count at the seal: the silence has to
/// last for longer than a slow machine takes for the rest of the upload.
const PATIENT: [(&str, &str); 1] = [("DBFS__CHUNKSERVER__TIMINGS__SUSPECT_AFTER", "25s")];

fn check_download(installation: &Installation, path: &str, digest: &str) {
    let copy = installation.scratch().join("copy");
    installation.run(["download", path, copy.to_str().unwrap()]).ok();
    assert_eq!(digest_of(&copy), digest);
}

#[test]
fn a_node_dies_while_it_receives_and_the_upload_goes_on() {
    let mut installation = Installation::start_with(Shape::ONE_CLUSTER, &PATIENT);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, LARGE, 1);
    let leader = installation.leader_of("alpha");
    let victim = installation
        .processes
        .iter()
        .find(|process| process.role == Role::Chunkserver && process.name != leader)
        .map(|process| process.name.clone())
        .unwrap();
    let upload = HalfWay::begin(&installation, source.to_str().unwrap(), "/admin/f");
    installation.process(&victim).kill();
    let receipt = upload.finish().ok().json();
    assert_eq!(
        receipt["durability"]["copies"], 2,
        "with one of three down, writes go on with two copies"
    );
    check_download(&installation, "/admin/f", &digest);
    // And the other way round: what the dead node holds is read from the copies.
    installation.restart(&victim, &[]);
    installation.wait_until_whole();
    check_download(&installation, "/admin/f", &digest);
}

#[test]
fn the_leader_dies_during_an_upload_and_the_upload_goes_on() {
    let mut installation = Installation::start_with(Shape::ONE_CLUSTER, &PATIENT);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, LARGE, 2);
    let leader = installation.leader_of("alpha");
    let upload = HalfWay::begin(&installation, source.to_str().unwrap(), "/admin/f");
    installation.process(&leader).kill();
    upload.finish().ok();
    check_download(&installation, "/admin/f", &digest);
    assert_ne!(installation.leader_of("alpha"), leader);
}

#[test]
fn a_supernode_dies_during_an_upload_and_the_upload_goes_on() {
    let mut installation = Installation::start(Shape::ONE_CLUSTER);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, LARGE, 3);
    let leader = installation.leader_of("names");
    let upload = HalfWay::begin(&installation, source.to_str().unwrap(), "/admin/f");
    installation.process(&leader).kill();
    upload.finish().ok();
    check_download(&installation, "/admin/f", &digest);
    installation.restart(&leader, &[]);
    installation.wait_until_whole();
    check_download(&installation, "/admin/f", &digest);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "time that passes is the fault here")]
fn everything_stands_still_for_a_while_and_the_upload_goes_on() {
    let installation = Installation::start(Shape::ONE_CLUSTER);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, LARGE, 6);
    let upload = HalfWay::begin(&installation, source.to_str().unwrap(), "/admin/f");
    // As when a laptop is closed.
    let servers = installation.processes.iter().filter_map(|process| process.pid);
    let all: Vec<u32> = servers.chain([upload.child.id()]).collect();
    all.iter().for_each(|pid| signal(*pid, "STOP"));
    std::thread::sleep(STANDSTILL);
    all.iter().for_each(|pid| signal(*pid, "CONT"));
    upload.finish().ok();
    check_download(&installation, "/admin/f", &digest);
    installation.wait_until_whole();
}

#[test]
fn a_client_that_dies_leaves_nothing_visible_and_its_upload_is_abandoned() {
    let silence = [
        ("DBFS__CHUNKSERVER__TIMINGS__GRANT_LIFETIME", "3s"),
        ("DBFS__CHUNKSERVER__TIMINGS__UPLOAD_SILENCE_MAX", "3s"),
        ("DBFS__CHUNKSERVER__TIMINGS__DROP_DELAY", "3s"),
    ];
    let installation = Installation::start_with(Shape::ONE_CLUSTER, &silence);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, LARGE, 4);
    let mut upload = HalfWay::begin(&installation, source.to_str().unwrap(), "/admin/f");
    upload.child.kill().unwrap();
    upload.child.wait().unwrap();
    assert_eq!(installation.run(["stat", "/admin/f"]).code, 3);
    until("the upload to be abandoned", || {
        (installation.status()?["uploads_open"] == 0).then_some(())
    });
    assert_eq!(installation.run(["stat", "/admin/f"]).code, 3);
    installation
        .run(["upload", source.to_str().unwrap(), "/admin/f"])
        .ok();
    check_download(&installation, "/admin/f", &digest);
}

#[test]
fn an_emptied_disk_is_a_new_node() {
    let mut installation = Installation::start(Shape::ONE_CLUSTER);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, 3 << 20, 5);
    installation
        .run(["upload", source.to_str().unwrap(), "/admin/f"])
        .ok();
    installation.process("alpha-3").kill();
    let data = installation.data().join("alpha-3/data");
    std::fs::remove_dir_all(&data).unwrap();
    let before = ids(&installation);
    installation.restart("alpha-3", &[]);
    until("the emptied node to have joined under a new id", || {
        let new: Vec<u64> = ids(&installation)
            .into_iter()
            .filter(|id| !before.contains(id))
            .collect();
        (new.len() == 1).then_some(())
    });
    check_download(&installation, "/admin/f", &digest);
}

fn ids(installation: &Installation) -> Vec<u64> {
    nodes(installation)
        .unwrap_or_default()
        .iter()
        .filter_map(|node| node["node"].as_u64())
        .collect()
}
