//! Queries beside each other: scans keep no look at a row waiting, and no readers keep the write-ahead log growing.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, reason = "a test waits by the machine's clock")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Set, cluster, count, eventually, leader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_keep_no_look_at_a_row_waiting() {
    let (_installation, nodes) = cluster(1, |_| {}).await;
    leader(&nodes).await;
    let group = nodes[0].group().clone();
    let (release, waiting) = std::sync::mpsc::channel::<()>();
    let waiting = Arc::new(parking_lot::Mutex::new(waiting));
    let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut scans = Vec::new();
    // As many as there are places for queries of either kind.
    for _ in 0..6 {
        let (group, waiting, running) = (group.clone(), Arc::clone(&waiting), Arc::clone(&running));
        scans.push(tokio::spawn(async move {
            let scan = group.scan_local(move |_| {
                running.fetch_add(1, Ordering::SeqCst);
                // Until all are let go.
                let _ = waiting.lock().recv();
                Ok(())
            });
            // Those that find no place are told to come back.
            let _ = scan.await;
        }));
    }
    eventually("scans have taken their places", || {
        running.load(Ordering::SeqCst) >= 2
    })
    .await;
    for _ in 0..20 {
        let looked = group.read_local(|tables| count(tables, "x")).await;
        assert_eq!(looked.unwrap(), 0);
    }
    assert_eq!(
        running.load(Ordering::SeqCst),
        2,
        "scans have places of their own"
    );
    drop(release);
    for scan in scans {
        scan.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_overlap_do_not_let_the_write_ahead_log_grow() {
    const WAL_BYTES_MAX: u64 = 512 << 10;
    let (_installation, nodes) = cluster(1, |settings| {
        settings.limits.wal_bytes_max = WAL_BYTES_MAX;
    })
    .await;
    leader(&nodes).await;
    let group = nodes[0].group().clone();
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    // One of them always has a snapshot open, and a place is left for the query of this test.
    for _ in 0..3 {
        let (group, over) = (group.clone(), Arc::clone(&over));
        readers.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let looked = group.read_lagging(|tables| {
                    let found = count(tables, "x");
                    std::thread::sleep(Duration::from_millis(20));
                    found
                });
                looked.await.unwrap();
            }
        }));
    }
    let mut longest = 0;
    for _ in 0..200 {
        let command = Set {
            key: "x".to_owned(),
            value: vec![7; 32 << 10],
        };
        group.propose(command).await.unwrap();
        group.read_local(|_| Ok(())).await.unwrap();
        longest = longest.max(group.status().wal_bytes);
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(group.status().reads_held > 0, "nothing kept the log short");
    assert!(
        longest < 4 * WAL_BYTES_MAX,
        "the write-ahead log grew to {longest} bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_last_query_lets_the_write_ahead_log_begin_anew() {
    let (_installation, nodes) = cluster(1, |settings| {
        settings.limits.wal_bytes_max = 64 << 10;
        // Nothing else is committed.
        settings.timings.tick = Duration::from_secs(3600);
    })
    .await;
    leader(&nodes).await;
    let group = nodes[0].group().clone();
    let (release, waiting) = std::sync::mpsc::channel::<()>();
    let begun = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (group, begun) = (group.clone(), Arc::clone(&begun));
        async move {
            let query = group.read_lagging(move |tables| {
                let found = count(tables, "x");
                begun.store(true, Ordering::SeqCst);
                let _ = waiting.recv();
                found
            });
            query.await
        }
    });
    eventually("a query is at work", || begun.load(Ordering::SeqCst)).await;
    let command = Set {
        key: "x".to_owned(),
        value: vec![7; 128 << 10],
    };
    group.propose(command).await.unwrap();
    eventually("new queries wait", || group.status().reads_held > 0).await;
    assert!(group.status().wal_bytes > 64 << 10, "the query is in the way");
    drop(release);
    assert_eq!(reader.await.unwrap().unwrap(), 0);
    // Long before the next quiet moment.
    let anew = eventually("the log begins anew", || group.status().wal_bytes == 0);
    tokio::time::timeout(Duration::from_secs(10), anew).await.unwrap();
}
