//! What statements cost: none looks through a table that grows, and no command's cost depends on how much there is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbfs_tests::{statements, unbounded};
use proto::cluster_log::v1 as wire;
use rusqlite::Connection;
use wire::command::Command as C;

use super::log::{Log, abandon, attempt_bytes};
use crate::cluster::store::schema;

/// Tables with a row per node, disk, key or kind of number.
const SMALL: [&str; 5] = ["nodes", "disks", "keys", "counters", "notices"];

#[test]
fn no_statement_looks_through_a_table_that_grows() {
    let mut connection = Connection::open_in_memory().unwrap();
    let transaction = connection.transaction().unwrap();
    schema::create(&transaction).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster");
    let all = statements(&sources, &[]);
    assert!(all.len() > 50, "only {} statements were found", all.len());
    let mut bad = Vec::new();
    for one in &all {
        // The rows of one chunk: where it was made, and where it is shared.
        if one.sql.contains(" UNION ") {
            continue;
        }
        let lines = unbounded(&one.sql, &plan(&transaction, &one.sql), &SMALL);
        if !lines.is_empty() {
            bad.push(format!("{}: {}\n    {lines:?}", one.file.display(), one.sql));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    let mut rows = statement.raw_query();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        lines.push(row.get(3).unwrap());
    }
    lines
}

/// How many instructions of SQLite's machine applying `command` takes.
fn steps(log: &mut Log, command: C) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    let count_one = move || {
        counting.fetch_add(1, Ordering::Relaxed);
        false
    };
    log.connection.progress_handler(1, Some(count_one)).unwrap();
    log.apply(command);
    log.connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    count.load(Ordering::Relaxed)
}

/// What each command costs where there is `size` of everything.
fn costs(size: u64) -> Vec<(&'static str, u64)> {
    let mut log = Log::with_nodes(3);
    for upload in 1..=size {
        log.sealed(upload, &[upload]);
        log.outcome(upload, false);
        log.mark(upload, 10);
        log.apply(abandon(&[10_000 + upload], None));
    }
    log.now += 1_000;
    log.doom(&(1..=size).collect::<Vec<_>>());
    log.sealed(20_000, &[20_000]);
    log.move_node(2, wire::NodeMove::Drain);
    let commands = [
        (
            "outcome",
            C::PublishOutcomes(wire::PublishOutcomes {
                outcomes: vec![wire::Outcome {
                    upload_id: 20_000,
                    published: false,
                    ..wire::Outcome::default()
                }],
                acknowledged: vec![1],
            }),
        ),
        (
            "mark",
            C::MarkVersions(wire::MarkVersions {
                versions: vec![20_000],
                chunks_max: 10,
                undo_window_millis: 0,
            }),
        ),
        (
            "doom",
            C::DoomChunks(wire::DoomChunks {
                attempts: vec![attempt_bytes(20_000)],
                drop_delay_millis: 0,
            }),
        ),
        (
            "dropped",
            C::ChunksDropped(wire::ChunksDropped {
                node_id: 1,
                attempts: vec![attempt_bytes(1)],
            }),
        ),
        (
            "forget",
            C::ForgetUploads(wire::ForgetUploads {
                ended_before_millis: u64::MAX >> 1,
                upload_ids: vec![10_001],
            }),
        ),
        ("abandon", abandon(&[30_000], None)),
        (
            "leave",
            C::MoveNodes(wire::MoveNodes {
                moves: vec![wire::MoveNode {
                    node_id: 2,
                    r#move: wire::NodeMove::Leave.into(),
                }],
            }),
        ),
    ];
    commands
        .into_iter()
        .map(|(name, command)| (name, steps(&mut log, command)))
        .collect()
}

#[test]
fn no_command_costs_more_because_there_is_more() {
    for ((name, few), (_, many)) in costs(20).iter().zip(&costs(200)) {
        assert!(*few > 0, "{name} was not measured");
        assert!(*many <= few + few / 5 + 40, "{name}: {few} steps become {many}");
    }
}
