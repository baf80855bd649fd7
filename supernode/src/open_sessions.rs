//! Upload sessions that their leader alone knows.
//!
//! A session of a client that can send everything again costs no commit of its own: its number comes from a block that
//! a commit has reserved, and its row is made by the command that ends it or, if it lasts, by
//! [`crate::background::openings`]. A leader that dies takes it along; the next one's first command records it as lost,
//! and the client opens the upload again.
//!
//! Invariants: a number is given to one session; while a session has no row it is here, so that every command about
//! it can bring its opening along; nothing of it outlives the epoch (P7).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use common::error::Kind;
use common::ids::{Epoch, IdempotencyKey, UploadId, UserId};
use common::time::{ClusterTime, Moment};
use parking_lot::Mutex;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;

use crate::context::{Context, over, unexpected};

/// Numbers reserved at once. What is left of them when the leader dies is never used; and state that was lost is
/// noticed only by numbers beyond the block, so that it must not be large.
const NUMBERS_RESERVED: u64 = 128;
/// With so many numbers left the next block is reserved, so that nobody has to wait for it.
const NUMBERS_LOW: usize = 64;
/// The most sessions that are kept here; further ones get their rows at once.
const SESSIONS_MAX: usize = 4096;
/// Keys that are remembered after their sessions got rows: more than are recorded while a look at the tables may lag.
const KEYS_RECORDED_MAX: usize = 1024;

/// The sessions of one leadership.
#[derive(Debug, Default)]
pub(crate) struct OpenSessions {
    /// Guards the numbers, and the step from a number to its session.
    numbers: tokio::sync::Mutex<Numbers>,
    /// Guards the sessions.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// The leadership whose first command is applied.
    begun: Option<Epoch>,
    /// Reserved and not given out.
    free: VecDeque<u64>,
    /// The next block is being reserved.
    reserving: bool,
}

#[derive(Debug, Default)]
struct Known {
    begun: Option<Epoch>,
    sessions: BTreeMap<UploadId, Arc<OpenSession>>,
    keys: BTreeMap<(UserId, IdempotencyKey), UploadId>,
    /// Keys of sessions that got their rows last, in order: a lagging look at the tables may not show these yet.
    recorded: VecDeque<(UserId, IdempotencyKey)>,
}

/// A session without a row.
#[derive(Clone, Debug)]
pub(crate) struct OpenSession {
    /// Whose.
    pub(crate) user: UserId,
    /// Chosen by the client.
    pub(crate) key: IdempotencyKey,
    /// What its row will be made from.
    pub(crate) opening: log::Opening,
    /// What the quota leaves for it; 0 for no limit.
    pub(crate) size_max: Option<u64>,
    /// When it was opened.
    pub(crate) since: Moment,
}

impl OpenSession {
    /// Which.
    pub(crate) fn id(&self) -> UploadId {
        UploadId::new(self.opening.upload_id)
    }

    /// Where its version will be visible.
    pub(crate) fn path(&self) -> &str {
        self.upload().map_or("", |upload| &upload.path)
    }

    /// The cluster to which it was given.
    pub(crate) fn cluster_id(&self) -> &[u8] {
        self.upload().map_or(&[], |upload| &upload.cluster_id)
    }

    /// Of what the client asked for under the key.
    pub(crate) fn command_digest(&self) -> &[u8] {
        self.upload().map_or(&[], |upload| &upload.command_digest)
    }

    fn upload(&self) -> Option<&log::OpenUpload> {
        self.opening.upload.as_ref()
    }
}

impl OpenSessions {
    /// Makes sure that the first command of our leadership `ours` is applied: before that nothing is known of numbers
    /// without rows.
    ///
    /// # Errors
    /// The leadership is over, or the group did not take the command.
    pub(crate) async fn begin(&self, context: &Context, ours: Epoch) -> Result<(), RpcError> {
        if self.known.lock().begun == Some(ours) {
            return Ok(());
        }
        let mut numbers = self.numbers.lock().await;
        if numbers.begun != Some(ours) {
            let close = Command::CloseUploads(log::CloseUploads {});
            while let Reply::Worked(log::Worked { more: true, .. }) =
                lead(context, ours, close.clone()).await?
            {}
            *numbers = Numbers {
                begun: Some(ours),
                ..Numbers::default()
            };
            *self.known.lock() = Known {
                begun: Some(ours),
                ..Known::default()
            };
        }
        Ok(())
    }

