//! The simulated driver: a disk in memory that keeps what is durable apart from what is only written, and loses,
//! tears, misdirects, delays and damages on demand. One seed, one run.
//!
//! The owner keeps a [`SimulatedDisk`] and hands out [`SimulatedDisk::disk`]. Every operation that changes the disk
//! counts as one step, and every operation at all as one call; [`Faults`] names steps and calls at which something goes
//! wrong. After a power cut every operation fails until [`SimulatedDisk::restart`]; [`SimulatedDisk::end_process`] is the
//! gentler end, which keeps what was written.
//!
//! Invariant: what a completed sync covered is never lost by a power cut; what no sync covered may be lost or kept,
//! sector by sector; changes of entries may be undone until the directory is synced, the newest first. What a failed
//! sync did not make durable is read from the cache, is not on the medium, and no later sync saves it.

mod medium;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::buffer::AlignedBuf;
use super::{Disk, Driver, DriverFile, OpenMode, PAGE_BYTES, Pending, SECTOR_BYTES, Space};
use crate::random::Random;
use crate::time::Clock;
use crate::units::ByteCount;
use medium::{Medium, Node};

/// What goes wrong, by step. Steps count from 1 over the life of the disk: creations, removals, renames, writes,
/// syncs (of files and of the directory), allocations, punches and cuts.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The power is cut in the middle of this step.
    pub power_cut_at: Option<u64>,
    /// These steps fail with an I/O error and change nothing durable.
    pub errors_at: Vec<u64>,
    /// These steps, if writes or allocations, fail for want of space.
    pub full_at: Vec<u64>,
    /// These steps, if writes, land so many bytes further on (a multiple of [`SECTOR_BYTES`]).
    pub misdirected_at: Vec<(u64, u64)>,
    /// These steps, if syncs, answer without making anything durable: hardware that lies.
    pub lying_syncs_at: Vec<u64>,
    /// These calls, of whatever kind, fail with the error number and change nothing durable.
    pub calls_failing: Vec<(Range<u64>, i32)>,
    /// Nothing can be opened or listed: the process has no descriptor left.
    pub no_descriptors: bool,
    /// Pages that the medium does not give: the file's name and the page's offset.
    pub unreadable: Vec<(String, u64)>,
    /// Every operation answers only after a random part of this; it has taken effect before.
    pub delay_max: Duration,
}

/// What the disk was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Call {
    /// To open a file for reading.
    Open,
    /// To make a file.
    Create,
    /// To open a file for changes.
    Update,
    /// To list the files.
    List,
    /// To remove a file.
    Remove,
    /// To rename a file.
    Rename,
    /// To sync the directory.
    SyncDirectory,
    /// To say how much space there is.
    Space,
    /// To read.
    Read,
    /// To write.
    Write,
    /// To sync a file.
    Sync,
    /// To reserve space.
    Allocate,
    /// To punch a hole.
    Punch,
    /// To cut a file.
    Cut,
    /// To say how long a file is.
    Length,
}

impl Call {
    const fn needs_descriptor(self) -> bool {
        matches!(self, Call::Open | Call::Create | Call::Update | Call::List)
    }
}

/// A disk in memory; clones share it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Shared>);

struct Shared {
    name: String,
    clock: Clock,
    random: Random,
    state: Mutex<State>,
}

struct State {
    medium: Medium,
    capacity: u64,
    faults: Faults,
    steps: u64,
    /// All of them, in order.
    calls: Vec<Call>,
    /// Handles of an earlier life answer errors.
    life: u64,
    powered: bool,
}

impl SimulatedDisk {
    /// An empty disk of `capacity`.
    pub fn new(name: &str, capacity: ByteCount, clock: Clock, random: Random) -> Self {
        Self(Arc::new(Shared {
            name: name.to_owned(),
            clock,
            random,
            state: Mutex::new(State {
                medium: Medium::default(),
                capacity: capacity.get(),
                faults: Faults::default(),
                steps: 0,
                calls: Vec::new(),
                life: 0,
                powered: true,
            }),
        }))
    }

