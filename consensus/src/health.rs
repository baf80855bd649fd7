//! Whether this member may go on. The first failure counts and is final.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;

/// A cloneable handle.
#[derive(Clone)]
pub(crate) struct Health(Arc<watch::Sender<Option<String>>>);

impl Health {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Ends the member, for `reason`.
    pub(crate) fn fail(&self, reason: impl std::fmt::Display) {
        self.0.send_if_modified(|current| {
            if current.is_some() {
                return false;
            }
            let reason = reason.to_string();
            tracing::error!(%reason, "this member of the group ends");
            *current = Some(reason);
            true
        });
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match &*self.0.borrow() {
            Some(reason) => Err(Error::fatal(reason)),
            None => Ok(()),
        }
    }

    /// Resolves when the member has failed.
    pub(crate) async fn failed(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}
