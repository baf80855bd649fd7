//! Stores to test, and records to put into them.

use std::path::PathBuf;

use bytes::Bytes;
use common::checksum::block_checksum;
use common::disk::buffer::AlignedBuf;
use common::disk::simulated::SimulatedDisk;
use common::ids::{AttemptId, ClusterId, Digest, Epoch, NodeId, UploadNumber, VersionId};
use common::random::Random;
use common::time::Clock;
use common::units::{BLOCK_BYTES, ByteCount};

use super::super::Store;
use super::super::config::{DirectoryConfig, StoreConfig};
use super::super::disk_identity::Identity;
use super::super::error::Error;
use super::super::record::{RecordMeta, Stored};
use super::super::recovery::Recovered;
use super::super::writer::{Begun, Writer};

pub(super) const IDENTITY: Identity = Identity {
    cluster: ClusterId::new([7; 16]),
    node: NodeId::new(3),
};

/// Disks that outlive the store.
pub(super) enum Lab {
    Real {
        _directory: tempfile::TempDir,
        config: StoreConfig,
    },
    Simulated {
        disks: Vec<SimulatedDisk>,
        config: StoreConfig,
        random: Random,
    },
}

fn small_config() -> StoreConfig {
    StoreConfig {
        reserve_bytes: ByteCount::mib(2),
        segment_bytes: ByteCount::new(512 << 10),
        ..StoreConfig::default()
    }
}

impl Lab {
    /// One directory of the real file system that holds `parent`.
    pub(super) fn real(parent: PathBuf, direct_io: bool) -> Self {
        let directory = tempfile::tempdir_in(parent).unwrap();
        let path = directory.path().join("disk");
        let entry = DirectoryConfig {
            path,
            capacity_bytes: Some(ByteCount::mib(64)),
        };
        Lab::Real {
            _directory: directory,
            config: StoreConfig {
                directories: vec![entry],
                direct_io,
                ..small_config()
            },
        }
    }

    pub(super) fn simulated(seed: u64, count: usize) -> Self {
        let random = Random::seeded(seed);
        let disk = |at| {
            SimulatedDisk::new(
                &format!("disk {at}"),
                ByteCount::mib(64),
                Clock::real(),
                random.clone(),
            )
        };
        Lab::Simulated {
            disks: (0..count).map(disk).collect(),
            config: small_config(),
            random,
        }
    }

    /// Other simulated disks with the same content, that go their own way by `seed`.
    pub(super) fn fork(&self, seed: u64) -> Self {
        let Lab::Simulated { disks, config, .. } = self else {
            panic!("a real directory cannot be forked")
        };
        let random = Random::seeded(seed);
        Lab::Simulated {
            disks: disks.iter().map(|disk| disk.fork(random.clone())).collect(),
            config: config.clone(),
            random,
        }
    }

    pub(super) fn config_mut(&mut self) -> &mut StoreConfig {
        match self {
            Lab::Real { config, .. } | Lab::Simulated { config, .. } => config,
        }
    }

    pub(super) fn disks(&self) -> &[SimulatedDisk] {
        match self {
            Lab::Real { .. } => &[],
            Lab::Simulated { disks, .. } => disks,
        }
    }

    pub(super) fn disk(&self) -> &SimulatedDisk {
        &self.disks()[0]
    }

    pub(super) async fn open(&self) -> (Store, Vec<Recovered>) {
        self.try_open(IDENTITY).await.unwrap()
    }

    pub(super) async fn try_open(&self, identity: Identity) -> Result<(Store, Vec<Recovered>), Error> {
        match self {
            Lab::Real { config, .. } => {
                // A store that was just dropped may still hold the lock for a late operation.
                for _ in 0..1000 {
                    match Store::open(config, identity, Clock::real(), Random::system()).await {
                        Err(Error::Directory { reason, .. }) if reason.contains("another process") => {
                            tokio::task::yield_now().await;
                            std::thread::yield_now();
                        }
                        outcome => return outcome,
                    }
                }
                Store::open(config, identity, Clock::real(), Random::system()).await
            }
            Lab::Simulated {
                disks,
                config,
                random,
            } => {
                let disks = disks.iter().map(|disk| (disk.disk(), None)).collect();
                Store::open_on(config, identity, Clock::real(), random.clone(), disks).await
            }
        }
    }