    /// Another disk with the same content, durable and not; no faults, no calls, no process.
    pub fn fork(&self, random: Random) -> Self {
        let state = self.0.state.lock();
        Self(Arc::new(Shared {
            name: self.0.name.clone(),
            clock: self.0.clock.clone(),
            random,
            state: Mutex::new(State {
                medium: state.medium.clone(),
                capacity: state.capacity,
                faults: Faults::default(),
                steps: 0,
                calls: Vec::new(),
                life: 0,
                powered: true,
            }),
        }))
    }

    /// A handle for the process that uses the disk now.
    pub fn disk(&self) -> Disk {
        let life = self.0.state.lock().life;
        Disk::new(Arc::new(SimulatedDriver {
            shared: Arc::clone(&self.0),
            life,
        }))
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.state.lock().faults = faults;
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.0.state.lock().steps
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.state.lock().calls.len() as u64
    }

    /// What was asked for with and behind the call `first`, which counts from 1.
    pub fn calls_from(&self, first: u64) -> Vec<Call> {
        let skip = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
        self.0.state.lock().calls.iter().skip(skip).copied().collect()
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.0.state.lock().cut_power(&self.0.random);
    }

    /// Whether the power was cut.
    pub fn is_without_power(&self) -> bool {
        !self.0.state.lock().powered
    }

    /// The process that used the disk is gone, its handles fail; what it wrote stays, synced or not.
    pub fn end_process(&self) {
        self.0.state.lock().life += 1;
    }

    /// The power comes back: no faults, only durable content.
    pub fn restart(&self) {
        let mut state = self.0.state.lock();
        if state.powered {
            state.cut_power(&self.0.random);
        }
        state.powered = true;
        state.life += 1;
        state.faults = Faults::default();
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.state.lock().medium.names()
    }

    /// The content of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.state.lock();
        let node = state.medium.find(name)?;
        let mut out = vec![0; usize::try_from(node.length()).ok()?];
        node.read(0, &mut out);
        Some(out)
    }

    /// Damages a file durably: the bits of `mask` at `offset` are flipped. False if there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> bool {
        self.0.state.lock().medium.flip(name, offset, mask)
    }

    /// Removes a file durably, as an accident would.
    pub fn lose(&self, name: &str) -> bool {
        let mut state = self.0.state.lock();
        let found = state.medium.remove(name);
        state.medium.settle_entries();
        found
    }

    /// Adds a file durably.
    pub fn plant(&self, name: &str, content: &[u8]) {
        let mut state = self.0.state.lock();
        state.medium.remove(name);
        let id = state.medium.create(name);
        if let Some(node) = state.medium.node_mut(id) {
            node.write(0, content);
            node.settle();
        }
        state.medium.settle_entries();
    }
}

impl State {
    fn cut_power(&mut self, random: &Random) {
        self.powered = false;
        self.medium.lose_what_is_not_durable(random);
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.powered && self.life == life {
            Ok(())
        } else {
            Err(io::Error::other("the power is off"))
        }
    }

    /// Counts a call; an error if it is to fail.
    fn call(&mut self, call: Call) -> io::Result<()> {
        self.calls.push(call);
        let number = self.calls.len() as u64;
        let faults = &self.faults;
        let named = faults
            .calls_failing
            .iter()
            .find(|(calls, _)| calls.contains(&number));
        match named {
            Some((_, code)) => Err(io::Error::from_raw_os_error(*code)),
            None if faults.no_descriptors && call.needs_descriptor() => {
                Err(io::Error::from_raw_os_error(libc::EMFILE))
            }
            None => Ok(()),
        }
    }

    /// Counts a step; what is to happen to it.
    fn step(&mut self) -> Step {
        self.steps += 1;
        let step = self.steps;
        let faults = &self.faults;
        Step {
            cut: faults.power_cut_at == Some(step),
            error: faults.errors_at.contains(&step),
            full: faults.full_at.contains(&step),
            lying: faults.lying_syncs_at.contains(&step),
            misdirection: faults
                .misdirected_at
                .iter()
                .find(|(at, _)| *at == step)
                .map_or(0, |(_, by)| *by),
        }
    }
}

struct Step {
    cut: bool,
    error: bool,
    full: bool,
    lying: bool,
    misdirection: u64,
}

