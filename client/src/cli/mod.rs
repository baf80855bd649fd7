//! The commands of `dbfs` that speak to an installation: thin over the library, one file each.
//!
//! Contract with people and scripts: stdout is the result only, everything else goes to stderr; `--json` everywhere;
//! errors are `error[CODE]: message` with a hint; exit codes are [`failure::Exit`]; secrets never come from arguments.
//!
//! Owns the command line and what it prints. Does not own how anything is done: that is the library above it.
//! Read [`Command`] first, then `session.rs`, then `upload.rs`.

pub mod codes;
pub mod console;
pub mod context;
pub mod failure;
pub mod human;
pub mod meter;
pub mod options;
pub mod profile;
pub mod session;
pub mod shapes;
pub mod status_shapes;

mod destination;
mod first_contact;
mod fleet;
mod folding;
mod glob;
mod health;
mod kept;
mod partly;
mod remote;
mod resume;
mod secret;
mod send;
mod walk;

mod cluster;
mod delete;
mod download;
mod explain;
mod leader;
mod list;
mod login;
mod mkdir;
mod mv;
mod placement;
mod search;
mod stat;
pub mod status;
mod trash;
mod update;
mod upload;
mod user;
mod version;
mod whoami;

use std::time::Duration;

use context::Context;
use failure::{Exit, Failure};

/// How long a transfer may take to end in order after Ctrl-C: to commit its abort, or to write down where it stopped.
const TRANSFER_GRACE: Duration = Duration::from_secs(15);

/// The commands that speak to an installation.
#[derive(Clone, Debug, clap::Subcommand)]
#[allow(
    missing_docs,
    reason = "the texts stand at the arguments of each, where clap takes them from"
)]
pub enum Command {
    #[command(visible_alias = "put")]
    Upload(upload::Args),
    #[command(visible_alias = "get")]
    Download(download::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    #[command(visible_alias = "find")]
    Search(search::Args),
    Update(update::Args),
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    Trash(trash::Args),
    Mv(mv::Args),
    Mkdir(mkdir::Args),
    Stat(stat::Args),
    Cat(download::CatArgs),
    Placement(placement::Args),
    Status(status::Args),
    Leader(leader::Args),
    Login(login::Args),
    Logout(login::LogoutArgs),
    Whoami(whoami::Args),
    User(user::Args),
    Cluster(cluster::Args),
    Explain(explain::Args),
    Version(version::Args),
}

/// How long `command` may take to end in order after a signal.
pub const fn grace(command: &Command) -> Duration {
    match command {
        Command::Upload(_) | Command::Download(_) | Command::Update(_) => TRANSFER_GRACE,
        _ => Duration::ZERO,
    }
}

/// Runs `command` until it ends or the context's shutdown is given.
///
/// # Errors
/// What the command failed with; after a shutdown it ends with 130, whatever it failed with.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let grace = grace(&command);
    let result = tokio::select! {
        biased;
        result = Box::pin(dispatch(context, command)) => result,
        () = async {
            context.shutdown.triggered().await;
            context.seams.clock.sleep(grace).await;
        } => Err(Failure::interrupted()),
    };
    match result {
        Ok(()) => context.console.flush(),
        Err(mut failure) => {
            // What was done already is told all the same.
            let _ = context.console.flush();
            if context.shutdown.is_triggered() && !failure.is_silent() {
                failure.exit = Exit::Interrupted;
            }
            Err(context.explain_login(failure))
        }
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Upload(args) => upload::run(context, args).await,
        Command::Download(args) => download::run(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Search(args) => search::run(context, args).await,
        Command::Update(args) => update::run(context, args).await,
        Command::Delete(args) => delete::run(context, args).await,
        Command::Trash(args) => trash::run(context, args).await,
        Command::Mv(args) => mv::run(context, args).await,
        Command::Mkdir(args) => mkdir::run(context, args).await,
        Command::Stat(args) => stat::run(context, args).await,
        Command::Cat(args) => download::cat(context, args).await,
        Command::Placement(args) => placement::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Leader(args) => leader::run(context, args).await,
        Command::Login(args) => login::run(context, args).await,
        Command::Logout(args) => login::logout(context, args).await,
        Command::Whoami(args) => whoami::run(context, args).await,
        Command::User(args) => user::run(context, args).await,
        Command::Cluster(args) => cluster::run(context, args).await,
        Command::Explain(args) => explain::run(context, &args),
        Command::Version(args) => version::run(context, &args),
    }
}