    /// Ends the process that uses the simulated disks, and opens again.
    pub(super) async fn after_kill(&self) -> (Store, Vec<Recovered>) {
        self.disks().iter().for_each(SimulatedDisk::end_process);
        self.open().await
    }

    pub(super) async fn after_power_cut(&self) -> (Store, Vec<Recovered>) {
        self.disks().iter().for_each(SimulatedDisk::restart);
        self.open().await
    }
}

pub(super) fn attempt(sequence: u64) -> AttemptId {
    AttemptId::new(Epoch::new(1), sequence)
}

pub(super) fn meta(sequence: u64) -> RecordMeta {
    RecordMeta {
        attempt: attempt(sequence),
        upload: UploadNumber::new(sequence + 1000),
        version: VersionId::new(sequence + 2000),
        index: sequence as u32 % 7,
        path_hint: format!("/lab/{sequence}"),
    }
}

/// What the record `sequence` of `length` holds: no two pages alike.
pub(super) fn payload(sequence: u64, length: usize) -> Bytes {
    let mut buffer = AlignedBuf::unpooled(length);
    let mut number = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while buffer.len() < length {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bytes = number.to_be_bytes();
        let count = bytes.len().min(length - buffer.len());
        assert!(buffer.extend(&bytes[..count]));
    }
    buffer.freeze()
}

pub(super) fn digest(sequence: u64) -> Digest {
    let mut bytes = [5; 32];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    Digest::new(bytes)
}

pub(super) fn checksums(sequence: u64, first: u32, bytes: &[u8]) -> Vec<u64> {
    let blocks = bytes.chunks(BLOCK_BYTES).zip(first..);
    blocks
        .map(|(block, index)| block_checksum(attempt(sequence), index, block))
        .collect()
}

pub(super) async fn begin(store: &Store, sequence: u64, length_max: usize) -> Result<Writer, Error> {
    match store.begin(meta(sequence), length_max as u64).await? {
        Begun::Writing(writer) => Ok(writer),
        Begun::Stored(stored) => panic!("{stored:?} is stored already"),
    }
}

/// Appends the whole payload, `piece` blocks at a time.
pub(super) async fn append_all(
    writer: &mut Writer,
    sequence: u64,
    length: usize,
    piece: usize,
) -> Result<(), Error> {
    let content = payload(sequence, length);
    let mut at = 0;
    while at < length {
        let end = (at + piece * BLOCK_BYTES).min(length);
        let bytes = content.slice(at..end);
        let sums = checksums(sequence, (at / BLOCK_BYTES) as u32, &bytes);
        writer.append(bytes, &sums).await?;
        at = end;
    }
    Ok(())
}

pub(super) async fn write(store: &Store, sequence: u64, length: usize) -> Result<Stored, Error> {
    let mut writer = begin(store, sequence, length).await?;
    append_all(&mut writer, sequence, length, 4).await?;
    writer.finish(digest(sequence)).await
}

pub(super) async fn read(store: &Store, sequence: u64) -> Result<Vec<u8>, Error> {
    let length = store.stored(attempt(sequence)).await?.length;
    read_range(store, sequence, 0..length).await
}

pub(super) async fn read_range(
    store: &Store,
    sequence: u64,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, Error> {
    let mut reader = store.open_read(attempt(sequence), range).await?;
    let mut out = Vec::new();
    while let Some(part) = reader.next().await? {
        assert_eq!(part.checksums, checksums(sequence, part.first_block, &part.bytes));
        out.extend_from_slice(&part.bytes);
    }
    Ok(out)
}

pub(super) async fn assert_stored(store: &Store, sequence: u64, length: usize) {
    let stored = store.stored(attempt(sequence)).await.unwrap();
    let expected = meta(sequence);
    assert_eq!(stored.digest, digest(sequence));
    assert_eq!(
        (stored.upload, stored.version, stored.index),
        (expected.upload, expected.version, expected.index)
    );
    let content = read(store, sequence).await.unwrap();
    assert!(
        content == payload(sequence, length),
        "record {sequence} has other content"
    );
    store.verify(attempt(sequence)).await.unwrap();
}
