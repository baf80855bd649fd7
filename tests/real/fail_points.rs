//! Every arrow of the state table that this build walks, with the process ending right before it and right after it.
//!
//! All processes of the tier are armed, so that whoever leads dies at the point, and the next leader may too; a
//! supervisor starts them again unarmed. The commands may take their time, but what they say must be true: either the
//! whole file is there or nothing is visible, and no retry makes a second version.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::half_way::nodes;
use common::fail::VARIABLE;
use dbfs_tests::{Installation, Role, Shape, digest_of, until, write_generated};

/// Deadlines short enough that a test sees trash expire and chunks be dropped.
const RECLAIM_SOON: &[(&str, &str)] = &[
    ("DBFS__SUPERNODE__TIMINGS__TRASH_KEEP", "500ms"),
    ("DBFS__SUPERNODE__TIMINGS__TIDY_PERIOD", "200ms"),
    ("DBFS__CHUNKSERVER__TIMINGS__GRANT_LIFETIME", "2s"),
    ("DBFS__CHUNKSERVER__TIMINGS__MARK_UNDO_WINDOW", "500ms"),
    ("DBFS__CHUNKSERVER__TIMINGS__DROP_DELAY", "2s"),
    ("DBFS__CHUNKSERVER__TIMINGS__RECLAIM_PERIOD", "200ms"),
];

/// Short enough that a test sees uploads be given up.
const GIVE_UP_SOON: &[(&str, &str)] = &[
    ("DBFS__SUPERNODE__TIMINGS__UPLOAD_TICKET_LIFETIME", "3s"),
    ("DBFS__SUPERNODE__TIMINGS__SESSION_IDLE_MAX", "3s"),
    ("DBFS__SUPERNODE__TIMINGS__TIDY_PERIOD", "200ms"),
    ("DBFS__CHUNKSERVER__TIMINGS__GRANT_LIFETIME", "3s"),
    ("DBFS__CHUNKSERVER__TIMINGS__UPLOAD_SILENCE_MAX", "3s"),
];

/// Short enough that a test sees nodes suspected and given up, and long enough for a restart.
const NOTICE_SOON: &[(&str, &str)] = &[
    ("DBFS__CHUNKSERVER__TIMINGS__SUSPECT_AFTER", "3s"),
    ("DBFS__CHUNKSERVER__TIMINGS__DEAD_AFTER", "6s"),
];

struct Walk {
    installation: Installation,
    source: PathBuf,
    digest: String,
    round: u32,
    /// Whose processes may have a point of theirs before them.
    armed: Option<Role>,
}

impl Walk {
    fn start(deadlines: &[(&str, &str)]) -> Self {
        let installation = Installation::start_with(Shape::ONE_CLUSTER, deadlines);
        let source = installation.scratch().join("source");
        let digest = write_generated(&source, 300_000, 7);
        Self {
            installation,
            source,
            digest,
            round: 0,
            armed: None,
        }
    }

    /// Restarts every process of `role` with `point` armed, and the others without any.
    fn arm(&mut self, role: Role, point: &str) {
        if let Some(other) = self.armed.replace(role).filter(|armed| *armed != role) {
            self.restart_all(other, &[]);
        }
        self.restart_all(role, &[(VARIABLE, point)]);
        self.installation.wait_until_whole();
        self.round += 1;
    }

    fn restart_all(&mut self, role: Role, environment: &[(&str, &str)]) {
        let of_tier = |process: &&dbfs_tests::Process| process.role == role;
        let names: Vec<String> = self
            .installation
            .processes
            .iter()
            .filter(of_tier)
            .map(|process| process.name.clone())
            .collect();
        for name in names {
            self.installation.restart(&name, environment);
        }
    }

    /// Runs a command under supervision; how many processes ended meanwhile.
    fn run(&mut self, arguments: &[&str], codes: &[i32]) -> usize {
        let (ran, ended) = self.installation.run_supervised(arguments);
        assert!(
            codes.contains(&ran.code),
            "{arguments:?} ended with {}: {}",
            ran.code,
            ran.err
        );
        ended
    }

