//! Whether there is a group already, as far as the addresses to join tell: a founder that lost its disk must not found a
//! second group beside the one that lives.
//!
//! Invariant: nothing is founded while any address answers for a group, or holds a process of which nobody knows whether
//! it belongs to one. A process that starts says which it is ([`common::net::turn_away_during`]), so that seeds which all
//! start at once for the first time do not wait for each other. Who is absent is waited for `found_wait` only; should a
//! group turn out to live all the same, `background/presence.rs` ends the younger one.

use std::time::Duration;

use common::net::Greeting;
use tokio::io::AsyncReadExt;

use crate::error::Error;
use crate::settings::Settings;
use crate::transport::Seed;

const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a process may take to say that it only starts.
const GREETING_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a founder that waits says for whom.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// A member of a group.
    Group,
    /// A process without a group, which starts.
    NoGroup,
    /// A process that gives no clear answer.
    Unclear,
    Nobody,
}

/// The other addresses to join.
pub(crate) fn others(settings: &Settings) -> impl Iterator<Item = &String> {
    settings
        .join
        .iter()
        .filter(|address| **address != settings.record.control)
}

/// The address of a member of a group; `None` once it is safe to found one.
///
/// # Errors
/// The process ends meanwhile.
pub(crate) async fn find_group(settings: &Settings, seed: &Seed) -> Result<Option<String>, Error> {
    let looking = settings.shutdown.guard(look_around(settings, seed));
    looking.await.ok_or(Error::Closed)
}

async fn look_around(settings: &Settings, seed: &Seed) -> Option<String> {
    let clock = &settings.clock;
    // Since when nobody is there of whom it is not clear.
    let mut clear_since = clock.moment();
    let mut told = clear_since;
    loop {
        let asked =
            others(settings).map(|address| async move { (address, look(settings, seed, address).await) });
        let seen = futures::future::join_all(asked).await;
        let first = |wanted: Seen| {
            seen.iter()
                .find(|(_, seen)| *seen == wanted)
                .map(|(address, _)| *address)
        };
        if let Some(address) = first(Seen::Group) {
            return Some(address.clone());
        }
        let now = clock.moment();
        match first(Seen::Unclear) {
            Some(address) => {
                clear_since = now;
                if now.since(told) >= TELL_AGAIN {
                    told = now;
                    tracing::warn!(%address, "not founding yet: a process there does not say whether it has a group");
                }
            }
            None if first(Seen::Nobody).is_none() => return None,
            None if now.since(clear_since) >= settings.timings.found_wait => return None,
            None => {}
        }
        clock.sleep(ASK_AGAIN).await;
    }
}

async fn look(settings: &Settings, seed: &Seed, address: &str) -> Seen {
    if seed.describe(address).await.is_ok() {
        return Seen::Group;
    }
    let Ok(connection) = settings.network.connect(address).await else {
        return Seen::Nobody;
    };
    let mut said = Vec::new();
    let mut saying = connection.take(Greeting::BYTES_MAX);
    let reading = saying.read_to_end(&mut said);
    let read = settings.clock.timeout(GREETING_TIMEOUT, reading).await;
    match read.and_then(|_| Greeting::read(&said)) {
        Some(Greeting::WithoutGroup) => Seen::NoGroup,
        Some(Greeting::Starting) | None => Seen::Unclear,
    }
}
