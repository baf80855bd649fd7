//! How long an idempotency key counts (P4).
//!
//! Invariant: a key that is accepted finds whatever was done under it, because rows are kept [`keep_for`] after their
//! end and a key is accepted only within the window of its birth. All in names time.

use std::time::Duration;

use common::error::Kind;
use common::time::ClusterTime;

use super::refusal::Refusal;

/// How far ahead of the names group's time a key may claim to be born: the client counts on from an answer it got.
pub(crate) const BIRTH_SLACK: Duration = Duration::from_secs(60);

/// Whether a key born at `born`, of which nothing is known, may begin something at `now`.
///
/// # Errors
/// `Invalid`: it is too old, so that what was done under it may be forgotten, or it comes from the future.
pub(crate) fn admit(born: ClusterTime, now: ClusterTime, window: Duration) -> Result<(), Refusal> {
    if born > now + BIRTH_SLACK {
        return Err(Refusal::invalid(
            "E_KEY_FROM_FUTURE",
            "the idempotency key claims to be born in the future",
        )
        .hint("take the time from Hello of the same installation"));
    }
    if now > born + window {
        return Err(Refusal::new(
            Kind::Invalid,
            "E_KEY_EXPIRED",
            "the idempotency key is older than the dedupe window: whether it was used is no longer known",
        )
        .hint("find out what became of the request, then send it with a new key"));
    }
    Ok(())
}

/// How long what was done under a key is kept after its end.
pub(crate) fn keep_for(window: Duration) -> Duration {
    window.saturating_add(BIRTH_SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_count_within_their_window() {
        let at = |seconds: u64| ClusterTime::from_millis(seconds * 1000);
        let window = Duration::from_secs(100);
        let code = |born, now| admit(at(born), at(now), window).map_err(|refusal| refusal.code().to_owned());
        assert_eq!(code(10, 10), Ok(()));
        assert_eq!(code(10, 110), Ok(()));
        assert_eq!(code(10, 111), Err("E_KEY_EXPIRED".to_owned()));
        assert_eq!(code(70, 10), Ok(()));
        assert_eq!(code(71, 10), Err("E_KEY_FROM_FUTURE".to_owned()));
    }

    #[test]
    fn nothing_is_forgotten_while_its_key_is_accepted() {
        let window = Duration::from_secs(100);
        let opened = ClusterTime::from_millis(5_000);
        let youngest_key = opened + BIRTH_SLACK;
        let forgotten = opened + keep_for(window) + Duration::from_millis(1);
        assert!(admit(youngest_key, forgotten, window).is_err());
    }
}
