//! Downloads under faults: every byte that is delivered is right, and what was bad is reported.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use client::download::{ByteRange, DownloadOptions, Sink};
use client::upload::Source;
use client::{Client, Error};
use common::error::Kind;
use common::time::Clock;

use crate::fake::Fake;
use crate::fake::data::GetFault;
use crate::{content, digest, path};

const CHUNK: usize = 2 << 20;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl tokio::io::AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Memory {
    fn sink(&self) -> Sink {
        Sink::writer(self.clone())
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn with_file(nodes: usize, length: usize) -> (Fake, Client, Vec<u8>) {
    let fake = Fake::start(1, nodes).await;
    let client = fake.client().await;
    let bytes = content(length, 21);
    client
        .upload(Source::bytes(bytes.clone()), &path("/me/f"), Default::default())
        .await
        .unwrap();
    (fake, client, bytes)
}

fn names_in(fake: &Fake) -> Vec<String> {
    let entries = std::fs::read_dir(fake.directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("got")).collect()
}

#[tokio::test]
async fn every_kind_of_sink_and_length() {
    for length in [0, 1, CHUNK, CHUNK + 1, 7 * CHUNK + 5] {
        let (fake, client, bytes) = with_file(3, length).await;
        let target = fake.directory.path().join("got");
        let memory = Memory::default();
        for sink in [Sink::file(&target), memory.sink(), Sink::discard()] {
            let options = DownloadOptions::default();
            let progress = options.progress.clone();
            let report = client.download(&path("/me/f"), sink, options).await.unwrap();
            assert!(report.digest_verified && report.bad.is_empty());
            assert_eq!(report.delivered.get(), length as u64);
            let now = progress.now();
            assert_eq!(
                (now.bytes_done, now.chunks_done),
                (length as u64, length.div_ceil(CHUNK) as u64)
            );
        }
        assert_eq!(std::fs::read(&target).unwrap(), bytes);
        assert_eq!(memory.take(), bytes);
        assert_eq!(names_in(&fake), ["got"]);
    }
}

#[tokio::test]
async fn ranges_cross_chunks_and_end_with_the_file() {
    let (fake, client, bytes) = with_file(3, 5 * CHUNK + 100).await;
    let size = bytes.len() as u64;
    let cases = [
        (ByteRange::Between(0, 0), 0..1),
        (
            ByteRange::Between(CHUNK as u64 - 1, CHUNK as u64),
            CHUNK - 1..CHUNK + 1,
        ),
        (
            ByteRange::Between(70_000, 3 * CHUNK as u64 + 9),
            70_000..3 * CHUNK + 10,
        ),
        (ByteRange::From(size - 1), bytes.len() - 1..bytes.len()),
        (ByteRange::Last(200), bytes.len() - 200..bytes.len()),
        (ByteRange::Between(5, u64::MAX), 5..bytes.len()),
    ];
    let target = fake.directory.path().join("got");
    for (range, expected) in cases {
        let memory = Memory::default();
        for sink in [memory.sink(), Sink::file(&target)] {
            let options = DownloadOptions {
                range: Some(range),
                ..DownloadOptions::default()
            };
            let report = client.download(&path("/me/f"), sink, options).await.unwrap();
            assert_eq!(report.delivered.get(), expected.len() as u64);
            assert!(!report.digest_verified);
        }
        assert!(
            memory.take() == bytes[expected.clone()] && std::fs::read(&target).unwrap() == bytes[expected]
        );
    }
    let beyond = DownloadOptions {
        range: Some(ByteRange::From(size)),
        ..DownloadOptions::default()
    };
    let error = client
        .download(&path("/me/f"), Sink::discard(), beyond)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_corrupt_copy_is_reported_and_another_serves() {
    for fault in [GetFault::FlipByte, GetFault::OtherContent] {
        let (fake, client, bytes) = with_file(3, 6 * CHUNK).await;
        *fake.nodes[0].get_fault.lock() = Some(fault);
        let target = fake.directory.path().join("got");
        let report = client
            .download(&path("/me/f"), Sink::file(&target), DownloadOptions::default())
            .await
            .unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), bytes);
        assert!(report.digest_verified);
        assert!(
            report
                .bad
                .iter()
                .all(|bad| bad.node.get() == 1 && bad.kind == Kind::Corrupt)
        );
        let asked = fake.nodes[0].gets.load(Ordering::SeqCst);
        assert_eq!(report.bad.is_empty(), asked == 0, "{report:?}");
    }
}

/// Where no digest of a chunk can be checked, the checksums of its blocks are all there is.
#[tokio::test]
async fn a_part_of_a_chunk_is_verified_by_its_blocks() {
    let (fake, client, bytes) = with_file(2, 3 * CHUNK).await;
    *fake.nodes[0].get_fault.lock() = Some(GetFault::FlipByte);
    let target = fake.directory.path().join("got");
    let wanted = 10..CHUNK + 100_000;
    for _ in 0..4 {
        let memory = Memory::default();
        for sink in [memory.sink(), Sink::file(&target)] {
            let options = DownloadOptions {
                range: Some(ByteRange::Between(wanted.start as u64, wanted.end as u64 - 1)),
                ..DownloadOptions::default()
            };
            client.download(&path("/me/f"), sink, options).await.unwrap();
        }
        assert!(memory.take() == bytes[wanted.clone()], "to a writer");
        assert!(
            std::fs::read(&target).unwrap() == bytes[wanted.clone()],
            "to a file"
        );
    }
}

/// Every chunk has the digest that the manifest states, and together they are another file.
#[tokio::test]
async fn a_file_of_good_chunks_in_another_order_is_refused() {
    let (fake, client, _) = with_file(3, 3 * CHUNK).await;
    fake.world.state().files.get_mut("/me/f").unwrap().digest = digest(b"another file");
    let target = fake.directory.path().join("got");
    for sink in [
        Sink::file(&target),
        Sink::writer(Memory::default()),
        Sink::discard(),
    ] {
        let outcome = client
            .download(&path("/me/f"), sink, DownloadOptions::default())
            .await;
        assert!(matches!(outcome.unwrap_err(), Error::WrongDigest { .. }));
    }
    assert!(!target.exists());
}

#[tokio::test]
async fn a_copy_that_breaks_in_the_middle_is_continued_elsewhere() {
    let (fake, client, bytes) = with_file(3, 6 * CHUNK).await;
    *fake.nodes[0].get_fault.lock() = Some(GetFault::BreakAfterFirst);
    let memory = Memory::default();
    let report = client
        .download(&path("/me/f"), memory.sink(), DownloadOptions::default())
        .await
        .unwrap();
    assert_eq!(digest(&memory.take()), digest(&bytes));
    assert!(
        report
            .bad
            .iter()
            .all(|bad| bad.node.get() == 1 && bad.kind == Kind::Retry)
    );
}

#[tokio::test]
async fn a_node_that_is_gone_is_asked_last() {
    let (fake, client, bytes) = with_file(3, 12 * CHUNK).await;
    fake.nodes[2].down.store(true, Ordering::SeqCst);
    let memory = Memory::default();
    let report = client
        .download(&path("/me/f"), memory.sink(), DownloadOptions::default())
        .await
        .unwrap();
    assert!(memory.take() == bytes);
    assert!(report.bad.iter().all(|bad| bad.node.get() == 3));
}

#[tokio::test]
async fn expired_grants_are_asked_for_anew() {
    let (fake, client, bytes) = with_file(3, 4 * CHUNK).await;
    let world = Arc::clone(&fake.world);
    let expire = tokio::spawn(async move {
        while world.count("get manifest") < 2 {
            tokio::task::yield_now().await;
        }
        let mut state = world.state();
        state.grants_valid_from = state.grant_number + 1;
    });
    let memory = Memory::default();
    let report = client
        .download(&path("/me/f"), memory.sink(), DownloadOptions::default())
        .await
        .unwrap();
    expire.await.unwrap();
    assert!(memory.take() == bytes);
    assert!(report.bad.is_empty(), "{:?}", report.bad);
}

#[tokio::test]
async fn nodes_that_do_not_know_the_leaders_key_yet_are_waited_for() {
    let (fake, client, bytes) = with_file(2, CHUNK).await;
    let set = |fault| {
        for node in &fake.nodes {
            *node.get_fault.lock() = fault;
        }
    };
    set(Some(GetFault::KeyUnknown));
    let memory = Memory::default();
    let file = path("/me/f");
    let download = client.download(&file, memory.sink(), DownloadOptions::default());
    let heard = async {
        // More often than copies that are plainly bad would be asked.
        let asked = || {
            fake.nodes
                .iter()
                .map(|node| node.gets.load(Ordering::SeqCst))
                .sum::<usize>()
        };
        while asked() < 12 {
            tokio::task::yield_now().await;
        }
        set(None);
    };
    let (report, ()) = tokio::join!(download, heard);
    assert!(memory.take() == bytes);
    assert!(report.unwrap().bad.is_empty());
}

#[tokio::test]
async fn when_every_copy_is_bad_nothing_takes_the_name() {
    let (fake, client, _) = with_file(3, 3 * CHUNK).await;
    for node in &fake.nodes {
        *node.get_fault.lock() = Some(GetFault::FlipByte);
    }
    let target = fake.directory.path().join("got");
    std::fs::write(&target, b"before").unwrap();
    let error = client
        .download(&path("/me/f"), Sink::file(&target), DownloadOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::ChunkNotReadable { bad, .. } if bad.len() == 2),
        "{error:?}"
    );
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(std::fs::read(&target).unwrap(), b"before");
    // The task that wrote may still be ending.
    while names_in(&fake) != ["got"] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn other_content_on_every_copy_is_never_delivered_as_right() {
    let (fake, client, _) = with_file(3, 2 * CHUNK).await;
    for node in &fake.nodes {
        *node.get_fault.lock() = Some(GetFault::OtherContent);
    }
    let target = fake.directory.path().join("got");
    let to_file = client
        .download(&path("/me/f"), Sink::file(&target), DownloadOptions::default())
        .await;
    assert_eq!(to_file.unwrap_err().kind(), Kind::Corrupt);
    let to_writer = client
        .download(
            &path("/me/f"),
            Memory::default().sink(),
            DownloadOptions::default(),
        )
        .await;
    assert!(matches!(to_writer.unwrap_err(), Error::WrongDigest { .. }));
}

/// Takes nothing.
struct Stuck;

impl tokio::io::AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_slow_reader_is_fetched_for_no_further_than_the_window() {
    let fake = Fake::start(1, 3).await;
    let mut settings = fake.settings();
    settings.limits.download_window_bytes_max = common::units::ByteCount::new(2 * CHUNK as u64);
    let client = fake.client_with(settings).await;
    let source = Source::bytes(content(40 * CHUNK, 22));
    client
        .upload(source, &path("/me/f"), Default::default())
        .await
        .unwrap();
    let options = DownloadOptions::default();
    let (progress, stop) = (options.progress.clone(), options.shutdown.clone());
    let task = tokio::spawn(async move {
        client
            .download(&path("/me/f"), Sink::writer(Stuck), options)
            .await
    });
    while progress.now().bytes_moved == 0 {
        tokio::task::yield_now().await;
    }
    Clock::real().sleep(Duration::from_millis(300)).await;
    let fetched = progress.now().bytes_moved;
    // The window, and the piece that waits to be written.
    assert!(fetched <= 4 * CHUNK as u64, "{fetched}");
    stop.trigger();
    assert!(matches!(task.await.unwrap(), Err(Error::Interrupted)));
}

#[tokio::test]
async fn an_interrupted_download_goes_on_from_its_part() {
    let (fake, client, bytes) = with_file(3, 10 * CHUNK).await;
    let target = fake.directory.path().join("got");
    let resume = || DownloadOptions {
        resume: true,
        ..DownloadOptions::default()
    };
    // The last chunks cannot be read anywhere at first.
    let hidden = fake.world.state().files["/me/f"].receipts[8].statement.attempt;
    let taken: Vec<_> = fake.nodes.iter().map(|node| node.take(hidden)).collect();
    let error = client
        .download(&path("/me/f"), Sink::file(&target), resume())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::ChunkNotReadable { index: 8, .. }),
        "{error:?}"
    );
    assert_eq!(client::download::leftover_parts(&target).unwrap().len(), 1);
    assert!(!target.exists());
    for (node, content) in fake.nodes.iter().zip(taken) {
        node.give(hidden, content);
    }
    let moved = AtomicUsize::new(0);
    let options = resume();
    let progress = options.progress.clone();
    let report = client
        .download(&path("/me/f"), Sink::file(&target), options)
        .await
        .unwrap();
    moved.store(progress.now().bytes_moved as usize, Ordering::SeqCst);
    assert!(report.resumed.get() >= CHUNK as u64, "{report:?}");
    assert_eq!(
        moved.load(Ordering::SeqCst) as u64 + report.resumed.get(),
        bytes.len() as u64
    );
    assert_eq!(std::fs::read(&target).unwrap(), bytes);
    assert!(client::download::leftover_parts(&target).unwrap().is_empty());
}

