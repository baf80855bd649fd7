//! Uploads under faults: what is acknowledged is there once, what failed will never be, and the two are told apart.

use std::sync::atomic::Ordering;
use std::time::Duration;

use client::upload::{Condition, OnInterrupt, ResumeState, Source, UploadOptions};
use client::{Client, Error};
use common::error::Kind;
use common::shutdown::Shutdown;
use common::units::ByteCount;
use proto::error::RpcError;

use crate::fake::Fake;
use crate::fake::data::PutFault;
use crate::fake::world::Fault;
use crate::{content, digest, path};

const CHUNK: usize = 2 << 20;

fn stored(fake: &Fake, name: &str) -> Option<Vec<u8>> {
    let version = fake.world.state().files.get(name).cloned()?;
    let mut bytes = Vec::new();
    for receipt in &version.receipts {
        let node = &fake.nodes[receipt.copies[0].node.get() as usize - 1];
        bytes.extend(node.content(receipt.statement.attempt).unwrap());
    }
    Some(bytes)
}

async fn put(
    client: &Client,
    bytes: &[u8],
    options: UploadOptions,
) -> Result<client::upload::UploadReceipt, Error> {
    client
        .upload(Source::bytes(bytes.to_vec()), &path("/me/f"), options)
        .await
}

#[tokio::test]
async fn every_kind_of_source_and_length() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 77] {
        let bytes = content(length, length as u64);
        let file = fake.directory.path().join("source");
        std::fs::write(&file, &bytes).unwrap();
        let sources = [
            Source::file(&file),
            Source::bytes(bytes.clone()),
            Source::stream(std::io::Cursor::new(bytes.clone()), None),
        ];
        for source in sources {
            let name = format!("{source:?}");
            let options = UploadOptions::default();
            let progress = options.progress.clone();
            let receipt = client.upload(source, &path("/me/f"), options).await.unwrap();
            assert_eq!(receipt.digest, digest(&bytes), "{name} of {length}");
            assert_eq!(receipt.size.get(), length as u64);
            assert_eq!(receipt.chunks as usize, length.div_ceil(CHUNK));
            assert_eq!(receipt.chunks_sent, receipt.chunks);
            assert_eq!(receipt.durability.unwrap().copies, 2);
            assert_eq!(stored(&fake, "/me/f").unwrap(), bytes, "{name} of {length}");
            let now = progress.now();
            assert_eq!(
                (now.bytes_done, now.bytes_total),
                (length as u64, Some(length as u64)),
                "{name}"
            );
            assert_eq!(Some(now.chunks_done), now.chunks_total);
        }
    }
    let source = Source::generated(ByteCount::new(700_000), 5);
    let receipt = client
        .upload(source, &path("/me/g"), Default::default())
        .await
        .unwrap();
    assert_eq!(receipt.digest, digest(&stored(&fake, "/me/g").unwrap()));
}

#[tokio::test]
async fn plans_are_asked_for_in_batches() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    put(&client, &content(20 * CHUNK, 1), UploadOptions::default())
        .await
        .unwrap();
    assert!(
        fake.world.count("plan chunks") <= 5,
        "{}",
        fake.world.count("plan chunks")
    );
}

#[tokio::test]
async fn a_primary_that_dies_within_a_chunk_is_avoided() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let bytes = content(6 * CHUNK, 2);
    fake.nodes[0].put_faults.lock().push_back(PutFault::BreakAfter(1));
    let options = UploadOptions::default();
    let progress = options.progress.clone();
    let receipt = put(&client, &bytes, options).await.unwrap();
    assert_eq!(receipt.digest, digest(&bytes));
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
    let avoided = |request: &proto::files::v1::PlanChunksRequest| {
        request.chunks.iter().any(|chunk| chunk.avoid_nodes == [1])
    };
    assert!(fake.world.state().plan_requests.iter().any(avoided));
    assert_eq!(progress.now().bytes_done, bytes.len() as u64);
    assert!(progress.now().retries >= 1 && progress.now().bytes_moved > bytes.len() as u64);
}

