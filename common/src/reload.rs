//! Certificates that are replaced while a process runs: on request (SIGHUP), and when the files are seen to have changed.
//!
//! Invariant: an identity that cannot be used changes nothing. New connections get the new one, old ones live on.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::time::Clock;
use crate::tls::{Error, Identity};

/// How often the files are looked at without a request.
const PERIOD: Duration = Duration::from_secs(5);
/// What an identity consists of.
const FILES: [&str; 3] = ["ca.pem", "node.pem", "node.key"];

/// A cloneable handle: anyone may ask a process to read its certificates anew.
#[derive(Clone, Debug)]
pub struct Reload(watch::Sender<u64>);

impl Default for Reload {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Reload {
    /// Asks for it.
    pub fn request(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// Hands the identity in `directory` to `replace` whenever its files have changed, or `reload` is requested. Runs until it
/// is dropped.
pub async fn follow_identity(
    directory: &Path,
    reload: &Reload,
    clock: &Clock,
    replace: impl Fn(&Identity) -> Result<(), Error>,
) {
    let mut requests = reload.0.subscribe();
    let mut seen = read(directory);
    loop {
        let is_asked = tokio::select! {
            // The sender lives as long as `reload`.
            _ = requests.changed() => true,
            () = clock.sleep(PERIOD) => false,
        };
        let now = read(directory);
        if !is_asked && (now == seen || now.is_none()) {
            continue;
        }
        match Identity::load(directory).and_then(|identity| replace(&identity)) {
            Ok(()) => {
                seen = now;
                tracing::info!(directory = %directory.display(), "identity read anew: new connections get it");
            }
            // Perhaps only some of the files are new yet: looked at again.
            Err(error) => tracing::warn!(
                error = %crate::error::chain(&error),
                "the identity on disk cannot be used, the one in force stays"
            ),
        }
    }
}

/// Digests of the files; `None` while one of them cannot be read.
fn read(directory: &Path) -> Option<Vec<blake3::Hash>> {
    let digest = |name: &&str| Some(blake3::hash(&std::fs::read(directory.join(name)).ok()?));
    FILES.iter().map(digest).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::time::ManualTime;
    use crate::tls::{ALPN_CONTROL, Authority, Reloadable, Role, install_provider};

    #[tokio::test]
    async fn an_identity_is_replaced_on_request_and_when_it_changes_but_never_by_a_broken_one() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let own = directory.path().join("own");
        authority.issue(&Role::Supernode, &[], &own).unwrap();
        let first = Identity::load(&own).unwrap().server_config(ALPN_CONTROL).unwrap();
        let tls = Reloadable::new(first);
        let (reload, time) = (Reload::default(), ManualTime::default());
        let following = tokio::spawn({
            let (own, reload, clock, tls) = (own.clone(), reload.clone(), time.clock(), tls.clone());
            async move {
                let replace = |identity: &Identity| {
                    tls.replace(identity.server_config(ALPN_CONTROL)?);
                    Ok(())
                };
                follow_identity(&own, &reload, &clock, replace).await;
            }
        });
        let replaced = async |before: &Arc<rustls::ServerConfig>| {
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
                if !Arc::ptr_eq(before, &tls.current()) {
                    return true;
                }
            }
            false
        };
        let before = tls.current();
        while reload.0.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        reload.request();
        assert!(replaced(&before).await, "a request");
        let before = tls.current();
        authority.issue(&Role::Supernode, &[], &own).unwrap();
        time.advance(PERIOD);
        assert!(replaced(&before).await, "new files");
        let before = tls.current();
        std::fs::write(own.join("node.key"), "half a file").unwrap();
        reload.request();
        time.advance(PERIOD);
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(Arc::ptr_eq(&before, &tls.current()), "a broken file");
        following.abort();
    }
}
