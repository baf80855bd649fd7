//! Who is next: room that is shared between principals in turns.
//!
//! Invariants (P10): a waiter keeps its place until it is served or gives up. Principals take turns, whatever each of them
//! asks for; within one principal the first is served first. One principal never holds more than its share, so that there
//! is room for others at once, however long its requests last. A request that is next is never overtaken by a smaller one
//! of somebody else, so that large requests are served too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use common::ids::UserId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Requests that wait at once, and of one principal.
const WAITING_MAX: usize = 2048;
const WAITING_OF_ONE_MAX: usize = WAITING_MAX / 2;

/// Room that is shared; clones share it.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    free: u64,
    /// What one principal may hold; one request is always possible.
    share: u64,
    held: BTreeMap<UserId, u64>,
    waiting: BTreeMap<UserId, VecDeque<Waiter>>,
    /// Principals that wait, the next first.
    order: VecDeque<UserId>,
}

struct Waiter {
    units: u64,
    ready: oneshot::Sender<Turn>,
}

/// Room that was given to one request; goes back when it is dropped.
pub(crate) struct Turn {
    turns: Turns,
    principal: UserId,
    units: u64,
}

impl Turns {
    /// `units` of room, of which one principal may hold `share`.
    pub(super) fn new(units: u64, share: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: units,
            share,
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
        })))
    }

    /// Waits for `units`; dropping the future gives the place up. `None` where too many wait already.
    pub(super) async fn take(&self, principal: UserId, units: u64) -> Option<Turn> {
        let (ready, served) = oneshot::channel();
        {
            let mut state = self.0.lock();
            let all: usize = state.waiting.values().map(VecDeque::len).sum();
            let own = state.waiting.get(&principal).map_or(0, VecDeque::len);
            if all >= WAITING_MAX || own >= WAITING_OF_ONE_MAX {
                return None;
            }
            if own == 0 {
                state.order.push_back(principal);
            }
            let waiting = state.waiting.entry(principal).or_default();
            waiting.push_back(Waiter { units, ready });
        }
        self.serve();
        served.await.ok()
    }

    /// Gives out what there is.
    fn serve(&self) {
        while let Some((ready, turn)) = self.next() {
            // Who gave up meanwhile gives the room back, outside the lock.
            drop(ready.send(turn));
        }
    }

    fn next(&self) -> Option<(oneshot::Sender<Turn>, Turn)> {
        let mut state = self.0.lock();
        state.forget_gone();
        let at = state
            .order
            .iter()
            .position(|principal| state.may_hold_more(*principal))?;
        let principal = *state.order.get(at)?;
        let first = state.waiting.get(&principal)?.front()?.units;
        if first > state.free {
            return None;
        }
        state.order.remove(at);
        let waiting = state.waiting.get_mut(&principal)?;
        let Waiter { units, ready } = waiting.pop_front()?;
        if waiting.is_empty() {
            state.waiting.remove(&principal);
        } else {
            state.order.push_back(principal);
        }
        state.free -= units;
        *state.held.entry(principal).or_default() += units;
        let turns = self.clone();
        drop(state);
        let turn = Turn {
            turns,
            principal,
            units,
        };
        Some((ready, turn))
    }
}

impl State {
    fn forget_gone(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|waiter| !waiter.ready.is_closed());
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        let waiting = &self.waiting;
        self.order.retain(|principal| waiting.contains_key(principal));
    }

    fn may_hold_more(&self, principal: UserId) -> bool {
        let first = self.waiting.get(&principal).and_then(VecDeque::front);
        let units = first.map_or(0, |waiter| waiter.units);
        match self.held.get(&principal) {
            None => true,
            Some(held) => held.saturating_add(units) <= self.share,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.0.lock();
            state.free += self.units;
            if let Some(held) = state.held.get_mut(&self.principal) {
                *held = held.saturating_sub(self.units);
                if *held == 0 {
                    state.held.remove(&self.principal);
                }
            }
        }
        self.turns.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const ANNA: UserId = UserId::new(1);
    const BERT: UserId = UserId::new(2);

    /// What is served at once.
    fn now(turns: &Turns, principal: UserId, units: u64) -> Option<Turn> {
        turns.take(principal, units).now_or_never().flatten()
    }

    #[tokio::test]
    async fn one_principal_never_holds_everything() {
        let turns = Turns::new(8, 6);
        let held: Vec<Turn> = (0..3).filter_map(|_| now(&turns, ANNA, 2)).collect();
        assert_eq!(held.len(), 3);
        assert!(now(&turns, ANNA, 2).is_none(), "the share is used up");
        let other = now(&turns, BERT, 2);
        assert!(other.is_some(), "there is room for another");
        drop(held);
        assert!(now(&turns, ANNA, 100).is_none(), "more than there is");
        assert!(now(&turns, ANNA, 6).is_some());
    }

    #[tokio::test]
    async fn principals_take_turns_and_waiters_keep_their_places() {
        let turns = Turns::new(1, 1);
        let first = now(&turns, ANNA, 1).unwrap();
        let (tell, mut served) = tokio::sync::mpsc::channel(8);
        for (principal, name) in [
            (ANNA, "a1"),
            (ANNA, "a2"),
            (ANNA, "a3"),
            (BERT, "b1"),
            (BERT, "b2"),
        ] {
            let (turns, tell) = (turns.clone(), tell.clone());
            tokio::spawn(async move {
                let _turn = turns.take(principal, 1).await.unwrap();
                tell.send(name).await.unwrap();
                tokio::task::yield_now().await;
            });
            tokio::task::yield_now().await;
        }
        drop((first, tell));
        let mut order = Vec::new();
        while let Some(name) = served.recv().await {
            order.push(name);
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[tokio::test]
    async fn a_large_request_is_not_overtaken_and_who_gave_up_is_forgotten() {
        let turns = Turns::new(4, 4);
        let held = now(&turns, ANNA, 2).unwrap();
        let large = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(BERT, 4).await.is_some() }
        });
        tokio::task::yield_now().await;
        let mut small = Box::pin(turns.take(UserId::new(3), 1));
        assert!(small.as_mut().now_or_never().is_none(), "the large one is next");
        large.abort();
        assert!(large.await.is_err());
        drop(held);
        assert!(small.await.is_some());
        assert_eq!(turns.0.lock().free, 4);
        assert!(turns.0.lock().held.is_empty());
    }
}
