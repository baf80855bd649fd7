//! One call to a group: which member, for how long, and whether to try again.
//!
//! A try that was lost (no answer, or one that leaves open what happened) may have been carried out. Requests that
//! change something therefore carry a key by which the servers recognise a repetition (P4): see [`Try::request_once`].

use std::time::Duration;

use common::error::Kind;
use common::ids::IdempotencyKey;
use common::random::Random;
use common::retry::{Backoff, Schedule};
use common::time::{ClusterTime, Moment};
use proto::error::RpcError;
use proto::files::v1::files_client::FilesClient;
use proto::names::v1 as names;
use proto::names::v1::names_client::NamesClient;
use proto::trash::v1::trash_client::TrashClient;
use proto::{
    AUTHORIZATION_HEADER, CONTROL_MESSAGE_BYTES_MAX, IDEMPOTENCY_BORN_HEADER, IDEMPOTENCY_KEY_HEADER,
    PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{Group, Router};
use crate::error::Error;

/// How long the first member asked may stay silent before the next is asked. Doubled after every silence, up to
/// [`crate::Limits::call_timeout`], so that a slow but living group is not abandoned for ever.
const FIRST_TRY_MAX: Duration = Duration::from_millis(1_500);

/// Redirects followed at once; further ones wait, because members that point at each other know nothing.
const REDIRECTS_AT_ONCE_MAX: u32 = 3;

/// A redirect to a member that was just silent is not followed for so long: an election takes up to 2 s.
const SHUNNED_FOR: Duration = Duration::from_secs(2);

/// What is asked, of whom, how urgently.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// For messages: `stat`.
    pub(crate) call: &'static str,
    pub(crate) group: &'a Group,
    /// Whether the leader alone can answer.
    pub(crate) of_leader: bool,
    /// How long the server may take on purpose (it waits for something).
    pub(crate) server_wait: Duration,
    /// No further try begins after so long; `None` for the configured time, which calls that follow each other share.
    pub(crate) give_up_after: Option<Duration>,
    /// Whether an answer proves that the group works, and not only the member that gave it.
    pub(crate) of_group: bool,
}

impl<'a> Ask<'a> {
    /// Asks any member.
    pub(crate) fn any(call: &'static str, group: &'a Group) -> Self {
        Self {
            call,
            group,
            of_leader: false,
            server_wait: Duration::ZERO,
            give_up_after: None,
            of_group: true,
        }
    }

    /// Asks any member for what it knows by itself.
    pub(crate) fn member(call: &'static str, group: &'a Group) -> Self {
        Self {
            of_group: false,
            ..Self::any(call, group)
        }
    }

    /// Asks the leader.
    pub(crate) fn leader(call: &'static str, group: &'a Group) -> Self {
        Self {
            of_leader: true,
            ..Self::any(call, group)
        }
    }
}

/// The key of one change, and when it was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnceKey {
    pub(crate) key: IdempotencyKey,
    pub(crate) born: ClusterTime,
}

/// One try: a channel, and what goes along with requests over it.
pub(crate) struct Try {
    channel: Channel,
    time_limit: Duration,
    token: Option<String>,
}

impl Try {
    /// `message` with the deadline and the token.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.time_limit);
        let bearer = self
            .token
            .as_ref()
            .and_then(|token| format!("Bearer {token}").parse().ok());
        if let Some(bearer) = bearer {
            request.metadata_mut().insert(AUTHORIZATION_HEADER, bearer);
        }
        request
    }

    /// `message` as [`Try::request`], to be applied once however often it is sent with the same key.
    pub(crate) fn request_once<M>(&self, message: M, once: OnceKey) -> Request<M> {
        let mut request = self.request(message);
        let metadata = request.metadata_mut();
        if let Ok(key) = once.key.to_string().parse() {
            metadata.insert(IDEMPOTENCY_KEY_HEADER, key);
        }
        metadata.insert(IDEMPOTENCY_BORN_HEADER, once.born.as_millis().into());
        request
    }

    /// The names service.
    pub(crate) fn names(&self) -> NamesClient<Channel> {
        NamesClient::new(self.channel.clone()).max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
    }

    /// The trash service.
    pub(crate) fn trash(&self) -> TrashClient<Channel> {
        TrashClient::new(self.channel.clone()).max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
    }

    /// The files service.
    pub(crate) fn files(&self) -> FilesClient<Channel> {
        FilesClient::new(self.channel.clone()).max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
    }
}