/// What an interrupted download left is of the file as it was then.
#[tokio::test]
async fn a_part_of_another_version_is_not_taken_for_this_one() {
    let (fake, client, mut bytes) = with_file(3, 4 * CHUNK).await;
    let target = fake.directory.path().join("got");
    let resume = || DownloadOptions {
        resume: true,
        ..DownloadOptions::default()
    };
    let hidden = fake.world.state().files["/me/f"].receipts[3].statement.attempt;
    for node in &fake.nodes {
        node.take(hidden);
    }
    client
        .download(&path("/me/f"), Sink::file(&target), resume())
        .await
        .unwrap_err();
    assert_eq!(client::download::leftover_parts(&target).unwrap().len(), 1);
    // All chunks but the first are others now.
    for at in 1..4 {
        bytes[at * CHUNK + 7] ^= 1;
    }
    client
        .upload(Source::bytes(bytes.clone()), &path("/me/f"), Default::default())
        .await
        .unwrap();
    let report = client
        .download(&path("/me/f"), Sink::file(&target), resume())
        .await
        .unwrap();
    assert!(report.resumed.get() <= CHUNK as u64, "{report:?}");
    assert!(report.digest_verified && std::fs::read(&target).unwrap() == bytes);
}

/// A part that was never written reads as zeros: that is no reason to read it, nor to take it for the file.
#[tokio::test]
async fn a_fresh_download_finds_nothing_in_its_part() {
    let fake = Fake::start(1, 2).await;
    let client = fake.client().await;
    let bytes = vec![0; 3 * CHUNK];
    client
        .upload(Source::bytes(bytes.clone()), &path("/me/f"), Default::default())
        .await
        .unwrap();
    let target = fake.directory.path().join("got");
    let options = DownloadOptions {
        resume: true,
        ..DownloadOptions::default()
    };
    let report = client
        .download(&path("/me/f"), Sink::file(&target), options)
        .await
        .unwrap();
    assert_eq!(report.resumed.get(), 0, "everything was fetched");
    assert_eq!(std::fs::read(&target).unwrap(), bytes);
}

#[tokio::test]
async fn placement_shows_every_copy() {
    let (_fake, client, _) = with_file(3, 5 * CHUNK).await;
    let placement = client.placement(&path("/me/f"), None).await.unwrap();
    assert_eq!(placement.chunks.len(), 5);
    assert_eq!(placement.chunk_size.get(), CHUNK as u64);
    for chunk in &placement.chunks {
        assert_eq!(chunk.copies.len(), 2);
        assert!(chunk.copies[0].node != chunk.copies[1].node);
    }
    let error = client.placement(&path("/me"), None).await.unwrap_err();
    assert_eq!(error.code(), "E_NOT_A_FILE");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (_fake, client, _) = with_file(3, 1).await;
    let error = client
        .download(&path("/me/none"), Sink::discard(), DownloadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}
