//! Disks that cannot be used as they should: probed and recovered again until they can.
//!
//! A disk is *held* while something on it could not be read or made durable at a start ([`super::recovery`]). It is read
//! as far as it is understood, and nothing on it is changed. The cause often passes (descriptors, memory, access
//! rights, a network file system): so its recovery is repeated as a whole, and what it finds then takes the place of
//! what was known.
//!
//! Invariant: no repetition after a failed fsync. The pages it was about may be clean in the kernel's cache and absent
//! from the medium; only a new process reads the medium.

use common::disk::health::Standing;

use super::index::Content;
use super::open::merge;
use super::recovery::{Loaded, load};
use super::{DiskHandle, DiskNumber, Inner};

impl Inner {
    /// Tries what is due of every disk.
    pub(super) async fn look_after_disks(&self) {
        for handle in &self.disks {
            let disk = &handle.disk;
            let standing = disk.disk.standing();
            let is_held = self.is_held(handle);
            let is_stopped = matches!(standing, Standing::Stopped(_));
            let is_due = (is_held || is_stopped) && disk.is_due(self.clock.moment());
            let works = match standing {
                Standing::Working => true,
                Standing::Strained(_) => disk.disk.probe().await.is_ok(),
                Standing::Stopped(_) => is_due && disk.disk.probe().await.is_ok(),
                Standing::Poisoned(_) => false,
            };
            if works && is_held && is_due {
                self.recover(handle).await;
            }
            disk.measure().await;
        }
    }

    fn is_held(&self, handle: &DiskHandle) -> bool {
        let number = handle.disk.number;
        let held = |content: &Content| content.disks.get(&number).map(|own| own.held.is_some());
        self.index.read(held).unwrap_or_default()
    }

    async fn recover(&self, handle: &DiskHandle) {
        let disk = &handle.disk;
        let path = disk.disk.describe();
        let mut loaded = match load(&disk.disk, disk.owner, disk.number, false).await {
            Ok(loaded) => loaded,
            Err(error) => return disk.log_failure("recover the disk", &error),
        };
        let used = loaded.content.bytes_of(&loaded.records) + loaded.other_bytes;
        self.index
            .write(|content| readmit(content, disk.number, &mut loaded));
        disk.raise_next_journal(loaded.next_journal);
        disk.space.set_used(used);
        *handle.kept.lock() = loaded.kept.clone();
        self.lost.lock().extend(loaded.report.lost.iter().copied());
        if self.is_held(handle) {
            return;
        }
        let report = &loaded.report;
        tracing::info!(
            disk = path,
            records = report.records,
            torn = report.torn,
            suspects = report.suspects,
            lost = report.lost.len(),
            "the disk is recovered at last"
        );
        for problem in &report.problems {
            tracing::warn!(disk = path, "{problem}");
        }
        let epoch = self
            .index
            .read(|content| content.disks.get(&disk.number).map(|own| own.epoch));
        {
            let mut highest = self.epoch.lock();
            *highest = (*highest).max(epoch.unwrap_or_default());
        }
        super::reclaim::punch_dropped(disk).await;
        if let Err(error) = super::checkpoint::make(handle).await {
            tracing::warn!(disk = path, %error, "cannot write a checkpoint yet");
        }
    }
}

/// What was known of a disk gives way to what was found now.
fn readmit(content: &mut Content, number: DiskNumber, loaded: &mut Loaded) {
    let Content {
        records, suspects, ..
    } = content;
    records.retain(|attempt, entry| {
        let stays = entry.disk != number;
        if !stays {
            suspects.remove(attempt);
        }
        stays
    });
    merge(content, vec![(number, loaded)]);
}
