//! `dbfs up`: a local installation, from nothing or from what is there, ready to be used when it says so.
//!
//! Invariant: one process that cannot start takes no other one down. What can start is started, what did not is told with
//! its reason, and the command fails only where the installation cannot serve.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use client::Client;
use client::cli::console::Colour;
use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use client::cli::human;
use client::cli::profile::{Profile, Store};
use client::cli::session::Target;
use client::names::Login;
use common::time::WallTime;

use super::beside;
use super::launch::{Ended, Fleet};
use super::layout::{Durability, Home, Kind, Plan, Size};
use super::ready::{self, ADMIN};
use super::restarts::{RESTARTS_WINDOW, Restarts};
use super::{down, ports, settle};
use crate::config::Config;

const WATCH_PERIOD: Duration = Duration::from_millis(300);
/// Starts a local installation: supernodes, clusters of nodes, TLS, an admin, and a profile to use it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The first `dbfs up` makes an installation, later ones start it again with all its files. It runs until Ctrl-C, or with
--detach until `dbfs down`. Everything listens on loopback only.")]
pub(crate) struct Args {
    /// Clusters (default 2)
    #[arg(long, value_name = "N")]
    clusters: Option<u32>,
    /// Nodes per cluster (default 3)
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Supernodes: 1, 3 or 5 (default 3)
    #[arg(long, value_name = "N")]
    supernodes: Option<u32>,
    /// The installation's directory. Default: $XDG_DATA_HOME/dbfs/local
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen on this port and those that follow. Default: ports that are free
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    first_port: Option<u16>,
    /// Return when it is ready and leave it running
    #[arg(long)]
    detach: bool,
    /// Delete what is there and begin anew
    #[arg(long)]
    reset: bool,
    /// What is promised: full, or reduced where fewer than three nodes are enough for you
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    durability: Option<Durability>,
}

/// The directory that is meant.
///
/// # Errors
/// None is named, and there is no home directory.
pub(crate) fn home_of(context: &Context, named: Option<PathBuf>) -> Result<Home, Failure> {
    if let Some(directory) = named {
        let whole = std::path::absolute(&directory);
        return whole
            .map(Home::new)
            .map_err(|error| Failure::local("cannot use", &directory, &error));
    }
    let base = context
        .environment
        .xdg("XDG_DATA_HOME", ".local/share")
        .ok_or_else(|| {
            Failure::new(Exit::Other, "E_NO_HOME", "neither HOME nor XDG_DATA_HOME is set")
                .hint("name a directory with --data")
        })?;
    Ok(Home::new(base.join("dbfs").join("local")))
}

/// Runs the command.
///
/// # Errors
/// It does not fit what is there, or the installation cannot serve.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    // What an installation keeps is for its user alone (P9).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let home = home_of(context, args.data.clone())?;
    if args.reset {
        reset(context, &home).await?;
    }
    // Looked at before anything is created: a wrong command line touches nothing, and neither does a user without a
    // place for the profile that is written at the end.
    let existing = home.plan()?;
    let size = wanted(&args, existing.as_ref())?;
    settle::check_ours(&home)?;
    Store::of(&context.environment)?;
    settle::create_private(home.path())?;
    let Some(lock) = lock(&home)? else {
        return beside::another_up(context, &home, existing.as_ref()).await;
    };
    let mut plan = match existing {
        Some(plan) => plan,
        None => {
            Store::of(&context.environment)?.check_writable()?;
            let durability = args.durability.unwrap_or_default();
            settle_new(context, &home, size, durability, args.first_port, |_| ())?
        }
    };
    let running = home.who_runs(&plan);
    if running.processes.len() == plan.processes().len() {
        return already_running(context, &home);
    }
    let mut fleet = Fleet::new(home.clone(), running);
    let up = match bring_up(context, &home, &mut plan, &mut fleet).await {
        Ok(up) => up,
        Err(failure) => {
            // What ran before goes on.
            fleet.stop_children(&context.seams.clock).await;
            return Err(failure);
        }
    };
    let shown = banner(context, &home, &plan, &up, args.detach);
    if args.detach {
        fleet.detach();
        return shown;
    }
    // A reader of the banner that went away is no reason to end.
    let missing = up.missing.into_iter().map(|ended| ended.name).collect();
    let supervised = supervise(context, &home, &plan, &mut fleet, missing).await;
    context.console.note("stopping");
    fleet.stop(&context.seams.clock).await;
    drop(lock);
    supervised
}

