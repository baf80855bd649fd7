//! What a simulated disk holds: files as they are read now, and as a power cut would leave them.
//!
//! A file's current content is one map of pages; a second map holds the durable content of those pages alone that
//! were changed since the last sync. A power cut decides for every sector of those pages by itself. A failed sync moves
//! what it did not make durable to a third map: it is read from the cache as before, and no later sync saves it, unless
//! it is written again. Entries likewise: creations, removals and renames are undone, the newest first, until the
//! directory is synced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{PAGE_BYTES, Random, SECTOR_BYTES};

const PAGE: u64 = PAGE_BYTES as u64;

type Page = Arc<[u8]>;

/// All files of a disk.
#[derive(Clone, Default)]
pub(super) struct Medium {
    nodes: BTreeMap<u64, Node>,
    entries: BTreeMap<String, u64>,
    /// Changes of entries since the directory was synced, oldest first.
    unsettled: Vec<Change>,
    next: u64,
}

/// What a power cut may undo.
#[derive(Clone)]
struct Change {
    kind: ChangeKind,
    /// A sync of the directory failed since: none that succeeds later covers it.
    lost: bool,
}

#[derive(Clone)]
enum ChangeKind {
    Created {
        name: String,
        id: u64,
    },
    Removed {
        name: String,
        id: u64,
    },
    Renamed {
        from: String,
        to: String,
        id: u64,
        replaced: Option<u64>,
    },
}

/// One file.
#[derive(Clone, Default)]
pub(super) struct Node {
    pages: BTreeMap<u64, Page>,
    length: u64,
    /// Pages that count as used, whether written or only allocated.
    allocated: BTreeSet<u64>,
    /// Durable content of the pages changed since the last sync; `None` where there was nothing.
    before: BTreeMap<u64, Option<Page>>,
    /// The same for pages that a failed sync gave up.
    lost: BTreeMap<u64, Option<Page>>,
    durable_length: u64,
    /// Without an entry: it uses no space.
    unlinked: bool,
}

impl Medium {
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    pub(super) fn id(&self, name: &str) -> Option<u64> {
        self.entries.get(name).copied()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.get(self.entries.get(name)?)
    }

    pub(super) fn node_mut(&mut self, id: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    pub(super) fn create(&mut self, name: &str) -> u64 {
        self.next += 1;
        self.nodes.insert(self.next, Node::default());
        self.entries.insert(name.to_owned(), self.next);
        self.changed(ChangeKind::Created {
            name: name.to_owned(),
            id: self.next,
        });
        self.next
    }

    /// The content lives on for those who have the file open.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(id) = self.entries.remove(name) else {
            return false;
        };
        self.unlink(id, true);
        let name = name.to_owned();
        self.changed(ChangeKind::Removed { name, id });
        true
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(id) = self.entries.remove(from) else {
            return false;
        };
        let replaced = self.entries.insert(to.to_owned(), id);
        if let Some(replaced) = replaced {
            self.unlink(replaced, true);
        }
        self.changed(ChangeKind::Renamed {
            from: from.to_owned(),
            to: to.to_owned(),
            id,
            replaced,
        });
        true
    }

    fn changed(&mut self, kind: ChangeKind) {
        self.unsettled.push(Change { kind, lost: false });
    }

    fn unlink(&mut self, id: u64, unlinked: bool) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.unlinked = unlinked;
        }
    }

    pub(super) fn settle_entries(&mut self) {
        self.unsettled.retain(|change| change.lost);
    }

    /// A sync of the directory failed.
    pub(super) fn lose_entries(&mut self) {
        self.unsettled.iter_mut().for_each(|change| change.lost = true);
    }

    fn undo(&mut self, change: ChangeKind) {
        match change {
            ChangeKind::Created { name, id } => {
                if self.entries.get(&name) == Some(&id) {
                    self.entries.remove(&name);
                }
            }
            ChangeKind::Removed { name, id } => {
                self.entries.entry(name).or_insert(id);
                self.unlink(id, false);
            }
            ChangeKind::Renamed {
                from,
                to,
                id,
                replaced,
            } => {
                if self.entries.get(&to) == Some(&id) {
                    self.entries.remove(&to);
                    self.entries.insert(from, id);
                }
                if let Some(replaced) = replaced {
                    self.entries.entry(to).or_insert(replaced);
                    self.unlink(replaced, false);
                }
            }
        }
    }

    pub(super) fn allocated(&self) -> u64 {
        let linked = self.nodes.values().filter(|node| !node.unlinked);
        linked.map(|node| node.allocated.len() as u64 * PAGE).sum()
    }

    pub(super) fn flip(&mut self, name: &str, offset: u64, mask: u8) -> bool {
        let Some(node) = self.entries.get(name).and_then(|id| self.nodes.get_mut(id)) else {
            return false;
        };
        let Some(page) = node.pages.get_mut(&(offset / PAGE)) else {
            return false;
        };
        let mut changed = page.to_vec();
        let Some(byte) = changed.get_mut((offset % PAGE) as usize) else {
            return false;
        };
        *byte ^= mask;
        *page = changed.into();
        true
    }

    pub(super) fn lose_what_is_not_durable(&mut self, random: &Random) {
        let kept = random.below(self.unsettled.len() as u64 + 1) as usize;
        for change in self.unsettled.split_off(kept).into_iter().rev() {
            self.undo(change.kind);
        }
        self.unsettled.clear();
        let named: BTreeSet<u64> = self.entries.values().copied().collect();
        self.nodes.retain(|id, _| named.contains(id));
        for node in self.nodes.values_mut() {
            node.lose_what_is_not_durable(random);
        }
    }
}

