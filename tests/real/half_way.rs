//! Uploads that have come half-way, for as long as a test likes.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use dbfs_tests::{Installation, Ran, until};
use serde_json::Value;

/// In the middle of a chunk of 64 MiB.
const PAUSE_AT: u64 = 230 << 20;

/// An upload from a pipe that has come to its middle and waits for more.
pub(crate) struct HalfWay {
    pub(crate) child: Child,
    rest: std::fs::File,
}

impl HalfWay {
    pub(crate) fn begin(installation: &Installation, source: &str, path: &str) -> Self {
        let mut command = installation.command();
        command
            .args(["upload", "--json", "-", path])
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut rest = std::fs::File::open(source).unwrap();
        let pipe = child.stdin.as_mut().unwrap();
        std::io::copy(&mut Read::take(&mut rest, PAUSE_AT), pipe).unwrap();
        pipe.flush().unwrap();
        until("bytes to arrive at the nodes", || {
            let nodes = nodes(installation)?;
            let holders = nodes.iter().filter(|node| stored(node) > 8 << 20);
            (holders.count() >= 2).then_some(())
        });
        Self { child, rest }
    }

    pub(crate) fn finish(mut self) -> Ran {
        let mut pipe = self.child.stdin.take().unwrap();
        // A client that has given up has said why, which is of more use than the broken pipe.
        let _ = std::io::copy(&mut self.rest, &mut pipe);
        drop(pipe);
        Ran::from(self.child.wait_with_output().unwrap())
    }
}

/// Every node of every cluster.
pub(crate) fn nodes(installation: &Installation) -> Option<Vec<Value>> {
    let status = installation.status()?;
    let clusters = status["clusters"].as_array()?.clone();
    Some(
        clusters
            .iter()
            .flat_map(|cluster| cluster["nodes"].as_array().cloned().unwrap_or_default())
            .collect(),
    )
}

/// Bytes that a node holds or is receiving.
fn stored(node: &Value) -> u64 {
    let load = |field: &str| node["load"][field].as_u64().unwrap_or(0);
    load("used_bytes") + load("in_flight_bytes")
}
