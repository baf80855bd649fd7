//! What periodic work costs where a disk holds a million records. Run by hand: it prints, and asserts nothing.

use common::ids::{UploadNumber, VersionId};
use common::time::Clock;

use super::super::index::{DiskNumber, Entry, Segment, SegmentId, State};
use super::super::record::Layout;
use super::super::schema::Extent;
use super::lab::{Lab, attempt};

const RECORDS: u64 = 1_000_000;

#[tokio::test]
#[ignore = "measures"]
async fn a_million_records() {
    let lab = Lab::simulated(1, 1);
    let (store, _) = lab.open().await;
    let index = &store.0.index;
    index.write(|content| {
        let segment = Segment {
            seed: 1,
            end: 4096,
            sealed: true,
            records: 0,
            bytes: 0,
        };
        content.disk(DiskNumber(0)).segments.insert(SegmentId(9), segment);
        for sequence in 0..RECORDS {
            let entry = Entry {
                disk: DiskNumber(0),
                segment: SegmentId(9),
                extent: Extent { start: 1, count: 1 },
                length: 9,
                layout: Layout::Packed,
                state: State::Stored,
                upload: UploadNumber::new(sequence),
                version: VersionId::new(sequence),
                index: 0,
            };
            content.enter(attempt(sequence), entry).unwrap();
        }
    });
    let clock = Clock::real();
    let timed = |what: &str, work: &mut dyn FnMut() -> usize| {
        let begun = clock.moment();
        let count = work();
        println!("{what}: {:?} for {count}", clock.moment().since(begun));
    };
    timed("suspects by walking the index", &mut || {
        store
            .0
            .list(None, None, 4096, |entry| entry.state == State::Suspect)
            .len()
    });
    timed("suspects", &mut || store.suspects(4096).len());
    timed("the index copied under one hold of its lock", &mut || {
        index.write(|content| {
            let records = content.records.iter().filter(|(_, entry)| entry.disk.0 == 0);
            records
                .map(|(attempt, entry)| (*attempt, *entry))
                .collect::<Vec<_>>()
                .len()
        })
    });
    timed("one slice of 4096", &mut || {
        index.read(|content| {
            let records = content.records.range(attempt(500_000)..).take(4096);
            records
                .map(|(attempt, entry)| (*attempt, *entry))
                .collect::<Vec<_>>()
                .len()
        })
    });
}
