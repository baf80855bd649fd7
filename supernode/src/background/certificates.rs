//! Notices when the identity on disk was replaced, and gives new connections the new one; old connections live on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::tls::{ALPN_CONTROL, Error, Identity, Reloadable};

use crate::context::Context;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// What an identity consists of.
const FILES: [&str; 3] = ["ca.pem", "node.pem", "node.key"];

pub(super) async fn run(context: Arc<Context>) {
    let directory = context.config.identity_dir.clone();
    let mut seen = read(&directory);
    loop {
        context.clock.sleep(PERIOD).await;
        let now = read(&directory);
        if now == seen || now.is_none() {
            continue;
        }
        match replace(&directory, &context.tls) {
            Ok(()) => {
                seen = now;
                tracing::info!(directory = %directory.display(), "identity replaced: new connections get it");
            }
            // Perhaps only some of the files are new yet: looked at again.
            Err(error) => tracing::warn!(%error, "the identity on disk cannot be used, the old one stays"),
        }
    }
}

/// The files' content; `None` while one of them cannot be read.
fn read(directory: &Path) -> Option<Vec<zeroize::Zeroizing<Vec<u8>>>> {
    let contents = FILES.iter().map(|name| std::fs::read(directory.join(name)).ok());
    contents
        .map(|content| content.map(zeroize::Zeroizing::new))
        .collect()
}

fn replace(directory: &Path, tls: &Reloadable) -> Result<(), Error> {
    let identity = Identity::load(directory)?;
    tls.replace(identity.server_config(ALPN_CONTROL)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use common::tls::{Authority, Role, install_provider};

    use super::*;

    #[test]
    fn a_broken_identity_leaves_the_old_one_in_force() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let own = directory.path().join("own");
        authority.issue(&Role::Supernode, &[], &own).unwrap();
        let first = Identity::load(&own).unwrap().server_config(ALPN_CONTROL).unwrap();
        let tls = Reloadable::new(first);
        let (before, seen) = (tls.current(), read(&own));
        assert_eq!(seen, read(&own));
        authority.issue(&Role::Supernode, &[], &own).unwrap();
        assert_ne!(seen, read(&own));
        replace(&own, &tls).unwrap();
        let after = tls.current();
        assert!(!Arc::ptr_eq(&before, &after));
        std::fs::write(own.join("node.key"), "half a file").unwrap();
        assert!(replace(&own, &tls).is_err());
        assert!(Arc::ptr_eq(&after, &tls.current()));
    }
}
