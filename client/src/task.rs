//! Tasks whose end is noticed: one that panicked is told as that, with its message, to whoever waits for its results.

use std::any::Any;
use std::fmt;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::task::{AbortHandle, JoinHandle};

use crate::error::Error;

/// A cloneable handle to a task that sends its results through a channel. When the channel is closed too early, it
/// tells why.
#[derive(Clone)]
pub(crate) struct Watched(Shared<BoxFuture<'static, Ended>>);

#[derive(Clone)]
enum Ended {
    Done,
    Cancelled,
    Panicked(String),
}

impl Watched {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        let end = task.map(|end| match end.map_err(Error::of_task) {
            Ok(()) => Ended::Done,
            Err(Error::Panicked(message)) => Ended::Panicked(message),
            Err(_) => Ended::Cancelled,
        });
        Self(end.boxed().shared())
    }

    /// Why the task gives no more results; waits for its end.
    pub(crate) async fn reason(&self) -> Error {
        match self.0.clone().await {
            Ended::Done => Error::Panicked("a task ended before its last result".to_owned()),
            Ended::Cancelled => Error::Interrupted,
            Ended::Panicked(message) => Error::Panicked(message),
        }
    }

    /// Fails where the task has panicked; waits for its end.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        match self.0.clone().await {
            Ended::Done => Ok(()),
            Ended::Cancelled | Ended::Panicked(_) => Err(self.reason().await),
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

/// Ends a task when it is dropped.
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::error::Kind;

    #[tokio::test]
    async fn a_panic_is_told_with_its_message_to_everyone_who_waits() {
        let watched = Watched::new(tokio::spawn(async { panic!("the wheel came {}", "off") }));
        for waiting in [watched.clone(), watched.clone()] {
            let error = waiting.reason().await;
            assert_eq!((error.code(), error.kind()), ("E_PANIC", Kind::Fatal));
            assert!(error.to_string().contains("the wheel came off"), "{error}");
        }
        assert!(watched.check().await.is_err());
    }

    #[tokio::test]
    async fn a_task_that_was_ended_is_an_interruption() {
        let task = tokio::spawn(std::future::pending());
        drop(AbortOnDrop(task.abort_handle()));
        assert!(matches!(Watched::new(task).reason().await, Error::Interrupted));
    }
}