/// Busy is no failure: nodes that ask for a moment more often than a chunk may fail are waited for.
#[tokio::test]
async fn nodes_that_are_busy_are_waited_for() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let busy_times = 12;
    assert!(busy_times > client::Limits::default().chunk_tries_max as usize);
    for node in &fake.nodes {
        let busy = (0..busy_times).map(|_| PutFault::Refuse(Kind::Busy));
        node.put_faults.lock().extend(busy);
    }
    let bytes = content(2 * CHUNK, 2);
    put(&client, &bytes, UploadOptions::default()).await.unwrap();
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
}

/// Patience has a limit of its own, and the error says what was waited for.
#[tokio::test]
async fn nodes_that_stay_busy_are_given_up() {
    let fake = Fake::start(1, 3).await;
    let mut settings = fake.settings();
    settings.limits.busy_wait_max = Duration::from_millis(200);
    let client = fake.client_with(settings).await;
    for node in &fake.nodes {
        let busy = (0..1000).map(|_| PutFault::Refuse(Kind::Busy));
        node.put_faults.lock().extend(busy);
    }
    let error = put(&client, &content(CHUNK, 2), UploadOptions::default())
        .await
        .unwrap_err();
    let chain = common::error::chain(&error);
    assert!(chain.contains("as the test asked"), "{chain}");
}

#[tokio::test]
async fn small_files_share_a_connection_and_survive_its_loss() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.nodes[0].put_faults.lock().push_back(PutFault::BreakAfter(1));
    let uploads = (0..40_u64).map(|number| {
        let (client, bytes) = (client.clone(), content(1000 + number as usize, number));
        tokio::spawn(async move {
            let name = path(&format!("/me/{number}"));
            let receipt = client
                .upload(Source::bytes(bytes.clone()), &name, Default::default())
                .await;
            assert_eq!(receipt.unwrap().digest, digest(&bytes));
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        upload.await.unwrap();
    }
    assert_eq!(fake.world.state().files.len(), 40);
    // One connection to each node, and one more in place of the one that broke.
    let connections: usize = fake
        .nodes
        .iter()
        .map(|node| node.connections.load(Ordering::SeqCst))
        .sum();
    assert!(connections <= 5, "{connections}");
}

#[tokio::test]
async fn a_node_that_failed_is_better_than_none() {
    let fake = Fake::start(1, 2).await;
    let client = fake.client().await;
    for node in &fake.nodes {
        node.put_faults.lock().push_back(PutFault::BreakAfter(1));
    }
    let bytes = content(6 * CHUNK, 2);
    put(&client, &bytes, UploadOptions::default()).await.unwrap();
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
}

#[tokio::test]
async fn a_delegate_that_fails_is_avoided_by_name() {
    let fake = Fake::start(1, 4).await;
    let client = fake.client().await;
    fake.nodes[0]
        .put_faults
        .lock()
        .push_back(PutFault::DelegateFails(2));
    put(&client, &content(CHUNK, 3), UploadOptions::default())
        .await
        .unwrap();
    let requests = fake.world.state().plan_requests.clone();
    assert!(
        requests
            .iter()
            .any(|request| request.chunks.iter().any(|chunk| chunk.avoid_nodes == [2]))
    );
}

#[tokio::test]
async fn a_node_out_of_reach_does_not_stop_an_upload() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.nodes[1].down.store(true, Ordering::SeqCst);
    let bytes = content(9 * CHUNK, 4);
    let receipt = client
        .upload(
            Source::stream(std::io::Cursor::new(bytes.clone()), None),
            &path("/me/f"),
            Default::default(),
        )
        .await
        .unwrap();
    assert_eq!(receipt.digest, digest(&bytes));
    assert_eq!(fake.nodes[1].puts.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left() {
    let fake = Fake::start(1, 3).await;
    let mut settings = fake.settings();
    settings.limits.data_stall_timeout = Duration::from_millis(200);
    let client = fake.client_with(settings).await;
    fake.nodes[0].put_faults.lock().push_back(PutFault::Silence);
    let bytes = content(2 * CHUNK, 4);
    put(&client, &bytes, UploadOptions::default()).await.unwrap();
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
}

#[tokio::test]
async fn expired_grants_are_replaced() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.nodes[0]
        .put_faults
        .lock()
        .push_back(PutFault::Refuse(Kind::Stale));
    fake.nodes[1]
        .put_faults
        .lock()
        .push_back(PutFault::Refuse(Kind::Full));
    put(&client, &content(3 * CHUNK, 5), UploadOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn when_no_node_takes_a_chunk_the_upload_fails_and_is_aborted() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    for node in &fake.nodes {
        let full = std::iter::repeat_with(|| PutFault::Refuse(Kind::Full));
        node.put_faults.lock().extend(full.take(20));
    }
    let error = put(&client, &content(CHUNK, 5), UploadOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::UploadFailed { upload: Some(_), .. }),
        "{error:?}"
    );
    assert_eq!(error.kind(), Kind::Full);
    assert_eq!(fake.world.count("abort upload"), 1);
    assert_eq!(fake.world.count("seal"), 0);
}

#[tokio::test]
async fn every_lost_answer_leads_to_one_version() {
    for call in ["hello", "open upload", "plan chunks", "seal"] {
        let fake = Fake::start(3, 3).await;
        let client = fake.client().await;
        fake.world.script(call, Fault::LoseAnswer);
        let bytes = content(2 * CHUNK + 5, 6);
        let receipt = put(&client, &bytes, UploadOptions::default()).await.unwrap();
        let state = fake.world.state();
        assert_eq!(state.uploads.len(), 1, "{call}");
        assert_eq!(state.files["/me/f"].version, receipt.version.get(), "{call}");
    }
}

#[tokio::test]
async fn a_retry_with_the_same_key_finds_the_first() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let options = UploadOptions {
        key: Some(client.upload_key().await.unwrap()),
        ..UploadOptions::default()
    };
    let bytes = content(CHUNK + 1, 7);
    let first = put(&client, &bytes, options.clone()).await.unwrap();
    let second = put(&client, &bytes, options).await.unwrap();
    assert!(second.already_published && !first.already_published);
    assert_eq!(
        (second.version, second.digest, second.size),
        (first.version, first.digest, first.size)
    );
    assert_eq!(second.places, first.places);
    assert_eq!(fake.world.state().uploads.len(), 1);
}

#[tokio::test]
async fn a_new_cluster_leader_gets_the_seal() {
    let fake = Fake::start(1, 3).await;
    fake.world.state().cluster_leader = 1;
    let client = fake.client().await;
    let world = std::sync::Arc::clone(&fake.world);
    let moved = tokio::spawn(async move {
        while world.count("plan chunks") < 1 {
            tokio::task::yield_now().await;
        }
        world.state().cluster_leader = 2;
    });
    fake.stop_member(0);
    put(&client, &content(4 * CHUNK, 8), UploadOptions::default())
        .await
        .unwrap();
    moved.await.unwrap();
}

#[tokio::test]
async fn chunks_lost_before_the_seal_are_sent_again() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.state().wipe_before_seal = true;
    let bytes = content(5 * CHUNK, 9);
    let options = UploadOptions::default();
    let progress = options.progress.clone();
    let receipt = put(&client, &bytes, options).await.unwrap();
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
    assert_eq!(receipt.chunks, 5);
    assert!(receipt.chunks_sent > 5, "{}", receipt.chunks_sent);
    assert_eq!(progress.now().chunks_done, 5);
}

