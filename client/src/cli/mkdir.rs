//! `dbfs mkdir`: directories.

use super::context::Context;
use super::failure::Failure;
use super::human;
use super::remote::{Remote, profile_of};
use super::shapes::EntryShape;

/// Creates directories and their missing parents; one that exists is fine.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Remote directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Print what would be created
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// A file is in the way, or it is not allowed.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remotes = args
        .paths
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Remote>, Failure>>()?;
    let session = context.session(profile_of(&remotes)?).await?;
    for remote in &remotes {
        if args.dry_run {
            context.console.line(&human::plain(remote.path.as_str()))?;
            continue;
        }
        let entry = session.client.make_directory(&remote.path).await?;
        if context.console.is_json() {
            context.console.object(&EntryShape::from(&entry))?;
        } else {
            context
                .console
                .line(&format!("{}/", human::plain(entry.path.as_str())))?;
        }
    }
    Ok(())
}
