//! Signals and the lifeline: how a process learns that it is to end.
//!
//! The first SIGINT or SIGTERM asks for an end in order, the second ends at once. SIGHUP ends a command, but makes a server
//! read its certificates anew: it may be nothing but the end of the session that it was started from. A role that `dbfs up` started holds a
//! pipe from it as stdin (the lifeline): when the pipe closes, its parent is gone, however it died, and the role ends
//! too, so that no process stays behind. A parent that means to leave its children running says so first.

use std::io::Read;
use std::time::Duration;

use client::cli::failure::Exit;
use common::reload::Reload;
use common::shutdown::Shutdown;
use common::time::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a parent writes into the lifeline before it leaves its children running.
pub(crate) const DETACH: u8 = b'D';

/// How long a role may take to end in order after its parent is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// What a process does about a hangup: the terminal that it was started from is gone, or somebody sends one on purpose.
#[derive(Clone, Debug)]
pub(crate) enum Hangup {
    /// A command ends, unless it was started so that hangups are ignored (`nohup`).
    End,
    /// A server reads its certificates anew and goes on.
    Reload(Reload),
}

/// Gives `shutdown` at the first signal to end and ends the process at the second. A signal that was ignored when this
/// process was started stays ignored.
///
/// # Errors
/// The operating system lets nobody listen.
pub(crate) fn listen(shutdown: &Shutdown, hangup: Hangup) -> std::io::Result<()> {
    let ignored = ignored();
    let is_ignored = |kind: SignalKind| ignored & (1 << (kind.as_raw_value() - 1)) != 0;
    let on = |kind| (!is_ignored(kind)).then(|| signal(kind)).transpose();
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (mut ending, mut reloading) = match &hangup {
        Hangup::End => (on(SignalKind::hangup())?, None),
        // Also where it was ignored: a server that nohup started is told to reload in the same way.
        Hangup::Reload(_) => (None, Some(signal(SignalKind::hangup())?)),
    };
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = next(&mut interrupt) => {}
                _ = terminate.recv() => {}
                () = next(&mut ending) => {}
                () = next(&mut reloading) => {
                    if let Hangup::Reload(reload) = &hangup {
                        tracing::info!("told to read the certificates anew");
                        reload.request();
                    }
                    continue;
                }
            }
            if shutdown.is_triggered() {
                end_at_once();
            }
            shutdown.trigger();
        }
    });
    Ok(())
}

/// The next signal; never, where it is not listened for.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The signals that this process was started to ignore, a bit each from the lowest number on.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
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