#[tokio::test]
async fn a_stream_cannot_send_lost_chunks_again_and_says_so() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.state().wipe_before_seal = true;
    let source = Source::stream(std::io::Cursor::new(content(2 * CHUNK, 9)), None);
    let error = client
        .upload(source, &path("/me/f"), Default::default())
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::UploadFailed { .. }), "{error:?}");
    assert_eq!(error.code(), "E_NOT_RESUMABLE");
}

#[tokio::test]
async fn a_stream_waits_for_copies_that_come_back() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let bytes = content(3 * CHUNK, 9);
    fake.world.state().wipe_before_seal = true;
    let source = Source::stream(std::io::Cursor::new(bytes.clone()), None);
    let upload = tokio::spawn(async move { client.upload(source, &path("/me/f"), Default::default()).await });
    while fake.world.count("seal") < 1 {
        tokio::task::yield_now().await;
    }
    fake.nodes[0].unwipe();
    assert_eq!(upload.await.unwrap().unwrap().digest, digest(&bytes));
}

#[tokio::test]
async fn a_slow_publication_is_waited_for() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.state().publish_after_asked = 3;
    let receipt = put(&client, &content(10, 10), UploadOptions::default())
        .await
        .unwrap();
    assert_eq!(fake.world.count("get outcome"), 3);
    assert_eq!(fake.world.state().files["/me/f"].version, receipt.version.get());
}

