//! The uploads under way, as their leader knows them.
//!
//! An upload's number comes from a block that a commit has reserved, and its row is made by its seal or, if it lasts, by
//! [`crate::cluster::background::openings`]: a small file costs no commit of its own to be opened. Until then the
//! upload is known here alone. A leader that dies takes it along; its client opens it again at the next one, under
//! another number, and sends again what it had sent.
//!
//! Invariants: a number is given to one upload; an upload that any table may know is looked for there before it gets
//! a number here; while an upload has no row, its number is in [`OpenUploads::unrecorded_numbers`], so that nothing
//! written for it is taken for dead (P6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::{UploadId, UploadNumber};
use common::time::Moment;
use parking_lot::Mutex;

/// Ended uploads that are remembered one by one.
const ENDED_MAX: usize = 10_000;

/// An upload known to be open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpenUpload {
    pub(crate) number: UploadNumber,
    pub(crate) chunk_bytes: u64,
    /// Whether it has a row.
    pub(crate) recorded: bool,
    /// When it was first heard of here.
    since: Moment,
    /// Heard since the last commit of who was heard.
    touched: bool,
}

impl OpenUpload {
    /// An upload that is heard of at `now`.
    const fn heard(number: UploadNumber, chunk_bytes: u64, recorded: bool, now: Moment) -> Self {
        Self {
            number,
            chunk_bytes,
            recorded,
            since: now,
            touched: true,
        }
    }
}

/// Guards all that is known of uploads together.
pub(crate) struct OpenUploads(Mutex<Known>);

struct Known {
    open: BTreeMap<UploadId, OpenUpload>,
    /// Uploads up to here may have rows of which nothing is known here.
    rows_up_to: UploadId,
    /// Ended in this leadership, above `rows_up_to`.
    ended: BTreeSet<UploadId>,
}

impl OpenUploads {
    /// For a leadership that begins when the tables have rows of uploads up to `rows_up_to`.
    pub(crate) fn new(rows_up_to: UploadId) -> Self {
        Self(Mutex::new(Known {
            open: BTreeMap::new(),
            rows_up_to,
            ended: BTreeSet::new(),
        }))
    }

    /// The upload, if it is known to be open; notes that its client was heard.
    pub(crate) fn find(&self, upload: UploadId) -> Option<OpenUpload> {
        let mut known = self.0.lock();
        let open = known.open.get_mut(&upload)?;
        open.touched = true;
        Some(*open)
    }

    /// Whether the tables may know more of an upload that is not open here.
    pub(crate) fn may_have_row(&self, upload: UploadId) -> bool {
        let known = self.0.lock();
        upload <= known.rows_up_to || known.ended.contains(&upload)
    }

    /// Notes an upload that has a row.
    pub(crate) fn recorded(
        &self,
        upload: UploadId,
        number: UploadNumber,
        chunk_bytes: u64,
        now: Moment,
    ) -> OpenUpload {
        let open = OpenUpload::heard(number, chunk_bytes, true, now);
        self.0.lock().open.insert(upload, open);
        open
    }

    /// Opens an upload under a reserved `number`, unless somebody was faster.
    pub(crate) fn begin(
        &self,
        upload: UploadId,
        number: UploadNumber,
        chunk_bytes: u64,
        now: Moment,
    ) -> OpenUpload {
        let open = OpenUpload::heard(number, chunk_bytes, false, now);
        *self.0.lock().open.entry(upload).or_insert(open)
    }

    /// Notes that an upload has ended.
    pub(crate) fn ended(&self, upload: UploadId) {
        let mut known = self.0.lock();
        known.open.remove(&upload);
        if upload > known.rows_up_to {
            known.ended.insert(upload);
        }
        while known.ended.len() > ENDED_MAX {
            if let Some(lowest) = known.ended.pop_first() {
                known.rows_up_to = lowest;
            }
        }
    }

    /// Notes that rows of uploads up to `upload` were forgotten.
    pub(crate) fn forgotten(&self, upload: UploadId) {
        let mut known = self.0.lock();
        known.rows_up_to = known.rows_up_to.max(upload);
        let rows_up_to = known.rows_up_to;
        known.ended.retain(|ended| *ended > rows_up_to);
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().open.len()
    }

