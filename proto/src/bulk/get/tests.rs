//! Whatever a node sends, a reader hands out only what was written, and a writer believes only a receipt for what it sent.

use std::time::Duration;

use bytes::Bytes;
use common::ids::{Digest, DiskId, Epoch, KeyId, NodeId, UploadNumber, VersionId};
use tokio::io::{ReadHalf, WriteHalf};

use super::*;
use crate::bulk::dial::Deadlines;
use crate::bulk::frame::DATA_BYTES_MAX;
use crate::bulk::grant::DataPlaneKey;
use crate::bulk::message::{PutBegin, PutEnd};
use crate::bulk::pipeline::{Pipeline, SmallPut};
use crate::bulk::receipt::{Copy, Receipt, Statement};
use crate::bulk::transport::{FrameReader, FrameWriter};

type Stream = tokio::io::DuplexStream;

/// The end of a connection that the test plays.
struct Node {
    reader: FrameReader<ReadHalf<Stream>>,
    writer: FrameWriter<WriteHalf<Stream>>,
}

fn connect() -> (Connection, Node) {
    let (near, far) = tokio::io::duplex(4 << 20);
    let quick = Deadlines {
        frame: Duration::from_millis(200),
        answer: Duration::from_millis(200),
        ..Deadlines::default()
    };
    let (reading, writing) = tokio::io::split(far);
    let node = Node {
        reader: FrameReader::new(reading),
        writer: FrameWriter::new(writing),
    };
    (Connection::over(Box::new(near), NodeId::new(4), quick), node)
}

fn attempt() -> AttemptId {
    AttemptId::new(Epoch::new(1), 2)
}

fn content() -> Vec<u8> {
    (0..3 * BLOCK_BYTES - 100)
        .map(|at| (at / 7 % 251) as u8)
        .collect()
}

/// A run of blocks as a node sends it.
struct Run {
    first_block: u32,
    checksums: Vec<u64>,
    data: Vec<u8>,
}

/// What goes wrong with the runs.
type Change = fn(&mut Vec<Run>);

fn runs() -> Vec<Run> {
    let content = content();
    let (first, second) = content.split_at(2 * BLOCK_BYTES);
    [(0, first), (2, second)]
        .map(|(first_block, data)| Run {
            first_block,
            checksums: blocks::checksums(attempt(), first_block, data),
            data: data.to_vec(),
        })
        .into()
}

/// What a reader of the whole chunk gets where the node sends `runs`.
async fn read(runs: Vec<Run>, chunk_length: u64) -> Result<Vec<u8>, Error> {
    let (mut connection, mut node) = connect();
    let request = GetRequest {
        grant: Vec::new(),
        attempt: attempt(),
        offset: 0,
        length: content().len() as u64,
    };
    let serving = async {
        let asked = node.reader.next().await.unwrap().unwrap();
        for run in runs {
            let writing = node
                .writer
                .data(asked.request, run.first_block, &run.checksums, &run.data);
            writing.await.unwrap();
        }
        node.writer.control(asked.request, &GetEnd { chunk_length });
        node.writer.flush().await.unwrap();
    };
    let reading = async {
        let mut get = connection.get(&request).await?;
        let mut buffer = vec![0; DATA_BYTES_MAX];
        let mut found = Vec::new();
        while let Some(received) = get.next(&mut buffer).await? {
            found.extend_from_slice(&buffer[..received.length]);
        }
        Ok(found)
    };
    tokio::join!(serving, reading).1
}

#[tokio::test]
async fn what_was_written_is_read() {
    let length = content().len() as u64;
    assert_eq!(read(runs(), length).await.unwrap(), content());
}