#[tokio::test]
async fn conditions_are_refused_as_failures() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let absent = UploadOptions {
        condition: Condition::Absent,
        ..UploadOptions::default()
    };
    let first = put(&client, b"one", absent.clone()).await.unwrap();
    let error = put(&client, b"two", absent).await.unwrap_err();
    assert!(matches!(&error, Error::UploadFailed { .. }));
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "E_CONFLICT"));
    let path_of_f = path("/me/f");
    let update = |text: &'static str, version| {
        client.update(Source::bytes(text), &path_of_f, version, UploadOptions::default())
    };
    let second = update("three", Some(first.version)).await.unwrap();
    assert!(second.version > first.version);
    let stale = update("four", Some(first.version)).await.unwrap_err();
    assert_eq!(stale.code(), "E_CONFLICT");
    assert_eq!(stored(&fake, "/me/f").unwrap(), b"three");
    let missing = client
        .update(
            Source::bytes("x"),
            &path("/me/none"),
            None,
            UploadOptions::default(),
        )
        .await;
    assert_eq!(missing.unwrap_err().code(), "E_CONFLICT");
}

#[tokio::test]
async fn a_small_upload_whose_session_is_lost_begins_again_under_its_key() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.state().sessions_lost = 2;
    let options = UploadOptions::default();
    let progress = options.progress.clone();
    let text = content(100_000, 10);
    let receipt = put(&client, &text, options).await.unwrap();
    assert!(!receipt.already_published);
    assert_eq!(stored(&fake, "/me/f").unwrap(), text);
    assert_eq!(fake.world.state().uploads.len(), 3);
    assert_eq!(progress.now().bytes_done, 100_000);
    // Again and again: it ends, and is certain not to appear.
    fake.world.state().sessions_lost = u32::MAX;
    let error = put(&client, b"x", UploadOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::UploadFailed { .. }), "{error:?}");
    assert_eq!((error.kind(), error.code()), (Kind::Retry, "E_SESSION_LOST"));
    assert_eq!(stored(&fake, "/me/f").unwrap(), text);
}

#[tokio::test]
async fn what_is_large_or_read_once_has_its_session_committed_at_once() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.state().sessions_lost = u32::MAX;
    put(&client, &content(3 << 20, 10), UploadOptions::default())
        .await
        .unwrap();
    let stream = Source::stream(&b"once"[..], None);
    let receipt = client
        .upload(stream, &path("/me/g"), UploadOptions::default())
        .await;
    receipt.unwrap();
    assert!(
        fake.world
            .state()
            .uploads
            .values()
            .all(|upload| !upload.repeatable)
    );
}

#[tokio::test]
async fn what_became_of_a_session_that_is_not_known_the_key_tells() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let unknown = || Fault::Refuse(RpcError::new(Kind::NotFound, "E_UPLOAD_NOT_FOUND", "unknown"));
    // The key leads to an open session: it is aborted.
    fake.world.script("seal", never("seal"));
    fake.world.script("abort upload", unknown());
    let error = put(&client, b"x", UploadOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::UploadFailed { .. }), "{error:?}");
    assert_eq!(error.code(), "E_BROKEN");
    assert_eq!(fake.world.count("abort upload"), 2);
    // The key leads to a published one: that is success.
    fake.world.script("seal", Fault::LoseAnswer);
    fake.world.script("seal", never("seal"));
    fake.world.script("abort upload", unknown());
    let receipt = put(&client, b"y", UploadOptions::default()).await.unwrap();
    assert_eq!(fake.world.state().files["/me/f"].version, receipt.version.get());
}

fn never(call: &'static str) -> Fault {
    Fault::Refuse(RpcError::new(
        Kind::Fatal,
        "E_BROKEN",
        format!("{call} is broken"),
    ))
}

#[tokio::test]
async fn failure_is_claimed_only_after_an_abort() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.script("seal", never("seal"));
    let error = put(&client, b"x", UploadOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::UploadFailed { .. }), "{error:?}");
    assert_eq!(error.code(), "E_BROKEN");
    let state = fake.world.state();
    let upload = state.uploads.values().next().unwrap();
    assert_eq!(upload.state, proto::names::v1::UploadState::Aborted);
}

