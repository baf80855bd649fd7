//! What a simulated disk holds: files as they are read now, and as a power cut would leave them.
//!
//! A file's current content is one map of pages; a second map holds the durable content of those pages alone that
//! were changed since the last sync. A power cut decides for every sector of those pages by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{PAGE_BYTES, Random, SECTOR_BYTES};

const PAGE: u64 = PAGE_BYTES as u64;

type Page = Arc<[u8]>;

/// All files of a disk.
#[derive(Default)]
pub(super) struct Medium {
    nodes: BTreeMap<u64, Node>,
    entries: BTreeMap<String, u64>,
    /// Entries created since the directory was synced, oldest first.
    unsettled: Vec<String>,
    next: u64,
}

/// One file.
#[derive(Default)]
pub(super) struct Node {
    pages: BTreeMap<u64, Page>,
    length: u64,
    /// Pages that count as used, whether written or only allocated.
    allocated: BTreeSet<u64>,
    /// Durable content of the pages changed since the last sync; `None` where there was nothing.
    before: BTreeMap<u64, Option<Page>>,
    durable_length: u64,
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
        self.unsettled.push(name.to_owned());
        self.next
    }

    /// The content lives on for those who have the file open.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.unsettled.retain(|entry| entry != name);
        let removed = self.entries.remove(name);
        if let Some(node) = removed.and_then(|id| self.nodes.get_mut(&id)) {
            node.allocated.clear();
        }
        removed.is_some()
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(id) = self.entries.remove(from) else {
            return false;
        };
        self.unsettled.retain(|entry| entry != from);
        self.remove(to);
        self.entries.insert(to.to_owned(), id);
        true
    }

    pub(super) fn settle_entries(&mut self) {
        self.unsettled.clear();
    }

    pub(super) fn allocated(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| node.allocated.len() as u64 * PAGE)
            .sum()
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
        for name in self.unsettled.split_off(kept) {
            self.entries.remove(&name);
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
                self.before.entry(number).or_insert(Some(old));
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

    fn lose_what_is_not_durable(&mut self, random: &Random) {
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
