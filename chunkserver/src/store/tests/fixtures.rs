//! Directories that an earlier build wrote, which this one must still read (P12).
//!
//! A fixture is one file: for each file of the directory its name, a line end, its length in decimal, a line end, its
//! bytes. To freeze a new format version: run `freeze` with `DBFS_FIXTURE` naming the file to write, and add a test.

use common::ids::Epoch;

use super::super::error::Error;
use super::lab::{Lab, append_all, assert_stored, attempt, begin, digest, read, write};

const FORMAT_1: &[u8] = include_bytes!("format_1.bin");

fn unpack(mut fixture: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let line = |rest: &mut &[u8]| {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let text = String::from_utf8(rest[..end].to_vec()).unwrap();
        *rest = &rest[end + 1..];
        text
    };
    while !fixture.is_empty() {
        let name = line(&mut fixture);
        let length: usize = line(&mut fixture).parse().unwrap();
        files.push((name, fixture[..length].to_vec()));
        fixture = &fixture[length..];
    }
    files
}

/// Two records in the checkpoint, one of them dropped since; two records behind the checkpoint, one of each layout.
async fn write_directory(lab: &Lab) {
    let (store, _) = lab.open().await;
    write(&store, 1, 700).await.unwrap();
    write(&store, 2, 5000).await.unwrap();
    store.raise_epoch(Epoch::new(6)).await.unwrap();
    store.checkpoint().await.unwrap();
    store.drop_attempts(Epoch::new(7), &[attempt(1)]).await.unwrap();
    write(&store, 3, 20).await.unwrap();
    let mut bulk = begin(&store, 4, 100_000).await.unwrap();
    append_all(&mut bulk, 4, 4100, 1).await.unwrap();
    bulk.finish(digest(4)).await.unwrap();
}

async fn assert_directory(lab: &Lab) {
    let (store, reports) = lab.open().await;
    assert_eq!((reports[0].records, reports[0].replayed), (3, 2), "{reports:?}");
    assert!(reports[0].problems.is_empty(), "{reports:?}");
    assert_eq!(store.epoch(), Epoch::new(7));
    for (sequence, length) in [(2, 5000), (3, 20), (4, 4100)] {
        assert_stored(&store, sequence, length).await;
    }
    assert!(matches!(read(&store, 1).await, Err(Error::Dropped { .. })));
}

#[tokio::test]
async fn format_1_is_still_read() {
    let lab = Lab::simulated(1, 1);
    for (name, content) in unpack(FORMAT_1) {
        lab.disk().plant(&name, &content);
    }
    assert_directory(&lab).await;
}

#[tokio::test]
#[ignore = "writes a fixture for the present format"]
async fn freeze() {
    let lab = Lab::simulated(20, 1);
    write_directory(&lab).await;
    let mut fixture = Vec::new();
    for name in lab.disk().names() {
        let content = lab.disk().content(&name).unwrap();
        fixture.extend_from_slice(format!("{name}\n{}\n", content.len()).as_bytes());
        fixture.extend_from_slice(&content);
    }
    lab.disk().end_process();
    assert_directory(&lab).await;
    std::fs::write(std::env::var("DBFS_FIXTURE").unwrap(), fixture).unwrap();
}
