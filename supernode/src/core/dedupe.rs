//! Which idempotency keys count (P4).
//!
//! Invariant: a key that is accepted finds whatever was done under it. What is committed says from which birth on keys
//! count; it only rises, and what was done under a key is forgotten only once the key no longer counts ([`may_forget`]).
//! Leaders choose how far to raise it (`dedupe_window`), and nothing else rests on their configurations. All in names
//! time.

use std::time::Duration;

use common::error::Kind;
use common::time::ClusterTime;

use super::refusal::Refusal;

/// How far ahead of the names group's time a key may claim to be born: the client counts on from an answer it got.
pub(crate) const BIRTH_SLACK: Duration = Duration::from_secs(60);

/// Whether a key born at `born`, of which nothing is known, may begin something at `now`, where keys born before
/// `refused_before` no longer count.
///
/// # Errors
/// `Invalid`: it is too old, so that what was done under it may be forgotten, or it comes from the future.
pub(crate) fn admit(born: ClusterTime, now: ClusterTime, refused_before: ClusterTime) -> Result<(), Refusal> {
    if born > now + BIRTH_SLACK {
        return Err(Refusal::invalid(
            "E_KEY_FROM_FUTURE",
            "the idempotency key claims to be born in the future",
        )
        .hint("take the time from Hello of the same installation"));
    }
    if born < refused_before {
        return Err(Refusal::new(
            Kind::Invalid,
            "E_KEY_EXPIRED",
            "the idempotency key is older than the dedupe window: whether it was used is no longer known",
        )
        .hint("find out what became of the request, then send it with a new key"));
    }
    Ok(())
}

/// Whether what ended at `ended` under a key born at `born` may be forgotten. Its end counts as well: whoever asks by
/// other means than the key finds it for as long after that.
pub(crate) fn may_forget(born: ClusterTime, ended: ClusterTime, refused_before: ClusterTime) -> bool {
    born.max(ended) < refused_before
}

/// Up to where a leader with this `window` wants keys to be refused, while one born at `open` is in use.
pub(crate) fn wanted(now: ClusterTime, window: Duration, open: Option<ClusterTime>) -> ClusterTime {
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    let wanted = ClusterTime::from_millis(now.as_millis().saturating_sub(window));
    open.map_or(wanted, |born| wanted.min(born))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> ClusterTime {
        ClusterTime::from_millis(seconds * 1000)
    }

    #[test]
    fn keys_count_from_a_birth_on() {
        let code =
            |born, now, from| admit(at(born), at(now), at(from)).map_err(|refusal| refusal.code().to_owned());
        assert_eq!(code(10, 10, 0), Ok(()));
        assert_eq!(code(10, 9_999, 10), Ok(()));
        assert_eq!(code(10, 11, 11), Err("E_KEY_EXPIRED".to_owned()));
        assert_eq!(code(70, 10, 0), Ok(()));
        assert_eq!(code(71, 10, 0), Err("E_KEY_FROM_FUTURE".to_owned()));
    }

    #[test]
    fn nothing_is_forgotten_while_its_key_is_accepted() {
        for born in 0..20 {
            for from in 0..20 {
                let forgotten = may_forget(at(born), at(5), at(from));
                let refused = admit(at(born), at(20), at(from)).is_err();
                assert!(!forgotten || refused, "born at {born}, refused before {from}");
            }
        }
        assert!(!may_forget(at(1), at(9), at(9)), "it ended too lately");
    }

    #[test]
    fn a_key_in_use_holds_the_others_back() {
        let window = Duration::from_secs(100);
        assert_eq!(wanted(at(50), window, None), at(0));
        assert_eq!(wanted(at(500), window, None), at(400));
        assert_eq!(wanted(at(500), window, Some(at(450))), at(400));
        assert_eq!(wanted(at(500), window, Some(at(300))), at(300));
    }
}
