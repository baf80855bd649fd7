//! `dbfs supernode` and `dbfs chunkserver`: one role in the foreground, until SIGTERM, SIGINT or the end of the lifeline.
//!
//! Invariant (P11): whatever makes a start impossible is told in one line with a code and a hint, before anything on
//! disk is touched, and the process ends with a number other than 0.

use std::path::PathBuf;

use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use common::error::{Kind, chain};
use common::standing::Standing;
use prometheus::Registry;

use crate::config::{self, Config};
use crate::{logs, metrics, signals};

/// Runs a role of the installation in the foreground.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Found a new group here, where there is none yet. Exactly one member of a group is started so, once
    #[arg(long)]
    found: bool,
    /// Set a key of the configuration, for example log.filter=debug (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// End when stdin closes: the process that started this one is gone
    #[arg(long, hide = true)]
    lifeline: bool,
    /// The file that stderr leads to: it is kept within bounds
    #[arg(long, hide = true, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Runs a supernode.
///
/// # Errors
/// It cannot start or go on.
pub(crate) async fn supernode(context: &Context, args: Args) -> Result<(), Failure> {
    let mut config = prepare(context, &args)?;
    config.supernode.found |= args.found;
    let own = config.supernode.clone();
    own.validate().map_err(|error| refused(&error))?;
    check_identity(&own.identity_dir)?;
    let (registry, standing) = observe(context, &config).await?;
    let seams = supernode::Seams {
        clock: context.seams.clock.clone(),
        random: context.seams.random.clone(),
        network: context.seams.network.clone(),
        shutdown: context.shutdown.clone(),
        metrics: registry,
        standing,
        reload: context.reload.clone(),
    };
    supernode::run(own, seams)
        .await
        .map_err(|error| ended("supernode", error.kind(), &error))
}

/// Serves the metrics and health answers of a role that begins.
async fn observe(context: &Context, config: &Config) -> Result<(Registry, Standing), Failure> {
    let (registry, standing) = (Registry::new(), Standing::default());
    metrics::serve(
        &config.metrics,
        &registry,
        &standing,
        &context.seams,
        &context.shutdown,
    )
    .await?;
    Ok((registry, standing))
}

/// Runs a chunkserver.
///
/// # Errors
/// It cannot start or go on.
pub(crate) async fn chunkserver(context: &Context, args: Args) -> Result<(), Failure> {
    let mut config = prepare(context, &args)?;
    config.chunkserver.found |= args.found;
    let own = config.chunkserver.clone();
    own.validate().map_err(|error| refused(&error))?;
    check_identity(&own.identity_dir)?;
    let (registry, standing) = observe(context, &config).await?;
    let seams = chunkserver::Seams {
        clock: context.seams.clock.clone(),
        random: context.seams.random.clone(),
        network: context.seams.network.clone(),
        shutdown: context.shutdown.clone(),
        metrics: registry,
        standing,
        reload: context.reload.clone(),
    };
    chunkserver::run(own, seams)
        .await
        .map_err(|error| ended("chunkserver", error.kind(), &error))
}

fn prepare(context: &Context, args: &Args) -> Result<Config, Failure> {
    // What a server keeps is for its user alone (P9): secrets, digests of passwords, the bytes of files.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut config = config::load(&args.config, &context.environment, &args.set)?;
    common::telemetry::start(&config.log.filter).map_err(|error| {
        Failure::new(
            Exit::Usage,
            "E_CONFIG",
            format!("log.filter is not a filter: {error}"),
        )
        .hint("write for example info, or info,dbfs_consensus=debug")
    })?;
    if let Some(log) = args.log.clone() {
        tokio::spawn(logs::keep_bounded(log, context.seams.clock.clone()));
    }
    if args.lifeline {
        signals::hold_lifeline(&context.shutdown, &context.seams.clock);
    }
    for host in [&mut config.supernode.host, &mut config.chunkserver.host] {
        if host.is_empty() {
            // Not the node's name: two nodes of one machine must not pass for two machines.
            *host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
    }
    Ok(config)
}

fn check_identity(directory: &std::path::Path) -> Result<(), Failure> {
    common::tls::Identity::load(directory)
        .map(|_| ())
        .map_err(|error| {
            Failure::new(Exit::Other, "E_IDENTITY", chain(&error))
                .hint("make an identity with `dbfs cert issue`, and let only this user read node.key")
        })
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Exit::Usage, "E_CONFIG", chain(error))
        .hint("`dbfs config-defaults` lists every key with its default")
}

/// Why a role ended. The kinds say little of what an operator can do, so that the causes that they meet most are told
/// apart by the operating system's words.
fn ended(role: &str, kind: Kind, error: &(dyn std::error::Error + 'static)) -> Failure {
    let text = chain(error);
    if let Some(failure) = directory(error) {
        return failure;
    }
    match io_kind(error) {
        Some(std::io::ErrorKind::AddrInUse) => Failure::new(Exit::Unavailable, "E_ADDRESS", text)
            .hint("another process listens there: stop it, or write another address in the configuration"),
        Some(std::io::ErrorKind::AddrNotAvailable) => {
            Failure::new(Exit::Usage, "E_ADDRESS", text).hint("bind an address of this machine")
        }
        Some(std::io::ErrorKind::PermissionDenied) => Failure::new(Exit::Denied, "E_LOCAL_FILE", text)
            .hint("let the user that runs the process own its data directory"),
        Some(std::io::ErrorKind::StorageFull) => {
            Failure::new(Exit::Full, "E_NO_SPACE", text).hint("make room on the disk; nothing is lost")
        }
        _ => Failure::new(
            Exit::of(kind),
            "E_PROCESS",
            format!("the {role} cannot go on: {text}"),
        ),
    }
}

/// A data directory that this process must not use: somebody else's, or in use.
fn directory(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(consensus::Error::Directory { path, reason }) = error.downcast_ref() {
            let text = format!("cannot use the data directory {}: {reason}", path.display());
            return Some(if reason.starts_with("another process") {
                Failure::new(Exit::Conflict, "E_DATA_DIR_IN_USE", text)
                    .hint("stop that process first, or name another data_dir")
            } else {
                Failure::new(Exit::Usage, "E_DATA_DIR", text)
                    .hint("check data_dir in the configuration; nothing was touched")
            });
        }
        source = error.source();
    }
    None
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}
