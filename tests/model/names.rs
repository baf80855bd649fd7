//! The names log: sessions, the path, the trash and the outbox. Each method is one committed entry, but for the sessions
//! that the leader alone knows.

use common::lifecycle::{Session, SessionEvent, Version, VersionEvent};

use crate::rules::Broken;
use crate::state::{Answer, Held, Key, NamesLog, Number, Outcome, SessionRow};

impl NamesLog {
    /// The row of a session that is still known.
    pub(crate) fn known(&self, number: Number) -> Option<&SessionRow> {
        let row = self.sessions.get(number);
        row.filter(|row| row.held == Held::InLog && !row.forgotten)
    }

    fn known_mut(&mut self, number: Number) -> Option<&mut SessionRow> {
        let row = self.sessions.get_mut(number);
        row.filter(|row| row.held == Held::InLog && !row.forgotten)
    }

    /// `OpenUpload(key)`: the same key gives the same session; a key whose window is over gives none.
    pub(crate) fn open(&mut self, key: Key, held: Held, broken: Option<Broken>) -> Option<Number> {
        let leads_to = |row: &SessionRow| row.key == key && row.held != Held::Lost;
        let found = self.sessions.iter().position(leads_to);
        if let Some(number) = found
            && (broken != Some(Broken::KeyNotRemembered) || self.sessions.len() > 1)
        {
            let is_known = self.known(number).is_some() || self.is_in_memory(number);
            return is_known.then_some(number);
        }
        Some(self.begin(key, held))
    }

    /// As `open`, by a leader whose look at the rows lags: it begins a second session for the key.
    pub(crate) fn open_lagging(&mut self, key: Key) -> Option<Number> {
        let of_key = |row: &&SessionRow| row.key == key;
        let mut rows = self.sessions.iter().filter(of_key);
        let lags = rows.clone().any(|row| row.held == Held::InLog && !row.forgotten)
            && rows.all(|row| row.held != Held::InMemory);
        lags.then(|| self.begin(key, Held::InMemory))
    }

    fn begin(&mut self, key: Key, held: Held) -> Number {
        self.sessions.push(SessionRow {
            held,
            key,
            session: Session::Open,
            version: None,
            outcome_owed: true,
            release_owed: false,
            forgotten: false,
        });
        self.sessions.len() - 1
    }

    pub(crate) fn is_in_memory(&self, number: Number) -> bool {
        let row = self.sessions.get(number);
        row.is_some_and(|row| row.held == Held::InMemory)
    }

    /// A command brought along the opening of a session that the leader alone knew: it has its row now. Or it is lost,
    /// because its key has led to another session.
    pub(crate) fn record(&mut self, number: Number, broken: Option<Broken>) {
        let Some(row) = self.sessions.get(number).filter(|row| row.held == Held::InMemory) else {
            return;
        };
        let in_log = |other: &SessionRow| other.key == row.key && other.held == Held::InLog;
        if self.sessions.iter().any(in_log) && broken != Some(Broken::KeyNotLookedAtAgain) {
            self.lose(number);
        } else {
            self.sessions[number].held = Held::InLog;
        }
    }

    /// The leader dies; the next one's first command records as lost what the last one alone knew.
    pub(crate) fn change_leader(&mut self) {
        for number in 0..self.sessions.len() {
            if self.is_in_memory(number) {
                self.lose(number);
            }
        }
        self.crashes += 1;
    }

    fn lose(&mut self, number: Number) {
        let row = &mut self.sessions[number];
        row.held = Held::Lost;
        row.session = Session::Aborted;
        row.outcome_owed = false;
    }

    /// A late `Publish` of an earlier leader, with the opening of a session that has been lost since.
    pub(crate) fn publish_late(&mut self, number: Number, broken: Option<Broken>) -> Answer {
        if broken == Some(Broken::LostNotRecorded) {
            let row = &mut self.sessions[number];
            row.held = Held::InLog;
            row.session = Session::Open;
            return self.publish(number, true, broken);
        }
        Answer::Ended(Outcome::Refused)
    }