impl Shared {
    /// Runs one operation now; its answer may be delayed.
    fn answer<T: Send + 'static>(
        self: &Arc<Self>,
        life: u64,
        call: Call,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> Pending<io::Result<T>> {
        let (outcome, delay_max) = {
            let mut state = self.state.lock();
            let outcome = state.alive(life).and_then(|()| state.call(call));
            let outcome = outcome.and_then(|()| work(&mut state));
            (outcome, state.faults.delay_max)
        };
        self.delayed(outcome, delay_max)
    }

    fn delayed<T: Send + 'static>(
        self: &Arc<Self>,
        outcome: io::Result<T>,
        delay_max: Duration,
    ) -> Pending<io::Result<T>> {
        let this = Arc::clone(self);
        Box::pin(async move {
            if !delay_max.is_zero() {
                this.clock.sleep(delay_max.mul_f64(this.random.unit())).await;
            }
            outcome
        })
    }

    /// Runs one changing operation: `work` takes effect unless the step is to fail, and `failed` if it is; a power cut
    /// comes before it or after it, at random.
    fn change<T: Send + 'static>(
        self: &Arc<Self>,
        life: u64,
        call: Call,
        work: impl FnOnce(&mut State, &Step) -> io::Result<T>,
        failed: impl FnOnce(&mut State),
    ) -> Pending<io::Result<T>> {
        let mut state = self.state.lock();
        let outcome = state.alive(life).and_then(|()| {
            let called = state.call(call);
            let step = state.step();
            let called = match called {
                Ok(()) if step.error => Err(io::Error::from_raw_os_error(libc::EIO)),
                called => called,
            };
            if let Err(error) = called {
                failed(&mut state);
                return Err(error);
            }
            if !step.cut {
                return work(&mut state, &step);
            }
            if self.random.below(2) == 0 {
                // Whether it took effect or not, nobody is told.
                let _ = work(&mut state, &step);
            }
            state.cut_power(&self.random);
            Err(io::Error::other("the power was cut"))
        });
        let delay_max = state.faults.delay_max;
        drop(state);
        self.delayed(outcome, delay_max)
    }
}

struct SimulatedDriver {
    shared: Arc<Shared>,
    life: u64,
}

impl Driver for SimulatedDriver {
    fn describe(&self) -> String {
        self.shared.name.clone()
    }

    fn open(&self, name: &str, mode: OpenMode) -> Pending<io::Result<Arc<dyn DriverFile>>> {
        let medium = mode == OpenMode::ReadDirect;
        let file = |id| {
            Arc::new(SimulatedFile {
                shared: Arc::clone(&self.shared),
                life: self.life,
                id,
                medium,
            }) as Arc<dyn DriverFile>
        };
        let existing = |call| {
            self.shared.answer(self.life, call, |state| {
                let id = state.medium.id(name).ok_or(io::ErrorKind::NotFound)?;
                Ok(file(id))
            })
        };
        match mode {
            OpenMode::Create => self.shared.change(
                self.life,
                Call::Create,
                |state, _| {
                    if state.medium.find(name).is_some() {
                        return Err(io::ErrorKind::AlreadyExists.into());
                    }
                    Ok(file(state.medium.create(name)))
                },
                |_| {},
            ),
            OpenMode::Read | OpenMode::ReadDirect => existing(Call::Open),
            OpenMode::Update => existing(Call::Update),
        }
    }

    fn list(&self) -> Pending<io::Result<Vec<String>>> {
        self.shared
            .answer(self.life, Call::List, |state| Ok(state.medium.names()))
    }

    fn remove(&self, name: &str) -> Pending<io::Result<()>> {
        let remove = |state: &mut State, _: &Step| match state.medium.remove(name) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        self.shared.change(self.life, Call::Remove, remove, |_| {})
    }

    fn rename(&self, from: &str, to: &str) -> Pending<io::Result<()>> {
        let rename = |state: &mut State, _: &Step| match state.medium.rename(from, to) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        self.shared.change(self.life, Call::Rename, rename, |_| {})
    }

    fn sync_directory(&self) -> Pending<io::Result<()>> {
        let settle = |state: &mut State, step: &Step| {
            if !step.lying {
                state.medium.settle_entries();
            }
            Ok(())
        };
        let lose = |state: &mut State| state.medium.lose_entries();
        self.shared.change(self.life, Call::SyncDirectory, settle, lose)
    }

