//! `dbfs down`: stops a local installation.

use std::path::PathBuf;
use std::time::Duration;

use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use client::cli::profile::Store;
use rustix::process::Signal;

use super::launch::stop_all;
use super::layout::Home;
use super::process::{Identity, Running};
use super::up::home_of;

const POLL: Duration = Duration::from_millis(50);

/// Stops the local installation; its files stay, and `dbfs up` starts it again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The installation's directory. Default: $XDG_DATA_HOME/dbfs/local
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also delete everything that it stores
    #[arg(long)]
    purge: bool,
}

/// Runs the command.
///
/// # Errors
/// Nothing runs there, or what it stores cannot be deleted.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let home = home_of(context, args.data)?;
    if !home.exists() {
        return Err(Failure::new(
            Exit::NotFound,
            "E_NOT_RUNNING",
            format!("there is no installation in {}", home.path().display()),
        )
        .hint("name its directory with --data"));
    }
    if args.purge {
        let question = format!(
            "Delete the installation in {} with all its files?",
            home.path().display()
        );
        context.console.confirm(&question)?;
    }
    let stopped = stop(context, &home).await;
    if args.purge {
        purge(context, &home)?;
    }
    if context.console.is_json() {
        let directory = home.path().display().to_string();
        return context.console.document(&serde_json::json!({
            "directory": directory, "stopped": stopped, "purged": args.purge,
        }));
    }
    let what = match (stopped, args.purge) {
        (0, false) => "nothing ran; its files are".to_owned(),
        (0, true) => "nothing ran; deleted".to_owned(),
        (count, true) => format!("stopped {count} processes; deleted"),
        (count, false) => format!("stopped {count} processes; their files stay"),
    };
    context
        .console
        .line(&format!("{what} in {}", home.path().display()))
}

/// Stops whatever runs in `home`; how many processes it was.
pub(crate) async fn stop(context: &Context, home: &Home) -> usize {
    let clock = &context.seams.clock;
    // Where the plan cannot be read, the note alone says who runs.
    let plan = home.plan().ok().flatten();
    let look = || match &plan {
        Some(plan) => home.who_runs(plan),
        None => Running::load(&home.running()),
    };
    let running = look();
    let count = running.processes.len();
    if let Some(supervisor) = &running.supervisor {
        // It stops its children itself, and must not start them again.
        supervisor.signal(Signal::TERM);
        while Identity::runs(supervisor) {
            clock.sleep(POLL).await;
        }
    }
    stop_all(&look().processes, clock).await;
    // Nobody runs any more, so that nobody needs the note.
    let _ = std::fs::remove_file(home.running());
    count
}

/// Deletes the installation in `home` and the profiles that lead to it.
///
/// # Errors
/// Something cannot be deleted.
pub(crate) fn purge(context: &Context, home: &Home) -> Result<(), Failure> {
    std::fs::remove_dir_all(home.path())
        .map_err(|error| Failure::local("cannot delete", home.path(), &error))?;
    let Ok(store) = Store::of(&context.environment) else {
        // Without a place for profiles there are none.
        return Ok(());
    };
    if !store.path().exists() {
        return Ok(());
    }
    store.update(|all| {
        all.profiles
            .retain(|_, profile| profile.data_dir.as_deref() != Some(home.path()));
        if all
            .default
            .as_ref()
            .is_some_and(|name| !all.profiles.contains_key(name))
        {
            all.default = None;
        }
    })
}
