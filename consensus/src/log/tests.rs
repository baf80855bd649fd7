//! openraft's own conformance suite over both stores, and what it does not ask.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::ids::ClusterId;
use common::net::Network;
use common::random::Random;
use common::shutdown::Shutdown;
use common::time::{Clock, ClusterTime};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftLogReader, StorageError};
use rusqlite::Transaction;

use super::LogStore;
use crate::engine::{Entry, LogId, Payload, Types, Vote, leader};
use crate::health::Health;
use crate::machine::{Applying, Machine};
use crate::schema::{Kind, LOG_FORMAT, Owner, Tick, encode_entry};
use crate::settings::{Limits, Settings, Timings};
use crate::state::StateMachine;
use crate::status::MemberRecord;

struct Nothing;

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

impl Machine for Nothing {
    type Command = Empty;
    type Reply = Empty;
    fn create(&self, _: &Transaction<'_>) -> rusqlite::Result<()> {
        Ok(())
    }
    fn apply(&mut self, _: &Transaction<'_>, _: &Applying, _: Empty) -> rusqlite::Result<Empty> {
        Ok(Empty {})
    }
}

fn settings(directory: &Path) -> Settings {
    common::tls::install_provider();
    let roots = rustls::RootCertStore::empty();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
    Settings {
        directory: directory.to_owned(),
        label: "names".to_owned(),
        role: common::tls::Role::Supernode,
        tls: Arc::new(tls.with_no_client_auth()),
        record: MemberRecord::default(),
        join: Vec::new(),
        found: true,
        voters: 1,
        timings: Timings::default(),
        limits: Limits::default(),
        clock: Clock::real(),
        random: Random::system(),
        network: Network::tcp(None),
        shutdown: Shutdown::new(),
        runtime: None,
    }
}

struct Stores {
    log: LogStore,
    state: StateMachine,
    durable: Arc<AtomicU64>,
    health: Health,
}

fn open(directory: &Path, create: bool, cache_bytes: usize) -> io::Result<Stores> {
    let (durable, health) = (Arc::new(AtomicU64::new(0)), Health::new());
    let state = StateMachine::open(
        directory,
        ClusterId::new([1; 16]),
        Nothing,
        create,
        &settings(directory),
        Arc::clone(&durable),
        health.clone(),
    )?;
    let owner = Owner {
        format: LOG_FORMAT,
        cluster: vec![1; 16],
        node: 1,
    };
    let path = log_path(directory);
    let log = LogStore::open(
        &path,
        owner,
        create,
        cache_bytes,
        Arc::clone(&durable),
        health.clone(),
    )?;
    Ok(Stores {
        log,
        state,
        durable,
        health,
    })
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log.db")
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(leader(term), index)
}

fn tick(term: u64, index: u64) -> Entry {
    let payload = encode_entry(ClusterTime::from_millis(index), Kind::Tick(Tick {}));
    Entry::new_normal(id(term, index), Payload(payload))
}

async fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry>) {
    use openraft::storage::RaftLogStorageExt;
    let entries: Vec<Entry> = entries.into_iter().collect();
    log.blocking_append(entries).await.unwrap();
}

/// `cache_bytes` decides whether entries are read from memory or from the file.
struct Builder {
    cache_bytes: usize,
}

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let stores = open(directory.path(), true, self.cache_bytes).unwrap();
        // The suite purges what it never applied.
        stores.durable.store(u64::MAX, Ordering::SeqCst);
        Ok((directory, stores.log, stores.state))
    }
}

#[tokio::test]
async fn both_stores_conform() {
    for cache_bytes in [32 << 20, 0] {
        Suite::test_all(Builder { cache_bytes }).await.unwrap();
    }
}