    fn upload(&mut self, path: &str) -> usize {
        let source = self.source.to_str().unwrap().to_owned();
        self.run(&["upload", &source, path], &[0])
    }

    fn check(&self, path: &str) {
        let copy = self.installation.scratch().join("copy");
        self.installation
            .run(["download", path, copy.to_str().unwrap()])
            .ok();
        assert_eq!(digest_of(Path::new(&copy)), self.digest);
    }

    /// Waits until a process has died at the point, starting it again.
    fn until_hit(&mut self, point: &str, ended: usize) {
        let mut ended = ended;
        until(&format!("a process to reach {point}"), || {
            ended += self.installation.start_missing();
            (ended > 0).then_some(())
        });
        self.settle();
    }

    /// Ends a node that does not lead, and says which.
    fn silence_a_follower(&mut self) -> String {
        let leader = self.installation.leader_of("alpha");
        let names = ["alpha-1", "alpha-2", "alpha-3"];
        let silent = names.into_iter().find(|name| *name != leader).unwrap();
        self.installation.process(silent).kill();
        silent.to_owned()
    }

    /// Waits until a process other than `silent` has died.
    fn until_another_dies(&mut self, silent: &str, point: &str) {
        until(&format!("a process to reach {point}"), || {
            let others = self.installation.processes.iter_mut();
            others
                .filter(|process| process.name != silent)
                .any(|process| {
                    process.reap();
                    !process.is_running()
                })
                .then_some(())
        });
    }

    /// The node names of the copies of the only chunk of `path`, and how each copy stands.
    fn copies(&self, path: &str) -> Option<Vec<(String, String)>> {
        let ran = self.installation.run(["placement", "--json", path]);
        let placement = (ran.code == 0).then(|| ran.json())?;
        let copies = placement["chunks"][0]["copies"].as_array()?;
        let both = |copy: &serde_json::Value| (text(&copy["name"]), text(&copy["state"]));
        Some(copies.iter().map(both).collect())
    }