#[tokio::test]
async fn what_was_published_after_all_is_a_success() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    // The seal is carried out, its answer lost; asking again is refused for good.
    fake.world.script("seal", Fault::LoseAnswer);
    fake.world.script("seal", never("seal"));
    let receipt = put(&client, b"x", UploadOptions::default()).await.unwrap();
    assert_eq!(receipt.digest, digest(b"x"));
    assert_eq!(fake.world.state().files["/me/f"].version, receipt.version.get());
}

#[tokio::test]
async fn when_nothing_can_be_learned_the_outcome_is_unknown() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    fake.world.script("seal", Fault::LoseAnswer);
    fake.world.script("seal", never("seal"));
    fake.world.script("abort upload", never("abort upload"));
    let options = UploadOptions {
        key: Some(client.upload_key().await.unwrap()),
        ..UploadOptions::default()
    };
    let error = put(&client, b"x", options.clone()).await.unwrap_err();
    let Error::OutcomeUnknown {
        upload: Some(upload),
        key,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (error.code(), *key),
        ("E_OUTCOME_UNKNOWN", options.key.unwrap().key)
    );
    // It was published. Asking again with the key tells.
    let again = put(&client, b"x", options).await.unwrap();
    assert!(again.already_published);
    assert_eq!(again.upload, *upload);
}

#[tokio::test]
async fn a_file_that_changes_underfoot_is_refused() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let file = fake.directory.path().join("source");
    std::fs::write(&file, content(8 * CHUNK, 11)).unwrap();
    for node in &fake.nodes {
        *node.slowness.lock() = Duration::from_millis(30);
    }
    let world = std::sync::Arc::clone(&fake.world);
    let changed = file.clone();
    let vandal = tokio::spawn(async move {
        while world.count("plan chunks") < 1 {
            tokio::task::yield_now().await;
        }
        std::fs::write(&changed, content(8 * CHUNK, 12)).unwrap();
    });
    let error = client
        .upload(Source::file(&file), &path("/me/f"), Default::default())
        .await
        .unwrap_err();
    vandal.await.unwrap();
    assert_eq!(error.code(), "E_SOURCE_CHANGED", "{error:?}");
    assert!(matches!(error, Error::UploadFailed { .. }));
    assert!(stored(&fake, "/me/f").is_none());
}

#[tokio::test]
async fn local_errors_are_named() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let source = Source::file("/does/not/exist");
    let error = client
        .upload(source, &path("/me/f"), Default::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::NotFound, "E_LOCAL_FILE"));
    assert!(common::error::chain(&error).contains("/does/not/exist"));
    let directory = client
        .upload(Source::file("/"), &path("/me/f"), Default::default())
        .await;
    assert_eq!(directory.unwrap_err().code(), "E_LOCAL_FILE");
    assert_eq!(fake.world.count("open upload"), 0);
}

/// Gives some bytes, then fails.
struct Breaks(usize);

impl tokio::io::AsyncRead for Breaks {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.0 == 0 {
            return std::task::Poll::Ready(Err(std::io::Error::other("the pipe burst")));
        }
        let count = self.0.min(into.remaining());
        into.put_slice(&vec![1; count]);
        self.0 -= count;
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_stream_that_fails_aborts_with_its_error() {
    for length in [0, 10, CHUNK, 3 * CHUNK + 9] {
        let fake = Fake::start(1, 3).await;
        let client = fake.client().await;
        let source = Source::stream(Breaks(length), None);
        let error = client
            .upload(source, &path("/me/f"), Default::default())
            .await
            .unwrap_err();
        assert!(
            common::error::chain(&error).contains("the pipe burst"),
            "{length}: {error:?}"
        );
        assert_eq!(fake.world.count("abort upload"), 1);
    }
}

/// Counts what was read of an endless input.
struct Endless(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl tokio::io::AsyncRead for Endless {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let count = into.remaining();
        into.put_slice(&vec![1; count]);
        self.0.fetch_add(count, Ordering::SeqCst);
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_stream_is_read_no_further_than_its_window() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    for node in &fake.nodes {
        // Nothing is ever acknowledged.
        node.put_faults
            .lock()
            .extend(std::iter::repeat_with(|| PutFault::Silence).take(9));
    }
    let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let source = Source::stream(Endless(std::sync::Arc::clone(&read)), None);
    let stop = Shutdown::new();
    let options = UploadOptions {
        shutdown: stop.clone(),
        ..UploadOptions::default()
    };
    let upload = tokio::spawn(async move { client.upload(source, &path("/me/f"), options).await });
    while read.load(Ordering::SeqCst) < 2 * CHUNK {
        tokio::task::yield_now().await;
    }
    common::time::Clock::real()
        .sleep(Duration::from_millis(300))
        .await;
    assert_eq!(read.load(Ordering::SeqCst), 2 * CHUNK);
    stop.trigger();
    let error = upload.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, Error::UploadFailed { .. }) && error.code() == "E_INTERRUPTED",
        "{error:?}"
    );
    assert_eq!(fake.world.count("abort upload"), 1);
}