#[tokio::test]
async fn entries_are_read_before_they_are_durable_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open(directory.path(), true, 300).unwrap();
    let mut log = stores.log;
    assert!(log.is_pristine());
    for index in 0..500 {
        log.append([tick(1, index)], IOFlushed::noop()).await.unwrap();
        let read = log.try_get_log_entries(index..=index).await.unwrap();
        assert_eq!(read, [tick(1, index)]);
    }
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    log.save_committed(Some(id(1, 400))).await.unwrap();
    let all: Vec<Entry> = (0..500).map(|index| tick(1, index)).collect();
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), all);
    let some = log.limited_get_log_entries(10, 500).await.unwrap();
    assert_eq!(some.first(), all.get(10));
    assert!(!some.is_empty());
    log.close().await;
    stores.state.close().await;
    drop(log);
    let mut log = open(directory.path(), false, 300).unwrap().log;
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), all);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 400)));
    assert!(!log.is_pristine());
}

#[tokio::test]
async fn truncated_entries_are_replaced_and_stay_readable() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), true, 0).unwrap().log;
    append(&mut log, (0..50).map(|index| tick(1, index))).await;
    log.truncate_after(Some(id(1, 20))).await.unwrap();
    for index in 21..40 {
        log.append([tick(2, index)], IOFlushed::noop()).await.unwrap();
    }
    let read = log.try_get_log_entries(15..40).await.unwrap();
    let terms: BTreeSet<(u64, u64)> = read
        .iter()
        .map(|entry| (entry.index(), entry.log_id_parts().0.term))
        .collect();
    let expected = (15..40).map(|index| (index, if index <= 20 { 1 } else { 2 }));
    assert_eq!(terms, expected.collect());
}

#[tokio::test]
async fn what_the_state_machine_could_lose_is_not_purged() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open(directory.path(), true, 0).unwrap();
    let mut log = stores.log;
    append(&mut log, (0..50).map(|index| tick(1, index))).await;
    stores.durable.store(30, Ordering::SeqCst);
    log.purge(id(1, 30)).await.unwrap();
    assert!(log.purge(id(1, 31)).await.is_err());
    assert!(stores.health.reason().unwrap().contains("durable up to 30"));
}

#[tokio::test]
async fn a_rotten_row_is_never_handed_out() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open(directory.path(), true, 0).unwrap();
    let mut log = stores.log;
    append(&mut log, (0..20).map(|index| tick(1, index))).await;
    log.close().await;
    stores.state.close().await;
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let file = crate::vfs::open(&log_path(directory.path()), flags).unwrap();
    file.execute("UPDATE log SET term = 2 WHERE idx = 7", []).unwrap();
    file.execute("DELETE FROM log WHERE idx = 12", []).unwrap();
    drop(file);
    let mut log = open(directory.path(), false, 0).unwrap().log;
    assert_eq!(log.try_get_log_entries(0..7).await.unwrap().len(), 7);
    let rotten = log.try_get_log_entries(5..9).await.unwrap_err();
    assert!(rotten.to_string().contains("entry 7 fails"), "{rotten}");
    let hole = log.try_get_log_entries(10..15).await.unwrap_err();
    assert!(hole.to_string().contains("entry 12 is missing"), "{hole}");
}

#[tokio::test]
async fn stores_of_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let stores = open(directory.path(), true, 0).unwrap();
    stores.log.close().await;
    stores.state.close().await;
    let owner = Owner {
        format: LOG_FORMAT,
        cluster: vec![2; 16],
        node: 1,
    };
    let path = log_path(directory.path());
    let refused = LogStore::open(&path, owner, false, 0, Arc::default(), Health::new());
    assert!(refused.err().unwrap().to_string().contains("another member"));
    let refused = StateMachine::open(
        directory.path(),
        ClusterId::new([2; 16]),
        Nothing,
        false,
        &settings(directory.path()),
        Arc::default(),
        Health::new(),
    );
    assert!(refused.err().unwrap().to_string().contains("another group"));
    let mut state = open(directory.path(), false, 0).unwrap().state;
    assert_eq!(state.applied_state().await.unwrap().0, None);
    std::fs::remove_file(directory.path().join("state-1.db")).unwrap();
    let refused = open(directory.path(), false, 0).err().unwrap();
    assert!(refused.to_string().contains("state-1.db is missing"), "{refused}");
}
