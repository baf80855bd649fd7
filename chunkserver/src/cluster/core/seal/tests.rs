//! Every way in which receipts can be wrong.

use common::ids::{AttemptId, Epoch, KeyId};
use proto::bulk::grant::DataPlaneKey;
use proto::bulk::receipt::Statement;

use super::*;

const CHUNK: u64 = 4096;

struct Case {
    keys: DataPlaneKeys,
    disks: BTreeMap<(NodeId, DiskId), bool>,
    receipts: Vec<Receipt>,
    size: u64,
    digest: Digest,
    size_max: Option<u64>,
    copies_min: usize,
}

fn disk(node: u64) -> DiskId {
    DiskId::new([node as u8; 16])
}

fn key(id: u64) -> DataPlaneKey {
    DataPlaneKey::new(KeyId::new(id), &[id as u8; 32])
}

fn receipt(index: u32, content: &[u8], nodes: &[u64]) -> Receipt {
    let mut hasher = digest::ChunkHasher::new(u64::from(index) * CHUNK);
    hasher.update(content);
    let statement = Statement {
        upload: UploadNumber::new(5),
        version: VersionId::new(6),
        index,
        attempt: AttemptId::new(Epoch::new(1), u64::from(index)),
        length: content.len() as u64,
        digest: hasher.finish(),
    };
    signed(statement, nodes)
}

fn signed(statement: Statement, nodes: &[u64]) -> Receipt {
    let copies = nodes
        .iter()
        .map(|node| Copy::sign(&statement, NodeId::new(*node), disk(*node), &key(1)))
        .collect();
    Receipt { statement, copies }
}

impl Case {
    /// A file of `size` bytes whose chunks are on nodes 1 and 2.
    fn new(size: usize) -> Self {
        let file: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let receipts = (0..)
            .zip(file.chunks(CHUNK as usize))
            .map(|(index, content)| receipt(index, content, &[1, 2]))
            .collect();
        Self {
            keys: DataPlaneKeys::new(vec![key(2), key(1)]),
            disks: (1..=3)
                .map(|node| ((NodeId::new(node), disk(node)), true))
                .collect(),
            receipts,
            size: size as u64,
            digest: Digest::new(*blake3::hash(&file).as_bytes()),
            size_max: None,
            copies_min: 2,
        }
    }

    fn judge(&self) -> Result<Verdict, Refusal> {
        let terms = Terms {
            number: UploadNumber::new(5),
            version: VersionId::new(6),
            chunk_bytes: CHUNK,
            size_max: self.size_max,
            copies_min: self.copies_min,
            keys: &self.keys,
            disks: &self.disks,
        };
        let claim = Claim {
            receipts: &self.receipts,
            size: self.size,
            digest: self.digest,
        };
        judge(&terms, &claim)
    }

    fn need(&self) -> Vec<u32> {
        match self.judge() {
            Ok(Verdict::NeedChunks(need)) => need,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whole_files_pass() {
    for size in [0, 1, 4096, 4097, 3 * 4096, 5 * 4096 + 17] {
        let case = Case::new(size);
        let Ok(Verdict::Sealable(copies)) = case.judge() else {
            panic!("{size} bytes: {:?}", case.judge());
        };
        assert_eq!(copies.len(), size.div_ceil(4096));
        assert!(copies.iter().all(|chunk| chunk.len() == 2));
    }
}

#[test]
fn holes_and_wrong_lengths_do_not() {
    let mut case = Case::new(3 * 4096);
    case.receipts.remove(1);
    assert_eq!(case.judge(), Err(Refusal::OutOfOrder { at: 1, index: 2 }));

    let mut case = Case::new(3 * 4096);
    case.receipts[1].statement.length = 7;
    assert!(matches!(case.judge(), Err(Refusal::Length { index: 1, .. })));

    let mut case = Case::new(4096);
    case.receipts[0].statement.length = 0;
    assert!(matches!(case.judge(), Err(Refusal::Length { index: 0, .. })));

    let mut case = Case::new(3 * 4096);
    case.receipts.pop();
    assert!(matches!(case.judge(), Err(Refusal::Size { .. })));
}

#[test]
fn receipts_of_other_numbers_and_uploads_and_forged_ones_do_not() {
    let mut case = Case::new(2 * 4096);
    let statement = Statement {
        upload: UploadNumber::new(4),
        ..case.receipts[1].statement
    };
    case.receipts[1] = signed(statement, &[1, 2]);
    assert_eq!(case.judge(), Ok(Verdict::NeedChunks(vec![1])));

    let mut case = Case::new(2 * 4096);
    let statement = Statement {
        version: VersionId::new(9),
        ..case.receipts[0].statement
    };
    case.receipts[0] = signed(statement, &[1, 2]);
    assert_eq!(case.judge(), Err(Refusal::Foreign { index: 0 }));

    let mut case = Case::new(2 * 4096);
    case.receipts[0].statement.attempt = AttemptId::new(Epoch::new(1), 77);
    assert_eq!(case.judge(), Err(Refusal::Forged { index: 0 }));

    let mut case = Case::new(2 * 4096);
    case.receipts[0].copies[1].node = NodeId::new(3);
    case.receipts[0].copies[1].disk = disk(3);
    assert_eq!(case.judge(), Err(Refusal::Forged { index: 0 }));
}

#[test]
fn digest_and_reservation_are_kept() {
    let mut case = Case::new(2 * 4096);
    case.digest = Digest::new([0; 32]);
    assert_eq!(case.judge(), Err(Refusal::Digest));
    let mut case = Case::new(0);
    case.digest = Digest::new([0; 32]);
    assert_eq!(case.judge(), Err(Refusal::Digest));
    let mut case = Case::new(5000);
    case.size_max = Some(4999);
    assert!(matches!(case.judge(), Err(Refusal::OverReservation { .. })));
    case.size_max = Some(5000);
    assert!(case.judge().is_ok());
    // A full quota leaves nothing, which is not the same as no limit.
    case.size_max = Some(0);
    assert!(matches!(case.judge(), Err(Refusal::OverReservation { .. })));
    let mut empty = Case::new(0);
    empty.size_max = Some(0);
    assert!(empty.judge().is_ok());
}

#[test]
fn chunks_that_lost_a_copy_are_asked_for_again() {
    let mut case = Case::new(3 * 4096);
    // Node 2 is suspect: its copies are recorded but do not count.
    case.disks.insert((NodeId::new(2), disk(2)), false);
    let last = case.receipts[2].statement;
    case.receipts[2] = signed(last, &[1, 3]);
    assert_eq!(case.need(), [0, 1]);
    case.copies_min = 1;
    assert!(matches!(case.judge(), Ok(Verdict::Sealable(_))));

    // Node 2 came back with an empty disk.
    let mut case = Case::new(4096);
    case.disks.remove(&(NodeId::new(2), disk(2)));
    assert_eq!(case.need(), [0]);

    // One node twice is one copy.
    let mut case = Case::new(4096);
    case.receipts[0] = receipt(0, &[7; 4096], &[1, 1]);
    assert_eq!(case.need(), [0]);

    // A key that is known no more vouches for nothing.
    let mut case = Case::new(4096);
    case.keys = DataPlaneKeys::new(vec![key(2)]);
    assert_eq!(case.need(), [0]);
}
