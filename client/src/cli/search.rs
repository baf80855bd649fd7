//! `dbfs search`: files by name, size and age.

use common::path::RemotePath;

use super::context::Context;
use super::failure::Failure;
use super::remote::Remote;
use super::shapes::EntryShape;
use super::{human, list};
use crate::names::{Entry, SearchQuery};

/// Finds files by name, size and age.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs search /me '*' --size 0            empty files
  dbfs search invoice                     names that contain the word, everywhere
  dbfs search /me '*.mov' --size +1G      a pattern, below a directory, by size
  dbfs search /me '**/raw/*' --newer 7d   a pattern with a slash is matched against the path
  dbfs search /me 'target/'               everything below directories of this name
  dbfs search '*.tmp' -0 | xargs -0 dbfs delete")]
pub struct Args {
    /// Where to search (default: everywhere), then a word or a pattern in quotes
    #[arg(required = true, num_args = 1..=2, value_names = ["PATH", "PATTERN"])]
    arguments: Vec<String>,
    /// At least +10M, at most -10M, exactly 10M, or 1M..10M
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    size: Option<String>,
    /// Modified within this time (7d, 36h) or since this date (2026-11-21)
    #[arg(long, value_name = "WHEN")]
    newer: Option<String>,
    /// At most so many results
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Show kind, size, date (UTC), version and owner
    #[arg(short, long)]
    long: bool,
    /// End each path with a zero byte instead of a newline
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    null: bool,
}

/// Runs the command. Finding nothing is not a failure.
///
/// # Errors
/// The place to search does not exist, or may not be seen.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (place, pattern) = match args.arguments.as_slice() {
        [pattern] => (None, pattern),
        [place, pattern] => (Some(place.parse::<Remote>()?), pattern),
        _ => return Err(Failure::usage("name a pattern, and before it perhaps a place")),
    };
    let session = context
        .session(place.as_ref().and_then(|place| place.profile.as_deref()))
        .await?;
    let path = place.map_or_else(RemotePath::root, |place| place.path);
    let now = context.seams.clock.wall();
    let (size_min, size_max) = args
        .size
        .as_deref()
        .map(human::size_range)
        .transpose()?
        .unwrap_or_default();
    let query = SearchQuery {
        pattern: pattern.clone(),
        size_min,
        size_max,
        newer: args
            .newer
            .as_deref()
            .map(|text| human::moment(text, now))
            .transpose()?,
        page_entries_max: None,
    };
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut pages = session.client.search(&path, query);
    while left > 0
        && let Some(mut page) = pages.next_page().await?
    {
        page.truncate(left);
        left -= page.len();
        show(context, &args, &page)?;
    }
    Ok(())
}

fn show(context: &Context, args: &Args, entries: &[Entry]) -> Result<(), Failure> {
    let console = &context.console;
    if console.is_json() {
        entries
            .iter()
            .try_for_each(|entry| console.object(&EntryShape::from(entry)))?;
    } else if args.null {
        for entry in entries {
            console.raw(entry.path.as_str().as_bytes())?;
            console.raw(b"\0")?;
        }
    } else {
        for line in list::lines(console, entries, args.long, true) {
            console.line(&line)?;
        }
    }
    console.flush()
}