#[tokio::test]
async fn an_interrupted_upload_goes_on_with_what_is_missing() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let bytes = content(12 * CHUNK, 13);
    let options = UploadOptions {
        on_interrupt: OnInterrupt::Keep,
        ..UploadOptions::default()
    };
    let (stop, checkpoint) = (options.shutdown.clone(), options.checkpoint.clone());
    for node in &fake.nodes {
        *node.slowness.lock() = Duration::from_millis(30);
    }
    let task = tokio::spawn({
        let (client, bytes) = (client.clone(), bytes.clone());
        async move { put(&client, &bytes, options).await }
    });
    while checkpoint.current().is_none_or(|state| state.receipts.len() < 3) {
        tokio::task::yield_now().await;
    }
    stop.trigger();
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::UploadInterrupted { .. }), "{error:?}");
    assert_eq!(fake.world.count("abort upload"), 0);
    let text = serde_json::to_string(&checkpoint.current().unwrap()).unwrap();
    let state: ResumeState = serde_json::from_str(&text).unwrap();
    let known = state.receipts.len() as u32;
    let receipt = client
        .resume_upload(&state, Source::bytes(bytes.clone()), UploadOptions::default())
        .await
        .unwrap();
    assert_eq!(receipt.chunks_sent, 12 - known);
    assert_eq!(receipt.digest, digest(&bytes));
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
    let again = client
        .resume_upload(&state, Source::bytes(bytes), UploadOptions::default())
        .await
        .unwrap();
    assert!(again.already_published);
}

#[tokio::test]
async fn a_resumed_upload_sends_what_differs() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let mut bytes = content(4 * CHUNK, 14);
    let options = UploadOptions {
        on_interrupt: OnInterrupt::Keep,
        ..UploadOptions::default()
    };
    let (stop, checkpoint) = (options.shutdown.clone(), options.checkpoint.clone());
    // All chunks arrive, the seal does not come back.
    fake.world.script("seal", Fault::Silence(Duration::from_secs(60)));
    let task = tokio::spawn({
        let (client, bytes) = (client.clone(), bytes.clone());
        async move { put(&client, &bytes, options).await }
    });
    while fake.world.count("seal") < 1 {
        tokio::task::yield_now().await;
    }
    stop.trigger();
    task.await.unwrap().unwrap_err();
    bytes[CHUNK + 1] ^= 1;
    let state = checkpoint.current().unwrap();
    let source = Source::stream(std::io::Cursor::new(bytes.clone()), None);
    let receipt = client
        .resume_upload(&state, source, UploadOptions::default())
        .await
        .unwrap();
    assert_eq!(receipt.chunks_sent, 1);
    assert_eq!(stored(&fake, "/me/f").unwrap(), bytes);
}

#[tokio::test]
async fn an_aborted_upload_cannot_be_resumed() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let options = UploadOptions::default();
    let checkpoint = options.checkpoint.clone();
    fake.world.script("seal", never("seal"));
    put(&client, b"x", options).await.unwrap_err();
    let state = checkpoint.current().unwrap();
    let error = client
        .resume_upload(&state, Source::bytes("x"), UploadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "E_NOT_RESUMABLE");
}

#[tokio::test]
async fn aborting_what_is_published_is_refused() {
    let fake = Fake::start(1, 3).await;
    let client = fake.client().await;
    let receipt = put(&client, b"x", UploadOptions::default()).await.unwrap();
    let error = client.abort_upload(receipt.upload).await.unwrap_err();
    assert_eq!(error.code(), "E_PUBLISHED");
}
