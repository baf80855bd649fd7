//! `dbfs list`: what is in a directory, or all files of one's own.

use common::path::RemotePath;

use super::console::{Colour, Console};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::human;
use super::remote::Remote;
use super::session::Session;
use super::shapes::EntryShape;
use crate::names::{Entry, EntryKind, ListOptions, Pages};

/// Entries that are sorted by something else than their name are held in memory: at most so many.
const SORTED_ENTRIES_MAX: usize = 5_000_000;

/// The order of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(super) enum Sort {
    /// By name.
    #[default]
    Name,
    /// The largest first.
    Size,
    /// The newest first.
    Time,
}

/// Lists a directory; without a path, all of one's files.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs list                 all of one's files
  dbfs list -l /me/photos   with size, date and owner
  dbfs list /               the buckets one may see")]
pub struct Args {
    /// A directory, a file, or a pattern in quotes
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// Show kind, size, date (UTC), version and owner
    #[arg(short, long)]
    long: bool,
    /// Everything below, files only
    #[arg(short, long)]
    recursive: bool,
    /// Order of the listing
    #[arg(long, value_name = "ORDER", default_value = "name")]
    sort: Sort,
}

/// Runs the command.
///
/// # Errors
/// The path does not exist, or may not be seen.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remote = args.path.as_deref().map(str::parse::<Remote>).transpose()?;
    let session = context
        .session(remote.as_ref().and_then(|remote| remote.profile.as_deref()))
        .await?;
    let (remote, recursive) = match remote {
        Some(remote) => (remote, args.recursive),
        None => (own(&session).await?.as_str().parse()?, true),
    };
    let mut listing = Listing {
        console: &context.console,
        long: args.long,
        whole_paths: recursive,
        held: (args.sort != Sort::Name).then(Vec::new),
    };
    walk(&session, &mut listing, &remote, recursive).await?;
    if let Some(mut held) = listing.held.take() {
        match args.sort {
            Sort::Name => {}
            Sort::Size => held.sort_by_key(|entry| std::cmp::Reverse(entry.size())),
            Sort::Time => held.sort_by_key(|entry| std::cmp::Reverse(entry.modified)),
        }
        listing.show(&held)?;
    }
    Ok(())
}

/// The caller's own bucket.
pub(super) async fn own(session: &Session) -> Result<RemotePath, Failure> {
    let user = if session.user.is_empty() {
        session.client.whoami().await?.name
    } else {
        session.user.clone()
    };
    Ok(RemotePath::root().join(&user)?)
}

async fn walk(
    session: &Session,
    listing: &mut Listing<'_>,
    remote: &Remote,
    recursive: bool,
) -> Result<(), Failure> {
    let path = &remote.path;
    let client = &session.client;
    let options = || ListOptions {
        recursive,
        ..ListOptions::default()
    };
    if path.is_root() {
        return listing.pages(client.list(path, options())).await;
    }
    let named = super::destination::expand(client, remote).await?;
    let several = named.by_pattern;
    listing.whole_paths |= several;
    let named = if recursive { named.outermost() } else { named };
    for entry in named.entries {
        if entry.is_file() || (several && !recursive) {
            listing.add(vec![entry])?;
        } else {
            listing.pages(client.list(&entry.path, options())).await?;
        }
    }
    Ok(())
}

/// Where entries go: straight to the output, or to memory first.
struct Listing<'a> {
    console: &'a Console,
    long: bool,
    whole_paths: bool,
    held: Option<Vec<Entry>>,
}

impl Listing<'_> {
    async fn pages(&mut self, mut pages: Pages) -> Result<(), Failure> {
        while let Some(page) = pages.next_page().await? {
            self.add(page)?;
        }
        Ok(())
    }

    fn add(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        let Some(held) = &mut self.held else {
            return self.show(&entries);
        };
        if held.len() + entries.len() > SORTED_ENTRIES_MAX {
            return Err(
                Failure::new(Exit::Usage, "E_USAGE", "there are too many entries to sort")
                    .hint("list by name, which needs no sorting"),
            );
        }
        held.extend(entries);
        Ok(())
    }

    fn show(&self, entries: &[Entry]) -> Result<(), Failure> {
        if self.console.is_json() {
            return entries
                .iter()
                .try_for_each(|entry| self.console.object(&EntryShape::from(entry)));
        }
        for line in lines(self.console, entries, self.long, self.whole_paths) {
            self.console.line(&line)?;
        }
        self.console.flush()
    }
}

/// Entries for people, one line each.
pub(super) fn lines(console: &Console, entries: &[Entry], long: bool, whole_paths: bool) -> Vec<String> {
    let name = |entry: &Entry| {
        let text = if whole_paths {
            entry.path.as_str()
        } else {
            entry.path.name().unwrap_or("/")
        };
        let text = human::plain(text);
        if entry.is_file() {
            text
        } else {
            console.paint_out(Colour::Bold, &format!("{text}/"))
        }
    };
    if !long {
        return entries.iter().map(name).collect();
    }
    let row = |entry: &Entry| {
        let (kind, size, version) = match &entry.kind {
            EntryKind::File { size, version, .. } => ("file", size.to_string(), version.to_string()),
            EntryKind::Directory => ("dir", "-".to_owned(), "-".to_owned()),
            EntryKind::Bucket => ("bucket", "-".to_owned(), "-".to_owned()),
        };
        let date = match entry.modified.as_millis() {
            0 => "-".to_owned(),
            _ => human::date(entry.modified),
        };
        let owner = if entry.owner.is_empty() {
            "-".to_owned()
        } else {
            human::plain(&entry.owner)
        };
        vec![kind.to_owned(), size, date, version, owner, name(entry)]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    human::table(&rows, &[false, true, false, true])
}
