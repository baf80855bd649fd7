//! Signals and the lifeline: how a process learns that it is to end.
//!
//! The first SIGINT or SIGTERM asks for an end in order, the second ends at once. A role that `dbfs up` started holds a
//! pipe from it as stdin (the lifeline): when the pipe closes, its parent is gone, however it died, and the role ends
//! too, so that no process stays behind. A parent that means to leave its children running says so first.

use std::io::Read;
use std::time::Duration;

use client::cli::failure::Exit;
use common::shutdown::Shutdown;
use common::time::Clock;
use tokio::signal::unix::{SignalKind, signal};

/// What a parent writes into the lifeline before it leaves its children running.
pub(crate) const DETACH: u8 = b'D';

/// How long a role may take to end in order after its parent is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Gives `shutdown` at the first signal and ends the process at the second.
///
/// # Errors
/// The operating system lets nobody listen.
pub(crate) fn listen(shutdown: &Shutdown) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if shutdown.is_triggered() {
                end_at_once();
            }
            shutdown.trigger();
        }
    });
    Ok(())
}

/// Ends this process when its parent is gone.
pub(crate) fn hold_lifeline(shutdown: &Shutdown, clock: &Clock) {
    let (gone, parent_gone) = tokio::sync::oneshot::channel();
    // A thread of its own: a blocking read that must keep nothing from ending.
    std::thread::spawn(move || {
        let mut byte = [0];
        let detached = matches!(std::io::stdin().read(&mut byte), Ok(1)) && byte == [DETACH];
        if !detached {
            // An error means that the process ends already.
            let _ = gone.send(());
        }
    });
    let (shutdown, clock) = (shutdown.clone(), clock.clone());
    tokio::spawn(async move {
        if parent_gone.await.is_ok() {
            tracing::info!("the process that started this one is gone");
            shutdown.trigger();
            clock.sleep(ORPHAN_GRACE).await;
            end_at_once();
        }
    });
}

#[allow(
    clippy::disallowed_methods,
    reason = "whoever asks twice wants no further waiting"
)]
fn end_at_once() -> ! {
    std::process::exit(Exit::Interrupted.number().into())
}
