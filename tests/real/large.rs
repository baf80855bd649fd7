//! A file much larger than memory may hold: who uses how much, and whom its bytes pass.

use std::fs::File;
use std::process::{Child, Stdio};

use dbfs_tests::{Installation, Process, Role, Shape, peak_memory_of, until, write_generated};

const SIZE: u64 = 3 << 29;
const MIB: u64 = 1 << 20;
const CLIENT_MEMORY_MAX: u64 = 200 * MIB;
const SERVER_MEMORY_MAX: u64 = 300 * MIB;
/// What plans, manifests and heartbeats may add up to while the bytes of the file go elsewhere.
const CONTROL_BYTES_MAX: f64 = 8.0 * MIB as f64;

/// Waits for a client and returns the most memory it had.
fn watch(mut child: Child) -> u64 {
    let mut peak = 0;
    until_patiently("the transfer to end", || {
        peak = peak.max(peak_memory_of(child.id()));
        child
            .try_wait()
            .unwrap()
            .map(|status| assert!(status.success(), "{status}"))
    });
    peak
}

fn until_patiently(what: &str, condition: impl FnMut() -> Option<()>) {
    dbfs_tests::within(std::time::Duration::from_secs(300), what, condition);
}

#[test]
fn memory_stays_flat_and_bytes_go_straight_to_their_nodes() {
    let installation = Installation::start(Shape::FULL);
    let source = installation.scratch().join("source");
    let digest = write_generated(&source, SIZE, 1);
    let before: Vec<f64> = installation
        .processes
        .iter()
        .map(|process| control(&installation, process))
        .collect();

    let upload = |arguments: &[&str], stdin: Stdio| {
        let mut command = installation.command();
        command
            .args(arguments)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        watch(command.spawn().unwrap())
    };
    let from_path = upload(
        &["upload", "-q", source.to_str().unwrap(), "/admin/large"],
        Stdio::null(),
    );
    assert!(
        from_path < CLIENT_MEMORY_MAX,
        "uploading took {} MiB",
        from_path / MIB
    );
    let stdin = Stdio::from(File::open(&source).unwrap());
    let from_stdin = upload(&["upload", "-q", "-", "/admin/streamed"], stdin);
    assert!(
        from_stdin < CLIENT_MEMORY_MAX,
        "uploading from stdin took {} MiB",
        from_stdin / MIB
    );
    std::fs::remove_file(&source).unwrap();
    for path in ["/admin/large", "/admin/streamed"] {
        let entry = installation.run(["stat", "--json", path]).ok().json();
        assert_eq!(entry["digest"].as_str(), Some(digest.as_str()));
        let copy = installation.scratch().join("copy");
        let downloading = upload(&["download", "-q", path, copy.to_str().unwrap()], Stdio::null());
        assert!(
            downloading < CLIENT_MEMORY_MAX,
            "downloading took {} MiB",
            downloading / MIB
        );
        assert_eq!(dbfs_tests::digest_of(&copy), digest);
        std::fs::remove_file(&copy).unwrap();
    }

    for (process, before) in installation.processes.iter().zip(before) {
        let memory = process.peak_memory();
        assert!(
            memory < SERVER_MEMORY_MAX,
            "{} took {} MiB",
            process.name,
            memory / MIB
        );
        let through = control(&installation, process) - before;
        assert!(
            through < CONTROL_BYTES_MAX,
            "{through} bytes passed the control plane of {}",
            process.name
        );
    }
    traffic_is_what_the_plans_say(&installation);
    until("both transfers to be counted", || {
        (installation.status()?["files"] == 2).then_some(())
    });
}

/// Bytes of messages of the control plane, in and out.
fn control(installation: &Installation, process: &Process) -> f64 {
    let metrics = match process.role {
        Role::Supernode => [
            "dbfs_supernode_request_bytes_total",
            "dbfs_supernode_reply_bytes_total",
        ],
        Role::Chunkserver => [
            "dbfs_control_received_bytes_total",
            "dbfs_control_sent_bytes_total",
        ],
    };
    let both = metrics.map(|metric| installation.metric(&process.name, metric));
    both.iter().sum()
}

/// Every byte was received from a client once, and forwarded once, by nodes that hold a copy.
fn traffic_is_what_the_plans_say(installation: &Installation) {
    let nodes = || {
        installation
            .processes
            .iter()
            .filter(|process| process.role == Role::Chunkserver)
    };
    let sum = |metric: &str| {
        nodes()
            .map(|process| installation.metric(&process.name, metric))
            .sum::<f64>()
    };
    let sent = 2.0 * SIZE as f64;
    let received = sum("dbfs_data_received_bytes_total");
    let forwarded = sum("dbfs_data_forwarded_bytes_total");
    assert!(
        forwarded >= sent && forwarded < sent * 1.1,
        "{forwarded} bytes forwarded of {sent}"
    );
    assert!(
        received >= 2.0 * sent && received < 2.2 * sent,
        "{received} bytes received of {sent}, twice"
    );
    for path in ["/admin/large", "/admin/streamed"] {
        let placement = installation.run(["placement", "--json", path]).ok().json();
        for chunk in placement["chunks"].as_array().unwrap() {
            let copies: Vec<_> = chunk["copies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|copy| &copy["node"])
                .collect();
            assert!(copies.len() == 2 && copies[0] != copies[1], "{chunk}");
        }
    }
}
