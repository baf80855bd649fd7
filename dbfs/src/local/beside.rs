//! `dbfs up` beside another one that stays with its children: that one starts those that are missing.

use std::time::Duration;

use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};

use super::layout::{Home, Plan};
use super::up::already_running;

/// How long the other one may take.
const WAIT_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
/// A process that cannot run ends so soon.
const LASTS_AFTER: Duration = Duration::from_secs(3);

/// Asks the `dbfs up` that holds the lock to start what is missing, and says what still is.
///
/// # Errors
/// There is no plan yet, or a process does not come up.
pub(super) async fn another_up(context: &Context, home: &Home, plan: Option<&Plan>) -> Result<(), Failure> {
    let Some(plan) = plan else {
        let message = format!(
            "another `dbfs up` makes the installation in {}",
            home.path().display()
        );
        return Err(Failure::new(Exit::Unavailable, "E_BUSY", message).hint("wait until it is done"));
    };
    let missing = || -> Vec<String> {
        let running = home.who_runs(plan).processes;
        let all = plan.processes();
        let missing = all
            .iter()
            .filter(|(process, _, _)| !running.contains_key(&process.name));
        missing.map(|(process, _, _)| process.name.clone()).collect()
    };
    let before = missing();
    if before.is_empty() {
        return already_running(context, home);
    }
    let request = home.request();
    std::fs::write(&request, "").map_err(|error| Failure::local("cannot write", &request, &error))?;
    context
        .console
        .note(&format!("starting what is missing: {}", before.join(", ")));
    let clock = &context.seams.clock;
    let began = clock.moment();
    let mut whole_since = None;
    while clock.moment().since(began) < WAIT_MAX {
        if context.shutdown.is_triggered() {
            return Err(Failure::interrupted());
        }
        let now = clock.moment();
        if missing().is_empty() {
            let since = *whole_since.get_or_insert(now);
            if now.since(since) >= LASTS_AFTER {
                return already_running(context, home);
            }
        } else {
            whole_since = None;
        }
        clock.sleep(POLL).await;
    }
    // Whoever did not take it by now must not take it much later.
    let _ = std::fs::remove_file(&request);
    let each: Vec<String> = missing()
        .iter()
        .map(|name| format!("{name} does not run:\n{}", super::launch::tail(&home.log(name))))
        .collect();
    for text in &each {
        context.console.warn(text);
    }
    already_running(context, home)
}