#[tokio::test]
async fn a_reader_takes_no_block_that_does_not_match_its_checksum() {
    let length = content().len() as u64;
    let cases: [(u32, Change); 4] = [
        (1, |runs| runs[0].data[BLOCK_BYTES + 5] ^= 1),
        (2, |runs| {
            *runs[1].data.last_mut().unwrap() ^= 0x80;
        }),
        (0, |runs| runs[0].checksums.swap(0, 1)),
        (0, |runs| {
            let other = AttemptId::new(Epoch::new(1), 3);
            runs[0].checksums = blocks::checksums(other, 0, &runs[0].data);
        }),
    ];
    for (expected, change) in cases {
        let mut changed = runs();
        change(&mut changed);
        let error = read(changed, length).await.unwrap_err();
        let Error::Corrupt { node, block, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((node, block), (NodeId::new(4), expected));
    }
}

#[tokio::test]
async fn a_reader_takes_no_hole_no_other_order_and_no_early_end() {
    let length = content().len() as u64;
    let changes: [Change; 5] = [
        |runs| drop(runs.remove(0)),
        |runs| drop(runs.pop()),
        |runs| runs.swap(0, 1),
        |runs| runs[1].first_block = 1,
        // Part of a block, and it is not the last.
        |runs| {
            runs[0].data.pop();
            runs[0].checksums = blocks::checksums(attempt(), 0, &runs[0].data);
        },
    ];
    for change in changes {
        let mut changed = runs();
        change(&mut changed);
        let error = read(changed, length).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    let error = read(runs(), length - 1).await.unwrap_err();
    assert!(
        matches!(error, Error::Protocol { .. }),
        "a shorter chunk: {error}"
    );
}

fn receipt(attempt: AttemptId, length: u64, digest: Digest, copies: usize) -> Receipt {
    let statement = Statement {
        upload: UploadNumber::new(1),
        version: VersionId::new(1),
        index: 0,
        attempt,
        length,
        digest,
    };
    let key = DataPlaneKey::new(KeyId::new(1), &[1; 32]);
    let copy = Copy::sign(&statement, NodeId::new(4), DiskId::new([1; 16]), &key);
    Receipt {
        statement,
        copies: vec![copy; copies],
    }
}

fn begin() -> PutBegin {
    PutBegin {
        grant: Vec::new(),
        delegate_grant: Vec::new(),
        attempt: attempt(),
        length_hint: None,
        path_hint: String::new(),
    }
}

/// What a writer makes of `answer`, alone on a connection or in a pipeline.
async fn written(answer: Receipt, pipelined: bool) -> Result<Receipt, Error> {
    let (mut connection, mut node) = connect();
    let data = vec![5; 1000];
    let checksums = blocks::checksums(attempt(), 0, &data);
    let digest = Digest::new([3; 32]);
    let serving = async {
        loop {
            let frame = node.reader.next().await.unwrap().unwrap();
            if frame.frame_type == FrameType::PutEnd {
                let end: PutEnd = frame.decode().unwrap();
                assert_eq!((end.length, end.digest), (1000, digest));
                node.writer.control(frame.request, &answer);
                node.writer.flush().await.unwrap();
                return;
            }
        }
    };
    let writing = async {
        if pipelined {
            let small = SmallPut {
                begin: begin(),
                data: Bytes::from(data),
                checksums,
                digest,
            };
            return Pipeline::start(connection).put(small).await;
        }
        let begin = begin();
        let mut put = connection.put(&begin)?;
        put.send(&data, &checksums).await?;
        put.finish(digest).await
    };
    tokio::join!(serving, writing).1
}

#[tokio::test]
async fn a_writer_believes_only_a_receipt_for_what_it_sent() {
    let digest = Digest::new([3; 32]);
    for pipelined in [false, true] {
        let good = receipt(attempt(), 1000, digest, 2);
        assert_eq!(written(good.clone(), pipelined).await.unwrap(), good);
        for wrong in [
            receipt(AttemptId::new(Epoch::new(1), 3), 1000, digest, 2),
            receipt(attempt(), 999, digest, 2),
            receipt(attempt(), 1000, Digest::new([4; 32]), 2),
            receipt(attempt(), 1000, digest, 0),
        ] {
            let error = written(wrong, pipelined).await.unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{error}");
        }
    }
}

/// PROGRESS without end keeps a waiting side alive; silence does not.
#[tokio::test]
async fn progress_is_heard_and_silence_is_noticed() {
    let (mut connection, mut node) = connect();
    let data = vec![5; 1000];
    let checksums = blocks::checksums(attempt(), 0, &data);
    let digest = Digest::new([3; 32]);
    let serving = async {
        let clock = common::time::Clock::real();
        for _ in 0..20 {
            node.writer.progress();
            node.writer.flush().await.unwrap();
            clock.sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await
    };
    let begin = begin();
    let writing = async {
        let clock = common::time::Clock::real();
        let begun = clock.moment();
        let mut put = connection.put(&begin).unwrap();
        put.send(&data, &checksums).await.unwrap();
        let error = put.finish(digest).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        let waited = clock.moment().since(begun);
        assert!(waited >= Duration::from_millis(1000), "{waited:?}");
    };
    tokio::select! {
        () = writing => {}
        () = serving => {}
    }
}
