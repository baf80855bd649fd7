//! One signal that tells every task of a process, or of a part of it, to end.

use tokio_util::sync::CancellationToken;

/// A cloneable handle: anyone may trigger it, everyone sees it. A child ends with its parent, not the reverse.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that is also given when this one is.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Gives the signal. Giving it again does nothing.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the signal has been given.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when the signal is given.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` until it ends or the signal is given; `None` then, and `work` is dropped.
    pub async fn guard<F: Future>(&self, work: F) -> Option<F::Output> {
        self.0.run_until_cancelled(work).await
    }
}