    /// Opens `session` under a number of its own, or finds the one that its key opened meanwhile.
    ///
    /// # Errors
    /// The leadership is over, or no numbers can be reserved.
    pub(crate) async fn open(
        &self,
        context: &Arc<Context>,
        ours: Epoch,
        mut session: OpenSession,
    ) -> Result<Arc<OpenSession>, RpcError> {
        let mut numbers = self.numbers.lock().await;
        if numbers.begun != Some(ours) {
            return Err(over());
        }
        if numbers.free.is_empty() {
            let more = reserve(context, ours, self.closed_up_to(&numbers)).await?;
            numbers.free.extend(more);
        } else if numbers.free.len() <= NUMBERS_LOW && !numbers.reserving {
            let closed_up_to = self.closed_up_to(&numbers);
            numbers.reserving = true;
            tokio::spawn(reserve_ahead(Arc::clone(context), ours, closed_up_to));
        }
        let number = numbers.free.pop_front().ok_or_else(unexpected)?;
        session.opening.upload_id = number;
        let mut known = self.known.lock();
        let place = (session.user, session.key);
        if let Some(id) = known.keys.get(&place)
            && let Some(found) = known.sessions.get(id)
        {
            return Ok(Arc::clone(found));
        }
        let session = Arc::new(session);
        known.keys.insert(place, session.id());
        known.sessions.insert(session.id(), Arc::clone(&session));
        Ok(session)
    }

    /// The session with this number.
    pub(crate) fn find(&self, ours: Epoch, id: UploadId) -> Option<Arc<OpenSession>> {
        self.known.lock().of(ours)?.sessions.get(&id).cloned()
    }

    /// The session which `user` opened with `key`.
    pub(crate) fn by_key(&self, ours: Epoch, user: UserId, key: IdempotencyKey) -> Option<Arc<OpenSession>> {
        let known = self.known.lock();
        let known = known.of(ours)?;
        known.sessions.get(known.keys.get(&(user, key))?).cloned()
    }

    /// How many sessions `user` has here; `None` where none can be opened with `key`: there are too many, or the key's
    /// was recorded a moment ago.
    pub(crate) fn room(&self, ours: Epoch, user: UserId, key: IdempotencyKey) -> Option<u64> {
        let known = self.known.lock();
        let known = known.of(ours)?;
        if known.recorded.contains(&(user, key)) {
            return None;
        }
        let (first, last) = (IdempotencyKey::new([0; 16]), IdempotencyKey::new([0xff; 16]));
        let of_user = known.keys.range((user, first)..=(user, last)).count() as u64;
        (known.sessions.len() < SESSIONS_MAX).then_some(of_user)
    }

    /// The birth of the oldest key that is in use here.
    pub(crate) fn oldest_key(&self, ours: Epoch) -> Option<ClusterTime> {
        let known = self.known.lock();
        let sessions = known.of(ours)?.sessions.values();
        let births = sessions.filter_map(|session| session.upload().map(|upload| upload.key_born_millis));
        births.min().map(ClusterTime::from_millis)
    }

    /// How many sessions there are.
    pub(crate) fn count(&self, ours: Epoch) -> u64 {
        let known = self.known.lock();
        known.of(ours).map_or(0, |known| known.sessions.len() as u64)
    }

    /// Forgets sessions of which the log knows now.
    pub(crate) fn recorded(&self, ours: Epoch, ids: impl IntoIterator<Item = UploadId>) {
        let mut known = self.known.lock();
        if known.begun != Some(ours) {
            return;
        }
        for id in ids {
            if let Some(session) = known.sessions.remove(&id) {
                let place = (session.user, session.key);
                known.keys.remove(&place);
                known.recorded.push_back(place);
            }
        }
        let excess = known.recorded.len().saturating_sub(KEYS_RECORDED_MAX);
        known.recorded.drain(..excess);
    }

    /// Sessions that have been open for `long` at `now`, the oldest first, at most `limit`.
    pub(crate) fn lasting(
        &self,
        ours: Epoch,
        now: Moment,
        long: Duration,
        limit: usize,
    ) -> Vec<Arc<OpenSession>> {
        let known = self.known.lock();
        let sessions = known
            .of(ours)
            .into_iter()
            .flat_map(|known| known.sessions.values());
        let lasting = sessions.filter(|session| now.since(session.since) >= long);
        lasting.take(limit).cloned().collect()
    }

    /// The number up to which each session has its row or was never begun, where `last` was reserved before this is
    /// called. Numbers that are reserved and not given out are let go, so that they keep nothing back.
    pub(crate) async fn close(&self, ours: Epoch, last: u64) -> u64 {
        let mut numbers = self.numbers.lock().await;
        if numbers.begun != Some(ours) || numbers.reserving {
            return 0;
        }
        numbers.free.clear();
        match self.lowest(&numbers) {
            Some(lowest) => last.min(lowest.saturating_sub(1)),
            None => last,
        }
    }

    /// As [`OpenSessions::close`], as far as it can be said without looking into the log.
    fn closed_up_to(&self, numbers: &Numbers) -> u64 {
        if numbers.reserving {
            // The block on its way may lie below every number that is known here.
            return 0;
        }
        self.lowest(numbers).map_or(0, |lowest| lowest.saturating_sub(1))
    }

    /// The lowest number that is open without a row, or may yet be given out.
    fn lowest(&self, numbers: &Numbers) -> Option<u64> {
        let known = self.known.lock();
        let open = known.sessions.keys().next().map(|id| id.get());
        open.into_iter().chain(numbers.free.iter().copied()).min()
    }
}

