//! `dbfs mv`: files and directories get another place within their bucket.

use super::context::Context;
use super::failure::Failure;
use super::remote::{Remote, profile_of, sources_and_destination};
use super::shapes::EntryShape;
use super::{destination, human};

/// Moves or renames files and directories within one bucket, in one step each, whatever they contain.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Remote files, directories or patterns; last the destination
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    paths: Vec<String>,
    /// Take the place of a file that is there
    #[arg(long)]
    replace: bool,
    /// Print what would be moved
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// Something is in the way, or source and destination are in different buckets.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (sources, to) = sources_and_destination(&args.paths)?;
    let to: Remote = to.parse()?;
    let sources = sources
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Remote>, Failure>>()?;
    let session = context.session(profile_of(sources.iter().chain([&to]))?).await?;
    let mut entries = Vec::new();
    for source in &sources {
        entries.extend(destination::expand(&session.client, source).await?);
    }
    let into = destination::is_directory(&session.client, &to).await? || entries.len() > 1;
    for entry in entries {
        let to = match entry.path.name() {
            Some(name) if into => to.path.join(name)?,
            _ => to.path.clone(),
        };
        let line = format!(
            "{} -> {}",
            human::plain(entry.path.as_str()),
            human::plain(to.as_str())
        );
        if args.dry_run {
            context.console.line(&line)?;
            continue;
        }
        let moved = session.client.rename(&entry.path, &to, args.replace).await?;
        if context.console.is_json() {
            context.console.object(&EntryShape::from(&moved))?;
        } else {
            context.console.line(&line)?;
        }
    }
    Ok(())
}
