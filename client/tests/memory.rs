//! Memory stays flat (P10): uploads from a file and from a stream, and a download to a slow reader, many times larger
//! than what they may hold. In a process of its own, because it looks at the whole process.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::result_large_err,
    reason = "tests"
)]

extern crate dbfs_client as client;

#[path = "journeys/fake/mod.rs"]
mod fake;

use std::pin::Pin;
use std::task::{Context, Poll};

use client::download::{DownloadOptions, Sink};
use client::upload::Source;
use common::path::RemotePath;
use common::units::ByteCount;

use fake::Fake;

/// What moves. The promise is made for 1.5 GiB; a fraction of it overflows any buffer that should not be there.
const SIZE: u64 = 320 << 20;

/// Endless memory of zeros, up to a length.
struct Zeros(u64);

impl tokio::io::AsyncRead for Zeros {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = into.remaining().min(self.0 as usize);
        into.initialize_unfilled_to(count).fill(0);
        into.advance(count);
        self.0 -= count as u64;
        Poll::Ready(Ok(()))
    }
}

fn resident_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_transfers_in_little_memory() {
    let fake = Fake::start(1, 3).await;
    fake.world.state().chunk_bytes = 64 << 20;
    for node in &fake.nodes {
        node.keep_nothing();
    }
    let client = fake.client().await;
    let path: RemotePath = "/me/f".parse().unwrap();
    let file = fake.directory.path().join("sparse");
    std::fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
    let upload = async |source| {
        let receipt = client.upload(source, &path, Default::default()).await.unwrap();
        assert_eq!(receipt.size.get(), SIZE);
    };
    upload(Source::generated(ByteCount::new(SIZE), 1)).await;
    // The nodes keep nothing and give zeros: a file of zeros is what can be read back.
    upload(Source::file(&file)).await;
    check("uploads of what can be read again", 100 << 20);
    let output = Sink::writer(tokio::io::sink());
    let report = client
        .download(&path, output, DownloadOptions::default())
        .await
        .unwrap();
    assert!(report.digest_verified);
    check("a download", 130 << 20);
    upload(Source::stream(Zeros(SIZE), None)).await;
    // Two chunks of 64 MiB are held beside what was needed before; a third would be seen.
    check("an upload of a stream", 224 << 20);
}

/// The most that the process, in-process servers included, may have had in memory so far.
fn check(what: &str, resident_bytes_max: u64) {
    let peak = resident_peak();
    eprintln!("{what}: {} MiB resident at most", peak >> 20);
    assert!(peak < resident_bytes_max, "{what}: {peak} bytes resident");
}