fn wanted(args: &Args, existing: Option<&Plan>) -> Result<Size, Failure> {
    if let Some(plan) = existing {
        let size = plan.size();
        let differs = |asked: Option<u32>, is: u32| asked.is_some_and(|asked| asked != is);
        if differs(args.clusters, size.clusters)
            || differs(args.nodes, size.nodes)
            || differs(args.supernodes, size.supernodes)
            || args.first_port.is_some_and(|asked| !plan.begins_at(asked))
            || args.durability.is_some_and(|asked| asked != plan.durability)
        {
            return Err(Failure::new(
                Exit::Conflict,
                "E_EXISTS",
                format!(
                    "there is an installation of {} supernodes and {} clusters of {} nodes already",
                    size.supernodes, size.clusters, size.nodes
                ),
            )
            .hint("start it without these options, name another directory with --data, or delete it with --reset"));
        }
        return Ok(size);
    }
    let size = Size {
        supernodes: args.supernodes.unwrap_or(3),
        clusters: args.clusters.unwrap_or(2),
        nodes: args.nodes.unwrap_or(3),
    };
    size.check(args.durability.unwrap_or_default())?;
    Ok(size)
}

async fn reset(context: &Context, home: &Home) -> Result<(), Failure> {
    if !home.exists() {
        return Ok(());
    }
    let question = format!(
        "Delete the installation in {} with all its files?",
        home.path().display()
    );
    context.console.confirm(&question)?;
    down::stop(context, home).await;
    down::purge(context, home)
}

fn lock(home: &Home) -> Result<Option<File>, Failure> {
    let fail = |error: std::io::Error| Failure::local("cannot use", home.path(), &error);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(home.lock())
        .map_err(fail)?;
    Ok(file.try_lock().is_ok().then_some(file))
}

/// Makes the files of a new installation. `tune` has the last word on every configuration.
///
/// # Errors
/// There are too few free ports, one from `first_port` on is taken, or a file cannot be made.
pub(crate) fn settle_new(
    context: &Context,
    home: &Home,
    size: Size,
    durability: Durability,
    first_port: Option<u16>,
    tune: impl Fn(&mut Config),
) -> Result<Plan, Failure> {
    let count = size.ports();
    let ports = match first_port {
        Some(first) => ports::from(first, count)?,
        None => ports::free(count, &context.seams.random),
    };
    let plan = Plan::new(size, durability, ports.into_iter()).ok_or_else(|| {
        let message = "there are not enough free ports on loopback";
        Failure::new(Exit::Unavailable, "E_ADDRESS", message)
    })?;
    settle::settle(home, &plan, &context.seams.random, tune)?;
    Ok(plan)
}

/// An installation that is ready to be used.
#[derive(Debug)]
pub(crate) struct Up {
    /// The profile that leads to it; `None` where nobody could log in.
    pub(crate) profile: Option<String>,
    /// A client that is logged in as its admin, where there is a profile.
    pub(crate) client: Client,
    /// Processes that do not run.
    pub(crate) missing: Vec<Ended>,
}

