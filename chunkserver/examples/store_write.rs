//! Measures the chunk store alone: `cargo run --release -p dbfs-chunkserver --example store_write -- DIRECTORY`.
//!
//! Prints GiB/s and CPU seconds per GiB for 64 MiB chunks, written and read, and records per second for 1 KiB records,
//! with 1, 4 and 16 writers. The directory is made, and removed at the end. Buffers come from a pool, as they do in the
//! data plane; their content is the same every time, so that making it up costs nothing.

#![allow(clippy::disallowed_methods, reason = "a measurement needs the time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::checksum::block_checksum;
use common::disk::buffer::{BufferPool, BufferSize};
use common::ids::{AttemptId, ClusterId, Digest, Epoch, NodeId, UploadNumber, VersionId};
use common::random::Random;
use common::time::Clock;
use common::units::{BLOCK_BYTES, ByteCount};
use dbfs_chunkserver::store::Store;
use dbfs_chunkserver::store::config::{DirectoryConfig, StoreConfig};
use dbfs_chunkserver::store::disk_identity::Identity;
use dbfs_chunkserver::store::record::RecordMeta;
use dbfs_chunkserver::store::writer::Begun;

const CHUNK_BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 1 << 20;
const CHUNKS: u64 = 64;
const SMALL_RECORDS: u64 = 100_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("name a directory to make")?
        .into();
    std::fs::create_dir(&directory)?;
    let outcome = measure(&directory).await;
    std::fs::remove_dir_all(&directory)?;
    outcome
}

async fn measure(directory: &std::path::Path) -> Result<(), Failure> {
    for direct_io in [true, false] {
        let path = directory.join(if direct_io { "direct" } else { "cached" });
        let config = StoreConfig {
            directories: vec![DirectoryConfig {
                path,
                capacity_bytes: None,
            }],
            direct_io,
            ..StoreConfig::default()
        };
        let identity = Identity {
            cluster: ClusterId::new([1; 16]),
            node: NodeId::new(1),
        };
        let (store, _) = Store::open(&config, identity, Clock::real(), Random::system()).await?;
        println!("direct_io: {direct_io}");
        let bench = Arc::new(Bench {
            store,
            buffers: BufferPool::new(ByteCount::mib(64)),
            next: AtomicU64::new(0),
        });
        for writers in [1, 4, 16] {
            bench.bulk(writers).await?;
        }
        for writers in [1, 16, 64, 256] {
            bench.small(writers).await?;
        }
    }
    Ok(())
}

struct Bench {
    store: Store,
    buffers: BufferPool,
    next: AtomicU64,
}

impl Bench {
    /// The next attempt, unless `end` is reached.
    fn next(&self, end: u64) -> Option<AttemptId> {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        (sequence < end).then(|| AttemptId::new(Epoch::new(1), sequence))
    }

    async fn bulk(self: &Arc<Self>, writers: u64) -> Result<(), Failure> {
        let first = self.next.load(Ordering::Relaxed);
        let gibibytes = (CHUNKS * CHUNK_BYTES as u64) as f64 / f64::from(1 << 30);
        let copied = common::disk::directory::copied_parts();
        let write = self.run(writers, first + CHUNKS, |bench, attempt| async move {
            bench.write_chunk(attempt).await
        });
        report("write 64 MiB", writers, gibibytes, write.await?);
        println!(
            "    parts copied: {}",
            common::disk::directory::copied_parts() - copied
        );
        self.next.store(first, Ordering::Relaxed);
        let read = self.run(writers, first + CHUNKS, |bench, attempt| async move {
            bench.read_chunk(attempt).await
        });
        report("read 64 MiB", writers, gibibytes, read.await?);
        let attempts: Vec<_> = (first..first + CHUNKS)
            .map(|at| AttemptId::new(Epoch::new(1), at))
            .collect();
        self.next.store(first + CHUNKS, Ordering::Relaxed);
        let start = Instant::now();
        self.store.drop_attempts(Epoch::new(1), &attempts).await?;
        println!("    dropped in {:?}", start.elapsed());
        Ok(())
    }