    /// Flips a bit of the source's content wherever it is on the disk of `node`: there may be more than the copy that
    /// counts, left over from an attempt that failed.
    fn damage(&self, node: &str) {
        let content = std::fs::read(&self.source).unwrap();
        let wanted = &content[100_000..100_064];
        let mut damaged = 0;
        let chunks = self.installation.data().join(node).join("data/chunks");
        for entry in std::fs::read_dir(chunks).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(64)
                .enumerate()
                .filter(|(_, window)| *window == wanted);
            for (at, _) in found {
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&[wanted[0] ^ 1], at as u64).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "{node} holds the file");
    }

    fn states(&self) -> Vec<(String, String)> {
        nodes(&self.installation)
            .unwrap_or_default()
            .iter()
            .map(|node| (text(&node["name"]), text(&node["state"])))
            .collect()
    }

    /// Waits until nobody dies any more and all is healthy again.
    fn settle(&mut self) {
        until("the installation to be healthy again", || {
            self.installation.start_missing();
            let status = self.installation.status()?;
            (status["health"] == "healthy").then_some(())
        });
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn death_at_seal_and_publish_loses_and_doubles_nothing() {
    let mut walk = Walk::start(&[]);
    let points = [
        (Role::Chunkserver, "upload.sealed"),
        (Role::Chunkserver, "version.published"),
        (Role::Chunkserver, "replica.stored"),
        (Role::Supernode, "session.published"),
    ];
    let mut files = 0;
    for (role, arrow) in points {
        for side in ["before", "after"] {
            let point = format!("{arrow}:{side}");
            walk.arm(role, &point);
            let path = format!("/admin/file {}", walk.round);
            let ended = walk.upload(&path);
            files += 1;
            walk.until_hit(&point, ended);
            walk.check(&path);
            let status = walk.installation.status().unwrap();
            assert_eq!(status["files"].as_u64(), Some(files), "after {point}");
        }
    }
}

#[test]
fn death_in_the_middle_of_a_chunk_is_gone_around() {
    let mut walk = Walk::start(&[]);
    let source = walk.source.clone();
    walk.digest = write_generated(&source, 150 << 20, 9);
    for point in ["put.primary.mid", "put.delegate.mid"] {
        walk.arm(Role::Chunkserver, point);
        let path = format!("/admin/file {}", walk.round);
        let ended = walk.upload(&path);
        walk.until_hit(point, ended);
        walk.check(&path);
    }
}

#[test]
fn death_at_a_refusal_leaves_the_version_that_came_first() {
    let mut walk = Walk::start(&[]);
    for (role, arrow) in [
        (Role::Supernode, "session.refused"),
        (Role::Chunkserver, "version.refused"),
    ] {
        for side in ["before", "after"] {
            let point = format!("{arrow}:{side}");
            walk.arm(role, &point);
            let path = format!("/admin/file {}", walk.round);
            let mut late = walk
                .installation
                .command()
                .args(["upload", "--if-none-match", "-", &path])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            until("the late upload to be open", || {
                (walk.installation.status()?["uploads_open"].as_u64()? > 0).then_some(())
            });
            // The supernodes decide both at the same place, so that they may end already here.
            let early = walk.upload(&path);
            late.stdin.take().unwrap().write_all(b"too late").unwrap();
            let (ran, ended) = walk.installation.supervise(late, "the late upload");
            assert_eq!(ran.code, 6, "{point}: {}", ran.err);
            walk.until_hit(&point, early + ended);
            walk.check(&path);
        }
    }
}

#[test]
fn death_during_reclaim_drops_what_was_deleted_and_nothing_else() {
    let mut walk = Walk::start(RECLAIM_SOON);
    walk.upload("/admin/kept");
    let points = [
        (Role::Supernode, "version.trashed"),
        (Role::Supernode, "version.released"),
        (Role::Chunkserver, "chunk.marked"),
        (Role::Chunkserver, "chunk.doomed"),
        (Role::Chunkserver, "chunk.spared"),
        (Role::Chunkserver, "replica.leaving"),
        (Role::Chunkserver, "replica.tombstoned"),
        (Role::Chunkserver, "chunk.dropped"),
        (Role::Chunkserver, "version.gone"),
    ];
    for (role, arrow) in points {
        for side in ["before", "after"] {
            let point = format!("{arrow}:{side}");
            walk.upload("/admin/doomed");
            walk.settle();
            walk.arm(role, &point);
            let ended = walk.run(&["delete", "--yes", "/admin/doomed"], &[0, 3]);
            walk.until_hit(&point, ended);
            assert_eq!(
                walk.installation.run(["stat", "/admin/doomed"]).code,
                3,
                "after {point}"
            );
            until("the deleted file's chunk to be dropped", || {
                walk.installation.start_missing();
                let status = walk.installation.status()?;
                (status["clusters"][0]["chunks"] == 1).then_some(())
            });
            walk.check("/admin/kept");
        }
    }
}

#[test]
fn death_at_a_restoration_brings_the_file_back_once() {
    let mut walk = Walk::start(&[]);
    walk.upload("/admin/back");
    for side in ["before", "after"] {
        let point = format!("version.restored:{side}");
        walk.arm(Role::Supernode, &point);
        walk.run(&["delete", "--yes", "/admin/back"], &[0]);
        let mut ended = 0;
        until("the file to be back", || {
            // Who dies on the way cannot answer; then the next one is asked, or it is there already.
            let _ = walk.installation.run(["trash", "restore", "/admin/back"]);
            ended += walk.installation.start_missing();
            (walk.installation.run(["stat", "/admin/back"]).code == 0).then_some(())
        });
        walk.until_hit(&point, ended);
        walk.check("/admin/back");
        assert_eq!(walk.installation.status().unwrap()["files"].as_u64(), Some(1));
    }
}

#[test]
fn death_at_an_abandonment_leaves_nothing_visible() {
    let mut walk = Walk::start(GIVE_UP_SOON);
    let big = walk.installation.scratch().join("big");
    write_generated(&big, 300 << 20, 8);
    for (role, arrow) in [
        (Role::Chunkserver, "upload.abandoned"),
        (Role::Supernode, "session.aborted"),
    ] {
        for side in ["before", "after"] {
            let point = format!("{arrow}:{side}");
            walk.arm(role, &point);
            let mut child = walk
                .installation
                .command()
                .args(["upload", big.to_str().unwrap(), "/admin/f"])
                .spawn()
                .unwrap();
            until("the upload to be open", || {
                (walk.installation.status()?["uploads_open"].as_u64()? > 0).then_some(())
            });
            child.kill().unwrap();
            child.wait().unwrap();
            walk.until_hit(&point, 0);
            until("the upload to be over", || {
                // The next leader finds it silent too.
                walk.installation.start_missing();
                (walk.installation.status()?["uploads_open"] == 0).then_some(())
            });
            assert_eq!(
                walk.installation.run(["stat", "/admin/f"]).code,
                3,
                "after {point}"
            );
        }
    }
}

#[test]
fn death_while_a_node_is_given_up_loses_nothing() {
    let mut walk = Walk::start(NOTICE_SOON);
    walk.upload("/admin/kept");
    for arrow in ["node.suspected", "node.died"] {
        for side in ["before", "after"] {
            let point = format!("{arrow}:{side}");
            walk.arm(Role::Chunkserver, &point);
            let silent = walk.silence_a_follower();
            walk.until_another_dies(&silent, &point);
            walk.settle();
            walk.check("/admin/kept");
        }
    }
}

#[test]
fn death_while_a_node_comes_back_loses_nothing() {
    let mut walk = Walk::start(NOTICE_SOON);
    walk.upload("/admin/kept");
    for (arrow, state) in [("node.cleared", "suspect"), ("node.returned", "dead")] {
        for side in ["before", "after"] {
            let point = format!("{arrow}:{side}");
            walk.arm(Role::Chunkserver, &point);
            let silent = walk.silence_a_follower();
            let expected = (silent.clone(), state.to_owned());
            until(&format!("{silent} to be {state}"), || {
                walk.states().contains(&expected).then_some(())
            });
            walk.installation.restart(&silent, &[]);
            walk.until_hit(&point, 0);
            walk.check("/admin/kept");
        }
    }
}

#[test]
fn death_while_a_node_is_admitted_makes_no_second_one() {
    for side in ["before", "after"] {
        let mut walk = Walk::start(NOTICE_SOON);
        walk.upload("/admin/kept");
        let point = format!("node.admitted:{side}");
        walk.arm(Role::Chunkserver, &point);
        let emptied = walk.silence_a_follower();
        std::fs::remove_dir_all(walk.installation.data().join(&emptied).join("data")).unwrap();
        walk.installation.restart(&emptied, &[]);
        walk.until_another_dies(&emptied, &point);
        // The node that was is dead; the one that came is live, once.
        until("the emptied node to be there under a new id", || {
            walk.installation.start_missing();
            let states = walk.states();
            let live = states.iter().filter(|(_, state)| state == "live");
            (states.len() == 4 && live.count() == 3).then_some(())
        });
        walk.check("/admin/kept");
    }
}

#[test]
fn death_at_the_report_of_a_damaged_copy_loses_nothing() {
    for side in ["before", "after"] {
        let mut walk = Walk::start(&[]);
        walk.upload("/admin/kept");
        let point = format!("replica.suspected:{side}");
        walk.arm(Role::Chunkserver, &point);
        let copies = until("the copies to be known", || walk.copies("/admin/kept"));
        walk.damage(&copies[0].0);
        let copy = walk.installation.scratch().join("copy");
        let copy = copy.to_str().unwrap().to_owned();
        let download = ["download", "/admin/kept", copy.as_str()];
        // Readers are spread over the copies: some time one comes to this one. While the node with the good copy is
        // down, the bad one alone cannot serve, and that is said.
        let codes = [0, 5, 8];
        until(&format!("a process to reach {point}"), || {
            let ended = walk.run(&download, &codes);
            (ended + walk.installation.start_missing() > 0).then_some(())
        });
        until("the damage to be known", || {
            walk.run(&download, &codes);
            let states = walk.copies("/admin/kept")?;
            states.iter().any(|(_, state)| state == "suspect").then_some(())
        });
        until("the file to be served", || {
            walk.installation.start_missing();
            (walk.installation.run(download).code == 0).then_some(())
        });
        walk.check("/admin/kept");
    }
}