impl Router {
    /// Asks until there is an answer or the budget is spent. `send` makes one try.
    pub(crate) async fn ask<T, F, A>(&self, ask: Ask<'_>, send: F) -> Result<T, Error>
    where
        F: Fn(Try) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let clock = &self.settings.seams.clock;
        let mut rounds = Rounds::new(clock.moment());
        // When the time began that this call has.
        let since = match ask.give_up_after {
            None if ask.of_group => ask.group.unanswered_since(rounds.begun),
            _ => rounds.begun,
        };
        loop {
            let Some(address) = rounds.pick(ask) else {
                let nobody = RpcError::new(Kind::Retry, "E_UNREACHABLE", "no address is known");
                return Err(rounds.end(ask, nobody));
            };
            let left = self
                .give_up_after(ask, None)
                .saturating_sub(clock.moment().since(since));
            let time_limit = rounds.time_limit(self.settings.limits.call_timeout, left) + ask.server_wait;
            let answer = self.try_once(ask, &address, time_limit, &send).await;
            let error = match answer {
                Ok(value) => {
                    ask.group.answered(&address, ask.of_leader);
                    if ask.of_group {
                        ask.group.works();
                    }
                    return Ok(value);
                }
                Err(TryError::Setup(error)) => return Err(error),
                Err(TryError::Silent) => {
                    self.channels.drop_channel(&address, &ask.group.role);
                    rounds.silent(&address, clock.moment());
                    RpcError::new(Kind::Retry, TRANSPORT, format!("{address} does not answer"))
                }
                Err(TryError::Said(error)) => error,
            };
            tracing::debug!(call = ask.call, %address, %error, code = %error.code, "try failed");
            let now = clock.moment();
            let give_up_after = self.give_up_after(ask, Some(error.kind));
            match rounds.after(ask, &address, &error, now, &self.settings.seams.random) {
                // No try begins after its time: the wait counts too.
                Some(wait) if now.since(since) + wait < give_up_after => clock.sleep(wait).await,
                _ => {
                    if ask.of_group && error.kind.is_passing() && error.kind != Kind::Busy {
                        ask.group.given_up(since, now);
                    }
                    return Err(rounds.end(ask, error));
                }
            }
        }
    }

    /// How long `ask` may take. A group that is busy works: it is waited for longer than one that does not answer.
    fn give_up_after(&self, ask: Ask<'_>, error: Option<Kind>) -> Duration {
        ask.give_up_after.unwrap_or_else(|| match error {
            Some(Kind::Busy) => self.settings.limits.patient_give_up_after,
            _ => self.patience(),
        })
    }

    async fn try_once<T, F, A>(
        &self,
        ask: Ask<'_>,
        address: &str,
        time_limit: Duration,
        send: &F,
    ) -> Result<T, TryError>
    where
        F: Fn(Try) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self
            .channels
            .to(address, &ask.group.role)
            .map_err(TryError::Setup)?;
        let one = Try {
            channel,
            time_limit,
            token: self
                .token()
                .filter(|_| ask.group.role == common::tls::Role::Supernode),
        };
        match self.settings.seams.clock.timeout(time_limit, send(one)).await {
            None => Err(TryError::Silent),
            Some(Ok(response)) => Ok(response.into_inner()),
            // The deadline that travels with the request ran out there first.
            Some(Err(status))
                if matches!(
                    status.code(),
                    tonic::Code::DeadlineExceeded | tonic::Code::Cancelled
                ) =>
            {
                Err(TryError::Silent)
            }
            Some(Err(status)) => Err(TryError::Said(status.into())),
        }
    }

    /// Greets a supernode: learns the names group's members and time.
    pub(crate) async fn hello(&self) -> Result<ClusterTime, Error> {
        let request = names::HelloRequest {
            protocol_version_min: PROTOCOL_VERSION_MIN,
            protocol_version_max: PROTOCOL_VERSION,
            agent: self.settings.agent.clone(),
        };
        let ask = Ask::member("hello", self.supernodes());
        let send = |one: Try| {
            let request = one.request(request.clone());
            async move { one.names().hello(request).await }
        };
        let reply: names::HelloReply = self.ask(ask, send).await?;
        let understood = PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION;
        if !understood.contains(&reply.protocol_version) {
            return Err(Error::protocol(format!(
                "protocol version {}; this build understands {understood:?}",
                reply.protocol_version
            )));
        }
        let leader = reply.supernodes.iter().find(|node| node.leader);
        self.supernodes().learn(
            reply.supernodes.iter().map(|node| node.control.clone()),
            leader.map(|leader| leader.control.clone()),
        );
        let now = ClusterTime::from_millis(reply.names_time_millis);
        self.names_clock.set(now, &self.settings.seams.clock);
        Ok(now)
    }

    /// A key for one change, born now.
    pub(crate) async fn once(&self) -> Result<OnceKey, Error> {
        let born = self.names_time().await?;
        let key = IdempotencyKey::new(self.settings.seams.random.bytes());
        Ok(OnceKey { key, born })
    }

    /// The names group's time, asked for anew where the last answer is old.
    async fn names_time(&self) -> Result<ClusterTime, Error> {
        match self.names_clock.now(&self.settings.seams.clock) {
            Some(now) => Ok(now),
            None => self.hello().await,
        }
    }
}