    fn space(&self) -> Pending<io::Result<Space>> {
        self.shared.answer(self.life, Call::Space, |state| {
            Ok(Space {
                total: ByteCount::new(state.capacity),
                available: ByteCount::new(state.capacity.saturating_sub(state.medium.allocated())),
            })
        })
    }

    fn close(&self) {}
}

struct SimulatedFile {
    shared: Arc<Shared>,
    life: u64,
    id: u64,
    /// Reads go around the cache.
    medium: bool,
}

impl SimulatedFile {
    fn with_node<T>(state: &mut State, id: u64, work: impl FnOnce(&mut Node) -> T) -> io::Result<T> {
        state
            .medium
            .node_mut(id)
            .map(work)
            .ok_or_else(|| io::Error::other("the file was lost with the power"))
    }
}

impl DriverFile for SimulatedFile {
    fn read(&self, offset: u64, length: usize, mut buffer: AlignedBuf) -> Pending<io::Result<AlignedBuf>> {
        self.shared.answer(self.life, Call::Read, |state| {
            let room = buffer
                .spare_mut()
                .get_mut(..length)
                .ok_or(io::ErrorKind::InvalidInput)?;
            let range = offset..offset + length as u64;
            let bad = |(name, at): &(String, u64)| {
                state.medium.id(name) == Some(self.id)
                    && *at < range.end
                    && range.start < at + PAGE_BYTES as u64
            };
            if state.faults.unreadable.iter().any(bad) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let count = Self::with_node(state, self.id, |node| match self.medium {
                true => node.read_medium(offset, room),
                false => node.read(offset, room),
            })?;
            buffer.advance(count);
            Ok(buffer)
        })
    }

    fn write(&self, offset: u64, parts: Vec<Bytes>) -> Pending<io::Result<()>> {
        let aligned = |number: u64| number.is_multiple_of(PAGE_BYTES as u64);
        if !aligned(offset) || parts.iter().any(|part| !aligned(part.len() as u64)) {
            return Box::pin(async { Err(io::ErrorKind::InvalidInput.into()) });
        }
        let write = |state: &mut State, step: &Step| {
            if step.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let capacity = state.capacity;
            let mut at = offset + step.misdirection;
            for part in &parts {
                let missing = Self::with_node(state, self.id, |node| node.missing(at, part.len() as u64))?;
                if state.medium.allocated() + missing > capacity {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Self::with_node(state, self.id, |node| node.write(at, part))?;
                at += part.len() as u64;
            }
            Ok(())
        };
        self.shared.change(self.life, Call::Write, write, |_| {})
    }

    fn sync(&self) -> Pending<io::Result<()>> {
        let settle = |state: &mut State, step: &Step| {
            if step.lying {
                return Ok(());
            }
            Self::with_node(state, self.id, Node::settle)
        };
        let lose = |state: &mut State| {
            // A file that is gone has nothing to lose.
            let _ = Self::with_node(state, self.id, Node::lose);
        };
        self.shared.change(self.life, Call::Sync, settle, lose)
    }

    fn allocate(&self, offset: u64, length: u64) -> Pending<io::Result<()>> {
        let allocate = |state: &mut State, step: &Step| {
            let missing = Self::with_node(state, self.id, |node| node.missing(offset, length))?;
            if step.full || state.medium.allocated() + missing > state.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Self::with_node(state, self.id, |node| node.allocate(offset, length))
        };
        self.shared.change(self.life, Call::Allocate, allocate, |_| {})
    }

    fn punch(&self, offset: u64, length: u64) -> Pending<io::Result<()>> {
        let punch =
            |state: &mut State, _: &Step| Self::with_node(state, self.id, |node| node.punch(offset, length));
        self.shared.change(self.life, Call::Punch, punch, |_| {})
    }

    fn cut(&self, length: u64) -> Pending<io::Result<()>> {
        let cut = |state: &mut State, _: &Step| Self::with_node(state, self.id, |node| node.cut(length));
        self.shared.change(self.life, Call::Cut, cut, |_| {})
    }

    fn length(&self) -> Pending<io::Result<u64>> {
        self.shared.answer(self.life, Call::Length, |state| {
            Self::with_node(state, self.id, |node| node.length())
        })
    }
}

#[cfg(test)]
mod tests;
