//! Frames survive any way in which a stream cuts them, and nothing else is taken for a frame.

use super::*;
use crate::bulk::message::{Body, PutEnd};
use crate::bulk::transport::{Error, FrameReader, FrameWriter};
use common::ids::{AttemptId, Digest, Epoch};
use common::units::BLOCK_BYTES;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

const END: PutEnd = PutEnd {
    length: 7,
    digest: Digest::new([4; 32]),
};

/// Three frames: data, control, data.
async fn stream(first: &[u8], second: &[u8]) -> Vec<u8> {
    let attempt = AttemptId::new(Epoch::new(1), 1);
    let mut out = Vec::new();
    let mut writer = FrameWriter::new(&mut out);
    let request = RequestNumber::new(9);
    for data in [first, second] {
        let sums = blocks::checksums(attempt, 0, data);
        writer.data(request, 0, &sums, data).await.unwrap();
        writer.control(request, &END);
    }
    writer.flush().await.unwrap();
    out
}

/// All frames with their data, from a stream that arrives in `pieces`.
async fn read_all(pieces: &[&[u8]]) -> Result<Vec<(FrameType, Vec<u8>)>, Error> {
    let (near, mut far) = tokio::io::duplex(1 << 22);
    for piece in pieces {
        tokio::io::AsyncWriteExt::write_all(&mut far, piece)
            .await
            .unwrap();
    }
    drop(far);
    let mut reader = FrameReader::new(near);
    let mut found = Vec::new();
    while let Some(frame) = reader.next().await? {
        let mut data = vec![0; frame.data_length];
        reader.data(&mut data).await?;
        if frame.frame_type == FrameType::PutEnd {
            assert_eq!(frame.decode::<PutEnd>()?, END);
        }
        found.push((frame.frame_type, data));
    }
    Ok(found)
}

#[tokio::test]
async fn a_stream_may_be_cut_anywhere() {
    let (first, second) = (vec![1; 100], vec![2; 33]);
    let bytes = stream(&first, &second).await;
    let expected = vec![
        (FrameType::Data, first),
        (FrameType::PutEnd, vec![]),
        (FrameType::Data, second),
        (FrameType::PutEnd, vec![]),
    ];
    for at in 0..=bytes.len() {
        let (left, right) = bytes.split_at(at);
        assert_eq!(read_all(&[left, right]).await.unwrap(), expected, "cut at {at}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_early_is_truncated() {
    let bytes = stream(&[1; 100], &[2; 33]).await;
    let frame_ends: Vec<usize> = {
        let control = HEADER_BYTES + END.encode().len();
        let (one, two) = (HEADER_BYTES + 12 + 100, HEADER_BYTES + 12 + 33);
        vec![0, one, one + control, one + control + two, bytes.len()]
    };
    for at in 0..=bytes.len() {
        let result = read_all(&[&bytes[..at]]).await;
        if frame_ends.contains(&at) {
            assert!(result.is_ok(), "end at {at}");
        } else {
            assert!(
                matches!(result, Err(Error::Malformed(Malformed::Truncated))),
                "end at {at}: {result:?}"
            );
        }
    }
}

#[tokio::test]
async fn large_data_is_written_from_where_it_is() {
    let data: Vec<u8> = (0..DATA_BYTES_MAX).map(|at| (at % 251) as u8).collect();
    let bytes = stream(&data, &data[..5]).await;
    let found = read_all(&[&bytes]).await.unwrap();
    assert_eq!(found[0], (FrameType::Data, data));
}

#[tokio::test]
async fn data_that_nobody_reads_is_skipped() {
    let bytes = stream(&vec![1; 70_000], &[2; 33]).await;
    let mut reader = FrameReader::new(&bytes[..]);
    let mut kinds = Vec::new();
    while let Some(frame) = reader.next().await.unwrap() {
        kinds.push(frame.frame_type);
    }
    use FrameType::{Data, PutEnd};
    assert_eq!(kinds, [Data, PutEnd, Data, PutEnd]);
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let bytes = Header::new(FrameType::Data, RequestNumber::new(3), &[0; 12], 100).encode();
    assert!(Header::decode(&bytes).is_ok());
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn lengths_above_their_limits_are_refused() {
    let header = |frame_type, body_length, data_length| Header {
        frame_type,
        request: RequestNumber::new(1),
        body_length,
        data_length,
        body_checksum: 0,
    };
    let decode = |header: Header| Header::decode(&header.encode());
    let body = 4 + 8 * (DATA_BYTES_MAX / BLOCK_BYTES);
    assert!(decode(header(FrameType::Data, body, DATA_BYTES_MAX)).is_ok());
    let too_long = (DATA_BYTES_MAX + 1) as u32;
    assert_eq!(
        decode(header(FrameType::Data, body + 8, DATA_BYTES_MAX + 1)),
        Err(Malformed::DataTooLong(too_long))
    );
    let too_long = (BODY_BYTES_MAX + 1) as u32;
    assert_eq!(
        decode(header(FrameType::Get, BODY_BYTES_MAX + 1, 0)),
        Err(Malformed::BodyTooLong(too_long))
    );
    for wrong in [
        header(FrameType::Get, 1, 1),
        header(FrameType::Data, 4, 0),
        header(FrameType::Data, 12, BLOCK_BYTES + 1),
    ] {
        assert_eq!(decode(wrong), Err(Malformed::Lengths));
    }
}

#[test]
fn request_numbers_skip_the_connection() {
    assert_eq!(RequestNumber::new(u32::MAX).next(), RequestNumber::new(1));
    assert_eq!(RequestNumber::CONNECTION.next(), RequestNumber::new(1));
}

proptest! {
    #[test]
    fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 1..4096)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert!(runtime.block_on(read_all(&[&bytes])).is_err());
    }

    #[test]
    fn a_damaged_stream_never_yields_other_control_bodies(
        length in 1_usize..300,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bytes = runtime.block_on(stream(&vec![3; length], &[5]));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // Data has its own checksums; everything else either decodes to what was sent or is an error.
        if let Ok(found) = runtime.block_on(read_all(&[&bytes])) {
            prop_assert_eq!(found.len(), 4);
        }
    }
}