    /// Numbers that were given out and have no row.
    pub(crate) fn unrecorded_numbers(&self) -> BTreeSet<UploadNumber> {
        let known = self.0.lock();
        let unrecorded = known.open.values().filter(|open| !open.recorded);
        unrecorded.map(|open| open.number).collect()
    }

    /// Notes that an upload has a row now, and under which number; nothing if it has ended meanwhile.
    pub(crate) fn confirm(&self, upload: UploadId, number: UploadNumber) {
        if let Some(open) = self.0.lock().open.get_mut(&upload) {
            open.number = number;
            open.recorded = true;
        }
    }

    /// Uploads without a row that have been open for `long` at `now`, at most `limit`.
    pub(crate) fn lasting(&self, now: Moment, long: Duration, limit: usize) -> Vec<(UploadId, OpenUpload)> {
        let known = self.0.lock();
        let lasting = known
            .open
            .iter()
            .filter(|(_, open)| !open.recorded && now.since(open.since) >= long);
        lasting
            .take(limit)
            .map(|(upload, open)| (*upload, *open))
            .collect()
    }

    /// Uploads with a row that were heard since the last call, at most `limit`; the others come with the next call.
    pub(crate) fn take_touched(&self, limit: usize) -> Vec<UploadId> {
        let mut known = self.0.lock();
        let touched = known
            .open
            .iter_mut()
            .filter(|(_, open)| open.touched && open.recorded);
        touched
            .take(limit)
            .map(|(upload, open)| {
                open.touched = false;
                *upload
            })
            .collect()
    }

    /// Whether the upload was heard since the last commit of who was heard.
    pub(crate) fn is_touched(&self, upload: UploadId) -> bool {
        self.0.lock().open.get(&upload).is_some_and(|open| open.touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPLOAD: UploadId = UploadId::new(8);
    const NUMBER: UploadNumber = UploadNumber::new(4);

    fn moment(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_number_without_a_row_is_never_forgotten_while_the_upload_is_open() {
        let uploads = OpenUploads::new(UploadId::new(7));
        let open = uploads.begin(UPLOAD, NUMBER, 64, moment(1));
        assert!(!open.recorded);
        assert_eq!(uploads.begin(UPLOAD, UploadNumber::new(5), 64, moment(2)), open);
        assert_eq!(uploads.unrecorded_numbers(), [NUMBER].into());
        assert!(uploads.take_touched(10).is_empty());
        let second = Duration::from_secs(1);
        assert!(uploads.lasting(moment(1), second, 10).is_empty());
        assert_eq!(uploads.lasting(moment(2), second, 10), [(UPLOAD, open)]);
        uploads.confirm(UPLOAD, NUMBER);
        assert!(uploads.unrecorded_numbers().is_empty());
        assert!(uploads.lasting(moment(9), second, 10).is_empty());
        assert_eq!(uploads.take_touched(10), [UPLOAD]);
        assert!(uploads.take_touched(10).is_empty());
        assert!(uploads.find(UPLOAD).is_some() && uploads.is_touched(UPLOAD));
    }

    #[test]
    fn what_ended_or_was_there_before_is_looked_for_in_the_tables() {
        let uploads = OpenUploads::new(UploadId::new(7));
        assert!(uploads.may_have_row(UploadId::new(7)));
        assert!(!uploads.may_have_row(UPLOAD));
        uploads.begin(UPLOAD, NUMBER, 64, moment(1));
        uploads.ended(UPLOAD);
        uploads.confirm(UPLOAD, NUMBER);
        assert!(uploads.find(UPLOAD).is_none());
        assert!(uploads.may_have_row(UPLOAD));
        for upload in 10..10 + ENDED_MAX as u64 {
            uploads.ended(UploadId::new(upload));
        }
        assert!(uploads.may_have_row(UPLOAD), "forgotten by name, not by number");
        assert!(!uploads.may_have_row(UploadId::new(1 << 40)));
        uploads.forgotten(UploadId::new(1 << 41));
        assert!(uploads.may_have_row(UploadId::new(1 << 40)));
    }
}