/// Starts what does not run, waits until all that can be is ready, and writes the profile.
///
/// # Errors
/// The installation cannot serve; processes that did come up are left to the caller.
pub(crate) async fn bring_up(
    context: &Context,
    home: &Home,
    plan: &mut Plan,
    fleet: &mut Fleet,
) -> Result<Up, Failure> {
    let (target, password) = target(home, plan)?;
    let missing = fleet.start_all(plan);
    let ready = ready::wait(context, &target, password.as_deref(), plan, fleet, missing).await?;
    if !plan.founded && ready.is_founded {
        plan.founded = true;
        home.keep(plan)?;
    }
    for ended in &ready.missing {
        context.console.warn(&ended.told());
    }
    if !ready.waiting.is_empty() {
        context
            .console
            .warn(&format!("not ready yet: {}", ready.waiting.join(", ")));
    }
    let profile = match (&ready.login, password) {
        (Some(login), Some(password)) => match write_profile(context, home, &target, password, login) {
            Ok(name) => Some(name),
            Err(failure) => {
                context.console.warn(&failure.message);
                None
            }
        },
        _ => {
            let file = home.password_file();
            context.console.warn(&format!(
                "{} is not the admin's password any more: log in with `dbfs login`",
                file.display()
            ));
            None
        }
    };
    Ok(Up {
        profile,
        client: ready.client,
        missing: ready.missing,
    })
}

/// How to reach the installation in `home`, and the admin's password where it is known.
fn target(home: &Home, plan: &Plan) -> Result<(Target, Option<String>), Failure> {
    let ca = home.ca().join("ca.pem");
    let target = Target {
        supernodes: plan.seeds(),
        ca_pem: std::fs::read_to_string(&ca).map_err(|error| Failure::local("cannot read", &ca, &error))?,
        profile: None,
    };
    let password = std::fs::read_to_string(home.password_file()).ok();
    Ok((target, password.map(|text| text.trim().to_owned())))
}

fn write_profile(
    context: &Context,
    home: &Home,
    target: &Target,
    password: String,
    login: &Login,
) -> Result<String, Failure> {
    let now = context.seams.clock.wall().as_millis();
    let lifetime = u64::try_from(login.expires_in.as_millis()).unwrap_or(u64::MAX);
    let profile = Profile {
        supernodes: target.supernodes.clone(),
        ca_pem: target.ca_pem.clone(),
        user: ADMIN.to_owned(),
        token: Some(login.token.clone()),
        token_expires: Some(WallTime::from_millis(now.saturating_add(lifetime))),
        password: Some(password),
        data_dir: Some(home.path().to_owned()),
    };
    let store = Store::of(&context.environment)?;
    let known = store.load()?;
    // A profile that somebody logged in with is theirs.
    let is_ours = |name: &str| {
        known
            .profiles
            .get(name)
            .is_none_or(|profile| profile.data_dir.is_some())
    };
    let wanted = context
        .options
        .profile
        .clone()
        .unwrap_or_else(|| "local".to_owned());
    let name = if is_ours(&wanted) {
        wanted
    } else {
        format!("{wanted}-up")
    };
    store.update(|all| {
        all.profiles.insert(name.clone(), profile);
        all.default = Some(name.clone());
    })?;
    Ok(name)
}

pub(super) fn already_running(context: &Context, home: &Home) -> Result<(), Failure> {
    let directory = home.path().display().to_string();
    if context.console.is_json() {
        return context
            .console
            .document(&serde_json::json!({ "directory": directory, "already_running": true }));
    }
    context
        .console
        .line(&format!("DBFS runs already in {directory}"))?;
    context.console.line("  dbfs status    how it does")?;
    context.console.line("  dbfs down      stops it")
}