/// The code of errors that came from the transport, not from a server of ours.
const TRANSPORT: &str = "E_TRANSPORT";

enum TryError {
    /// Not even begun.
    Setup(Error),
    /// No answer in time.
    Silent,
    /// An error as answer, or one of the transport.
    Said(RpcError),
}

/// The tries of one call so far. Pure but for the jitter.
struct Rounds {
    begun: Moment,
    backoff: Backoff,
    /// Asked since the last time that everybody had been asked.
    asked: Vec<String>,
    /// Everybody ever asked, for the message.
    tried: Vec<String>,
    /// Where to go next, whatever the order.
    next: Option<String>,
    redirects: u32,
    silences: u32,
    /// Who was silent, and until when a redirect to them is not followed: their group may be electing another.
    shunned: Vec<(String, Moment)>,
    /// A server of ours answered at least once.
    reached: bool,
}

impl Rounds {
    fn new(begun: Moment) -> Self {
        Self {
            begun,
            backoff: Schedule::CONTROL.start(),
            asked: Vec::new(),
            tried: Vec::new(),
            next: None,
            redirects: 0,
            silences: 0,
            shunned: Vec::new(),
            reached: false,
        }
    }

    fn pick(&mut self, ask: Ask<'_>) -> Option<String> {
        let order = ask.group.order(ask.of_leader);
        let address = self.next.take().or_else(|| {
            let fresh = order.iter().find(|address| !self.asked.contains(address));
            let again = || {
                self.asked.clear();
                order.first()
            };
            fresh.or_else(again).cloned()
        })?;
        if !self.asked.contains(&address) {
            self.asked.push(address.clone());
        }
        if !self.tried.contains(&address) {
            self.tried.push(address.clone());
        }
        Some(address)
    }

    fn silent(&mut self, address: &str, now: Moment) {
        self.silences += 1;
        self.shunned.retain(|(who, _)| who != address);
        self.shunned.push((address.to_owned(), now + SHUNNED_FOR));
    }

    /// How long the next try may take, where no try may begin when `left` is over.
    fn time_limit(&self, longest: Duration, left: Duration) -> Duration {
        FIRST_TRY_MAX
            .saturating_mul(1 << self.silences.min(10))
            .min(longest.min(left).max(FIRST_TRY_MAX))
    }

    /// How long to wait before the next try; `None` where there is none.
    fn after(
        &mut self,
        ask: Ask<'_>,
        address: &str,
        error: &RpcError,
        now: Moment,
        random: &Random,
    ) -> Option<Duration> {
        self.reached |= error.code != TRANSPORT;
        match error.kind {
            Kind::NotLeader => {
                let shunned = |leader: &str| {
                    self.shunned
                        .iter()
                        .any(|(who, until)| who == leader && *until > now)
                };
                let named = error.leader.as_deref();
                let leader = named.filter(|leader| *leader != address && !shunned(leader));
                ask.group.disappointed(address, leader);
                let Some(leader) = leader else {
                    return self.backoff.next(random, error.retry_after);
                };
                self.next = Some(leader.to_owned());
                self.redirects += 1;
                if self.redirects <= REDIRECTS_AT_ONCE_MAX {
                    return Some(Duration::ZERO);
                }
                self.backoff.next(random, error.retry_after)
            }
            Kind::Retry => {
                ask.group.disappointed(address, None);
                let untried = ask
                    .group
                    .order(false)
                    .iter()
                    .any(|other| !self.asked.contains(other));
                let wait = self.backoff.next(random, error.retry_after)?;
                // Somebody else can be asked at once; only a whole round without an answer is a reason to wait.
                Some(if untried && error.retry_after.is_zero() {
                    Duration::ZERO
                } else {
                    wait
                })
            }
            Kind::Busy => {
                // Whoever is busy is still the one to ask.
                self.next = Some(address.to_owned());
                self.backoff.next(random, error.retry_after)
            }
            Kind::Stale
            | Kind::NotFound
            | Kind::Denied
            | Kind::Corrupt
            | Kind::Full
            | Kind::Conflict
            | Kind::Invalid
            | Kind::Fatal => None,
        }
    }

    fn end(self, ask: Ask<'_>, source: RpcError) -> Error {
        let source = Box::new(source);
        if self.reached || !source.kind.is_passing() {
            Error::Call {
                call: ask.call,
                source,
            }
        } else {
            Error::Unreachable {
                whom: ask.group.whom.clone(),
                tried: self.tried,
                source,
            }
        }
    }
}
