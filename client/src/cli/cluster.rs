//! `dbfs cluster`: what an administrator does to a whole cluster.

use super::context::Context;
use super::failure::Failure;
use super::human;

/// Sets aside clusters that are lost.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Sets aside a cluster that is lost for good (admin): nothing waits for it any more, and it is refused if it comes back
    Retire(NameArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct NameArgs {
    /// The cluster's name, as `dbfs status` shows it
    name: String,
}

/// Runs the command.
///
/// # Errors
/// Not allowed, there is no such cluster, or it still reports.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Verb::Retire(NameArgs { name }) = args.verb;
    let shown = human::plain(&name);
    context.console.confirm(&format!(
        "Retire cluster {shown} for good? Files that only it holds cannot be read any more."
    ))?;
    let session = context.session(None).await?;
    session.client.retire_cluster(&name).await?;
    if context.console.is_json() {
        return context.console.document(&serde_json::json!({ "retired": name }));
    }
    context.console.line(&format!("cluster {shown} is retired"))
}