fn banner(context: &Context, home: &Home, plan: &Plan, up: &Up, detached: bool) -> Result<(), Failure> {
    let console = &context.console;
    let directory = home.path().display().to_string();
    if console.is_json() {
        console.document(&serde_json::json!({
            "directory": directory, "profile": up.profile, "user": ADMIN, "supernodes": plan.seeds(),
            "clusters": plan.clusters.iter().map(|cluster| &cluster.name).collect::<Vec<_>>(),
            "password_file": home.password_file().display().to_string(),
            "missing": up.missing.iter().map(|ended| &ended.name).collect::<Vec<_>>(),
        }))?;
        return console.flush();
    }
    let copies = match plan.durability {
        Durability::Full => "two copies of every chunk, all on this machine and disk",
        Durability::Reduced => "reduced durability",
    };
    console.line("")?;
    console.line(&console.paint_out(
        Colour::Bold,
        &format!(
            "DBFS is up{}: {}, {} of {}, TLS, {copies}",
            match up.missing.len() as u64 {
                0 => String::new(),
                missing => format!(
                    " without {}",
                    match missing {
                        1 => "one of its processes".to_owned(),
                        more => format!("{more} of its processes"),
                    }
                ),
            },
            human::count(plan.supernodes.len() as u64, "supernode"),
            human::count(plan.clusters.len() as u64, "cluster"),
            human::count(u64::from(plan.size().nodes), "node"),
        ),
    ))?;
    let addresses = |processes: &[super::layout::Process]| {
        processes
            .iter()
            .map(|process| process.control.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    console.line(&format!("  supernodes  {}", addresses(&plan.supernodes)))?;
    for cluster in &plan.clusters {
        console.line(&format!("  {:<10}  {}", cluster.name, addresses(&cluster.nodes)))?;
    }
    console.line(&format!("  directory   {directory} (logs in logs/)"))?;
    let password = home.password_file().display().to_string();
    let profile = up.profile.as_deref();
    let profile = profile.map_or("no profile".to_owned(), |name| format!("profile '{name}'"));
    console.line(&format!(
        "  user        {ADMIN}, password in {password}, {profile}"
    ))?;
    console.line("")?;
    console.line("Next:")?;
    console.line(&format!("  dbfs upload FILE /{ADMIN}/"))?;
    console.line("  dbfs list -l")?;
    console.line("  dbfs status --watch")?;
    console.line("")?;
    console.line(if detached {
        "`dbfs down` stops it; `dbfs up` starts it again with all its files."
    } else {
        "Ctrl-C stops it; `dbfs up` starts it again with all its files."
    })?;
    console.flush()
}

/// Stays with the children until the signal to end; starts again who ends by itself, and those that are `missing`.
async fn supervise(
    context: &Context,
    home: &Home,
    plan: &Plan,
    fleet: &mut Fleet,
    missing: Vec<String>,
) -> Result<(), Failure> {
    if let Err(failure) = fleet.supervise() {
        context.console.warn(&failure.message);
    }
    let clock = &context.seams.clock;
    let mut restarts = Restarts::default();
    for name in missing {
        restarts.gave_up(name, clock.moment());
    }
    while !context.shutdown.is_triggered() {
        for ended in fleet.ended() {
            let text = format!("{} ended ({})", ended.name, ended.how);
            if restarts.ended(&ended.name, clock.moment()) {
                context.console.warn(&format!("{text}; starting it again"));
            } else {
                context.console.warn(&format!(
                    "{} ended again and again; it is tried every {} s from now on: {}",
                    ended.name,
                    RESTARTS_WINDOW.as_secs(),
                    ended.told()
                ));
            }
        }
        if home.request().exists() {
            restarts.all_due();
            // Where it cannot be removed they are tried again at once, which does no harm.
            let _ = std::fs::remove_file(home.request());
        }
        for (process, kind, _) in plan.processes() {
            let kind: Kind<'_> = kind;
            if !restarts.is_due(&process.name, clock.moment()) || fleet.runs(&process.name) {
                continue;
            }
            if let Err(failure) = fleet.start(&process.name, kind, false) {
                context.console.warn(&failure.message);
                restarts.gave_up(process.name.clone(), clock.moment());
            }
        }
        tokio::select! {
            () = clock.sleep(WATCH_PERIOD) => {}
            () = context.shutdown.triggered() => {}
        }
    }
    Ok(())
}