impl Known {
    fn of(&self, ours: Epoch) -> Option<&Self> {
        (self.begun == Some(ours)).then_some(self)
    }
}

/// Reserves the next block while there are numbers left.
async fn reserve_ahead(context: Arc<Context>, ours: Epoch, closed_up_to: u64) {
    let reserved = reserve(&context, ours, closed_up_to).await;
    let mut numbers = context.sessions.numbers.lock().await;
    if numbers.begun != Some(ours) {
        return;
    }
    numbers.reserving = false;
    match reserved {
        Ok(more) => numbers.free.extend(more),
        Err(error) => tracing::debug!(%error, "no upload numbers can be reserved now"),
    }
}

/// Commits `command` for our leadership.
async fn lead(context: &Context, ours: Epoch, command: Command) -> Result<Reply, RpcError> {
    let reply = context.propose_in(ours, command).await;
    reply.map_err(|error| match error.kind {
        // Whoever asked knows nothing of our epoch.
        Kind::Stale => over(),
        _ => error,
    })
}

async fn reserve(
    context: &Context,
    ours: Epoch,
    closed_up_to: u64,
) -> Result<std::ops::RangeInclusive<u64>, RpcError> {
    let command = log::ReserveUploads {
        count: NUMBERS_RESERVED,
        closed_up_to,
    };
    match lead(context, ours, Command::ReserveUploads(command)).await? {
        Reply::Reserved(reserved) => Ok(reserved.first..=reserved.last),
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Epoch = Epoch::new(3);
    const USER: UserId = UserId::new(2);
    const KEY: IdempotencyKey = IdempotencyKey::new([7; 16]);

    /// Of a leadership that has begun and opened session 7.
    async fn sessions() -> OpenSessions {
        let sessions = OpenSessions::default();
        let mut numbers = sessions.numbers.lock().await;
        numbers.begun = Some(OURS);
        numbers.free.extend(8..=10);
        drop(numbers);
        let session = OpenSession {
            user: USER,
            key: KEY,
            opening: log::Opening {
                upload_id: 7,
                ..log::Opening::default()
            },
            size_max: None,
            since: Moment::default(),
        };
        let mut known = sessions.known.lock();
        known.begun = Some(OURS);
        known.keys.insert((USER, KEY), session.id());
        known.sessions.insert(session.id(), Arc::new(session));
        drop(known);
        sessions
    }

    #[tokio::test]
    async fn what_may_still_get_a_row_is_not_closed() {
        let sessions = sessions().await;
        assert_eq!(sessions.closed_up_to(&*sessions.numbers.lock().await), 6);
        assert_eq!(sessions.close(OURS, 10).await, 6);
        assert!(sessions.numbers.lock().await.free.is_empty());
        sessions.recorded(OURS, [UploadId::new(7)]);
        assert_eq!(sessions.close(OURS, 10).await, 10);
        // A block that is being reserved may lie below what was reserved last.
        sessions.numbers.lock().await.reserving = true;
        assert_eq!(sessions.close(OURS, 10).await, 0);
        let mut numbers = sessions.numbers.lock().await;
        numbers.free.extend(11..=12);
        assert_eq!(sessions.closed_up_to(&numbers), 0);
    }

    #[tokio::test]
    async fn numbers_that_can_be_given_out_are_not_closed() {
        let sessions = sessions().await;
        sessions.recorded(OURS, [UploadId::new(7)]);
        let numbers = sessions.numbers.lock().await;
        assert_eq!(sessions.closed_up_to(&numbers), 7);
    }

    #[tokio::test]
    async fn another_leadership_finds_nothing() {
        let sessions = sessions().await;
        let later = Epoch::new(4);
        assert!(sessions.find(OURS, UploadId::new(7)).is_some());
        assert!(sessions.find(later, UploadId::new(7)).is_none());
        assert!(sessions.by_key(later, USER, KEY).is_none());
        assert_eq!(sessions.room(later, USER, KEY), None);
        assert_eq!((sessions.count(OURS), sessions.count(later)), (1, 0));
        sessions.recorded(later, [UploadId::new(7)]);
        assert_eq!(sessions.count(OURS), 1);
        assert_eq!(sessions.close(later, 10).await, 0);
    }

    #[tokio::test]
    async fn a_key_that_was_recorded_a_moment_ago_is_left_to_the_log() {
        let sessions = sessions().await;
        let other = IdempotencyKey::new([8; 16]);
        assert_eq!(sessions.room(OURS, USER, other), Some(1));
        sessions.recorded(OURS, [UploadId::new(7)]);
        assert!(sessions.by_key(OURS, USER, KEY).is_none());
        assert_eq!(sessions.room(OURS, USER, KEY), None);
        assert_eq!(sessions.room(OURS, USER, other), Some(0));
    }
}
