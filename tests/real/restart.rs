//! Everything loses power; acknowledged data is there, whatever starts first.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use dbfs_tests::{Installation, Process, Shape, digest_of, signal, until, within, write_generated};

use crate::half_way::HalfWay;

/// A command that meets no majority says so within this.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn acknowledged_files_survive_the_end_of_all_processes() {
    let mut installation = Installation::start(Shape::FULL);
    let source = installation.scratch().join("source");
    let mut digests = Vec::new();
    for round in 0..4_u64 {
        for file in 0..5_u64 {
            let path = format!("/admin/round {round}/file {file}");
            let digest = write_generated(&source, (file * 3_000_001) >> (2 * file), round * 10 + file);
            installation.run(["upload", source.to_str().unwrap(), &path]).ok();
            digests.push((path, digest));
        }
        // An upload under way when the power goes must not come back as half a file.
        let big = installation.scratch().join("big");
        write_generated(&big, 300 << 20, 99);
        let unfinished = format!("/admin/unfinished {round}");
        let mut upload = HalfWay::begin(&installation, big.to_str().unwrap(), &unfinished);
        installation.kill_all();
        upload.child.kill().unwrap();
        upload.child.wait().unwrap();
        start_in_order(&mut installation, round);
        for (path, digest) in &digests {
            let copy = installation.scratch().join("copy");
            installation.run(["download", path, copy.to_str().unwrap()]).ok();
            assert_eq!(&digest_of(&copy), digest, "{path} after round {round}");
        }
        assert_eq!(installation.run(["stat", &unfinished]).code, 3);
    }
}

/// Supernodes first, chunkservers first, backwards, or by odd and even places.
fn start_in_order(installation: &mut Installation, round: u64) {
    let mut names: Vec<String> = installation
        .processes
        .iter()
        .map(|process| process.name.clone())
        .collect();
    match round {
        0 => {}
        1 => names.rotate_left(3),
        2 => names.reverse(),
        _ => names.sort_by_key(|name| name.bytes().map(u32::from).sum::<u32>() % 2),
    }
    for name in names {
        installation.restart(&name, &[]);
    }
    installation.wait_until_whole();
}

#[test]
fn up_starts_what_was_there_and_down_ends_it() {
    let mut installation = Installation::start(Shape::ONE_CLUSTER);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, 70_000, 3);
    installation
        .run(["upload", source.to_str().unwrap(), "/admin/kept"])
        .ok();
    let data = installation.data();
    nothing_is_for_others(&data);
    let data = data.to_str().unwrap();
    installation.run(["down", "--data", data]).ok();
    until("all processes to end", || {
        installation
            .processes
            .iter()
            .all(|process| !process.is_running())
            .then_some(())
    });
    assert_eq!(installation.run(["stat", "/admin/kept"]).code, 5);
    let up = installation.run(["up", "--detach", "--data", data]);
    installation.processes.clear();
    installation.adopt();
    up.ok();
    let entry = installation.run(["stat", "--json", "/admin/kept"]).ok().json();
    assert_eq!(entry["digest"].as_str(), Some(digest.as_str()));
    a_hangup_reloads_certificates(&installation);
    up_starts_what_is_missing(&mut installation);
    without_a_majority_commands_end_soon(&mut installation);
}

fn a_hangup_reloads_certificates(installation: &Installation) {
    for process in &installation.processes {
        signal(process.pid.unwrap(), "HUP");
    }
    until("every process to read its certificates anew", || {
        let done = |process: &Process| {
            let log = std::fs::read_to_string(&process.log).unwrap_or_default();
            log.contains("identity read anew")
        };
        installation.processes.iter().all(done).then_some(())
    });
    assert!(installation.processes.iter().all(Process::is_running));
}

/// One process that is gone shows in `status`; `up` starts it again, also where the note of who runs is damaged; and one
/// that cannot start takes no other one down.
fn up_starts_what_is_missing(installation: &mut Installation) {
    let data = installation.data();
    let up = ["up", "--detach", "--data", data.to_str().unwrap()];
    installation.process("supernode-3").kill();
    let status = until("a dead supernode to show", || {
        let status = installation.status()?;
        (status["health"] == "degraded").then_some(status)
    });
    assert!(status["problems"].to_string().contains("supernode-3"), "{status}");
    let members = status["names"]["members"].as_array().unwrap();
    let dead = members.iter().find(|member| member["name"] == "supernode-3");
    assert_eq!(dead.unwrap()["replication"], "silent", "{status}");

    let config = data.join("alpha-2/config.yaml");
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, "chunkserver: {colour: red}\n").unwrap();
    installation.process("alpha-2").kill();
    std::fs::write(data.join("running.json"), "{").unwrap();
    let ran = installation.run(up).ok();
    assert!(
        ran.err.contains("alpha-2") && ran.err.contains("colour"),
        "{}",
        ran.err
    );
    std::fs::write(&config, whole).unwrap();
    let others = |process: &&Process| !matches!(process.name.as_str(), "alpha-2" | "supernode-3");
    assert!(
        installation
            .processes
            .iter()
            .filter(others)
            .all(Process::is_running)
    );
    installation.run(up).ok();
    installation.processes.clear();
    installation.adopt();
    installation.wait_until_whole();
    assert!(installation.run(up).ok().out.contains("runs already"));
}

fn without_a_majority_commands_end_soon(installation: &mut Installation) {
    installation.process("supernode-2").kill();
    installation.process("supernode-3").kill();
    let mut list = installation.command().args(["list", "/admin"]).spawn().unwrap();
    let ended = within(TOLD_WITHIN, "a command to give up", || list.try_wait().unwrap());
    assert_eq!(ended.code(), Some(5));
    let status = until("the missing majority to show", || {
        let status = installation.status()?;
        (status["health"] == "unavailable").then_some(status)
    });
    assert!(status["names"]["leader"].is_null(), "{status}");
    // It lives and serves, but starting it again would not help.
    let probe = |path| installation.probe("supernode-1", path);
    assert_eq!(
        (probe("/livez"), probe("/readyz"), probe("/quorumz")),
        (200, 200, 503)
    );
    assert_eq!(installation.probe("alpha-1", "/quorumz"), 200);
}

/// No directory of a server's data lets another user in, and no file outside of one is readable by others.
fn nothing_is_for_others(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        let is_open = metadata.permissions().mode() & 0o077 != 0;
        let is_public = entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "pem");
        if metadata.is_dir() && is_open {
            nothing_is_for_others(&entry.path());
        } else if metadata.is_file() {
            assert!(!is_open || is_public, "{}", entry.path().display());
        }
    }
}