impl Node {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Fills `out` from `offset`; how many bytes there were.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let count = self.length.saturating_sub(offset).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let step = (PAGE_BYTES - within).min(count - done);
            if let Some(target) = out.get_mut(done..done + step) {
                match self
                    .pages
                    .get(&(at / PAGE))
                    .and_then(|page| page.get(within..within + step))
                {
                    Some(source) => target.copy_from_slice(source),
                    None => target.fill(0),
                }
            }
            done += step;
        }
        count
    }

    /// Like [`Node::read`], but around the cache: what a failed sync gave up is not there.
    pub(super) fn read_medium(&self, offset: u64, out: &mut [u8]) -> usize {
        let count = self.read(offset, out);
        for (number, before) in &self.lost {
            let zeros = [0; PAGE_BYTES];
            let old = before.as_deref().unwrap_or(&zeros);
            for (at, byte) in (number * PAGE..).zip(old) {
                if let Some(target) = at.checked_sub(offset).and_then(|at| out.get_mut(at as usize)) {
                    *target = *byte;
                }
            }
        }
        count
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let number = at / PAGE;
            let within = (at % PAGE) as usize;
            let step = (PAGE_BYTES - within).min(rest.len());
            let old = self.pages.get(&number).cloned();
            let mut page = old
                .as_ref()
                .map_or_else(|| vec![0; PAGE_BYTES], |page| page.to_vec());
            for (target, source) in page.iter_mut().skip(within).zip(rest.iter().take(step)) {
                *target = *source;
            }
            let old = self.lost.remove(&number).unwrap_or(old);
            self.before.entry(number).or_insert(old);
            self.pages.insert(number, page.into());
            self.allocated.insert(number);
            done += step;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    /// Bytes that would newly count as used if this range were written.
    pub(super) fn missing(&self, offset: u64, length: u64) -> u64 {
        pages_touched(offset, length)
            .filter(|number| !self.allocated.contains(number))
            .count() as u64
            * PAGE
    }

    pub(super) fn allocate(&mut self, offset: u64, length: u64) {
        self.allocated.extend(pages_touched(offset, length));
    }

    /// Whole pages only, as a file system would.
    pub(super) fn punch(&mut self, offset: u64, length: u64) {
        for number in offset.div_ceil(PAGE)..(offset + length) / PAGE {
            self.allocated.remove(&number);
            if let Some(old) = self.pages.remove(&number) {
                let old = self.lost.remove(&number).unwrap_or(Some(old));
                self.before.entry(number).or_insert(old);
            }
        }
    }

    /// Like a hole up to the end, and the file is shorter.
    pub(super) fn cut(&mut self, length: u64) {
        let end = self
            .allocated
            .last()
            .map_or(0, |last| (last + 1) * PAGE)
            .max(self.length);
        let from = length.next_multiple_of(PAGE);
        self.punch(from, end.saturating_sub(from));
        self.length = self.length.min(length);
    }

    pub(super) fn settle(&mut self) {
        self.before.clear();
        self.durable_length = self.length;
    }

    /// A sync failed: what it was to make durable is clean in the cache, and not on the medium.
    pub(super) fn lose(&mut self) {
        self.lost.append(&mut self.before);
    }

    fn lose_what_is_not_durable(&mut self, random: &Random) {
        self.before.append(&mut self.lost);
        for (number, before) in std::mem::take(&mut self.before) {
            let after = self.pages.get(&number).cloned();
            let mixed = mix_sectors(before.as_deref(), after.as_deref(), random);
            self.allocated.insert(number);
            self.pages.insert(number, mixed.into());
        }
        if random.below(2) == 0 {
            self.length = self.durable_length;
        }
        self.durable_length = self.length;
        let length = self.length;
        self.pages.retain(|number, _| number * PAGE < length);
    }
}

/// Of each sector the old or the new.
fn mix_sectors(before: Option<&[u8]>, after: Option<&[u8]>, random: &Random) -> Vec<u8> {
    let zeros = [0; PAGE_BYTES];
    let before = before.unwrap_or(&zeros);
    let after = after.unwrap_or(&zeros);
    // Often all or nothing, as real disks do; otherwise sector by sector.
    let whole = random.below(4);
    let sectors = before.chunks(SECTOR_BYTES).zip(after.chunks(SECTOR_BYTES));
    sectors
        .flat_map(|(old, new)| {
            let keep_old = match whole {
                0 => true,
                1 => false,
                _ => random.below(2) == 0,
            };
            if keep_old { old } else { new }
        })
        .copied()
        .collect()
}

fn pages_touched(offset: u64, length: u64) -> std::ops::Range<u64> {
    offset / PAGE..(offset + length).div_ceil(PAGE)
}