    /// `AbortUpload`: has an effect only on an open session. The answer is the state in which it stands now.
    pub(crate) fn abort(&mut self, number: Number, broken: Option<Broken>) -> Option<Session> {
        self.record(number, broken);
        let row = self.known_mut(number)?;
        if let Ok(aborted) = row.session.next(SessionEvent::Abort) {
            row.session = aborted;
        }
        Some(row.session)
    }

    /// `Publish`: judged once, answered the same for ever. `conditions_hold` stands for if-match, existence, rights and
    /// quota at this entry. Publishing moves the path; what it pointed at before goes to the trash.
    pub(crate) fn publish(
        &mut self,
        number: Number,
        conditions_hold: bool,
        broken: Option<Broken>,
    ) -> Answer {
        self.record(number, broken);
        if self.sessions[number].held == Held::Lost {
            return Answer::Ended(Outcome::Refused);
        }
        let Some(row) = self.known_mut(number) else {
            return Answer::Forgotten;
        };
        let event = if conditions_hold {
            SessionEvent::Publish
        } else {
            SessionEvent::Refuse
        };
        if let Ok(ended) = row.session.next(event) {
            row.session = ended;
            if ended == Session::Published {
                row.version = Version::Sealed.next(VersionEvent::Publish).ok();
                self.trash();
                self.path = Some(number);
            }
        }
        match self.sessions[number].session {
            Session::Published => Answer::Ended(Outcome::Published),
            Session::Refused | Session::Aborted => Answer::Ended(Outcome::Refused),
            Session::Open => unreachable!("publish ends an open session"),
        }
    }

    /// Deletes what the path points at, into the trash.
    pub(crate) fn trash(&mut self) {
        if let Some(number) = self.path.take() {
            self.move_version(number, VersionEvent::Trash);
        }
    }

    /// Takes a version out of the trash, where nothing has taken its name since.
    pub(crate) fn restore(&mut self, number: Number) {
        if self.path.is_none() && self.move_version(number, VersionEvent::Restore) {
            self.path = Some(number);
            self.restores += 1;
        }
    }

    /// The time in the trash is over: released, and an outbox row with it. One entry, so neither is without the other.
    pub(crate) fn expire(&mut self, number: Number, broken: Option<Broken>) -> bool {
        let released = self.move_version(number, VersionEvent::Release);
        if released && broken != Some(Broken::ReleaseSentOnce) {
            self.sessions[number].release_owed = true;
        }
        released
    }

    /// The cluster has the outcome of this session in its own log.
    pub(crate) fn settled(&mut self, number: Number) {
        if let Some(row) = self.known_mut(number)
            && row.session != Session::Open
        {
            row.outcome_owed = false;
        }
    }

    /// The cluster has the release in its own log.
    pub(crate) fn release_acknowledged(&mut self, number: Number) {
        self.sessions[number].release_owed = false;
    }

    /// The dedupe window is over. The outcome stays for as long as the cluster has not acknowledged it.
    pub(crate) fn may_forget(&self, number: Number, broken: Option<Broken>) -> bool {
        let too_early = matches!(broken, Some(Broken::ForgetsTooEarly | Broken::AbsentIsRefused));
        let row = self.known(number).filter(|row| row.session != Session::Open);
        row.is_some_and(|row| too_early || !row.outcome_owed)
    }

    /// Forgets a session, its key with it. The version, if one came of it, lives on.
    pub(crate) fn forget(&mut self, number: Number) {
        let row = &mut self.sessions[number];
        row.forgotten = true;
        row.outcome_owed = false;
    }

    fn move_version(&mut self, number: Number, event: VersionEvent) -> bool {
        let row = &mut self.sessions[number];
        let moved = row.version.and_then(|version| version.next(event).ok());
        if moved.is_some() {
            row.version = moved;
        }
        moved.is_some()
    }
}