    async fn small(self: &Arc<Self>, writers: u64) -> Result<(), Failure> {
        let first = self.next.load(Ordering::Relaxed);
        let count = if writers == 1 {
            SMALL_RECORDS / 10
        } else {
            SMALL_RECORDS
        };
        let write = self.run(writers, first + count, |bench, attempt| async move {
            bench.write_small(attempt).await
        });
        let (elapsed, cpu) = write.await?;
        self.next.store(first + count, Ordering::Relaxed);
        let rate = count as f64 / elapsed.as_secs_f64();
        let each = cpu.as_micros() as f64 / count as f64;
        println!("  write 1 KiB, {writers:3} at once: {rate:8.0} records/s, {each:5.1} us CPU each");
        Ok(())
    }

    async fn run<F: Future<Output = Result<(), Failure>> + Send>(
        self: &Arc<Self>,
        writers: u64,
        end: u64,
        work: impl Fn(Arc<Self>, AttemptId) -> F + Send + Copy + 'static,
    ) -> Result<(Duration, Duration), Failure> {
        let start = Instant::now();
        let cpu = cpu_time();
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let bench = Arc::clone(self);
                tokio::spawn(async move {
                    while let Some(attempt) = bench.next(end) {
                        work(Arc::clone(&bench), attempt).await?;
                    }
                    Ok::<(), Failure>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok((start.elapsed(), cpu_time().saturating_sub(cpu)))
    }

    async fn write_chunk(self: Arc<Self>, attempt: AttemptId) -> Result<(), Failure> {
        let Begun::Writing(mut writer) = self.store.begin(meta(attempt), CHUNK_BYTES as u64).await? else {
            return Err("the attempt is new".into());
        };
        let mut block = 0;
        for _ in 0..CHUNK_BYTES / PIECE_BYTES {
            let bytes = self.piece(PIECE_BYTES).await;
            let sums = checksums(attempt, block, &bytes);
            block += sums.len() as u32;
            writer.append(bytes, &sums).await?;
        }
        writer.finish(Digest::new([0; 32])).await?;
        Ok(())
    }

    async fn read_chunk(self: Arc<Self>, attempt: AttemptId) -> Result<(), Failure> {
        let mut reader = self.store.open_read(attempt, 0..CHUNK_BYTES as u64).await?;
        let mut length = 0;
        while let Some(part) = reader.next().await? {
            length += part.bytes.len();
        }
        if length == CHUNK_BYTES {
            Ok(())
        } else {
            Err("a short read".into())
        }
    }

    async fn write_small(self: Arc<Self>, attempt: AttemptId) -> Result<(), Failure> {
        let Begun::Writing(mut writer) = self.store.begin(meta(attempt), 1024).await? else {
            return Err("the attempt is new".into());
        };
        let bytes = Bytes::from_static(&[7; 1024]);
        let sums = [block_checksum(attempt, 0, &bytes)];
        writer.append(bytes, &sums).await?;
        writer.finish(Digest::new([0; 32])).await?;
        Ok(())
    }

    /// Stands for what a socket would have filled.
    async fn piece(&self, length: usize) -> Bytes {
        let mut buffer = self.buffers.take(BufferSize::Bulk).await;
        buffer.advance(length);
        buffer.freeze()
    }
}

fn report(what: &str, writers: u64, gibibytes: f64, (elapsed, cpu): (Duration, Duration)) {
    let rate = gibibytes / elapsed.as_secs_f64();
    let each = cpu.as_secs_f64() / gibibytes;
    println!("  {what}, {writers:2} at once: {rate:5.2} GiB/s, {each:5.2} CPU s per GiB");
}

fn checksums(attempt: AttemptId, first: u32, bytes: &[u8]) -> Vec<u64> {
    let blocks = bytes.chunks(BLOCK_BYTES).zip(first..);
    blocks
        .map(|(block, index)| block_checksum(attempt, index, block))
        .collect()
}

fn meta(attempt: AttemptId) -> RecordMeta {
    RecordMeta {
        attempt,
        upload: UploadNumber::new(1),
        version: VersionId::new(1),
        index: 0,
        path_hint: "/bench".to_owned(),
    }
}

/// User and system time of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    // Linux counts in hundredths of a second.
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}
