//! `dbfs download` and `dbfs cat`: remote files become local files, or stdout.
//!
//! Invariant (P3): nothing stands under its final name before every byte of it was verified; a part file stands aside.

use std::path::{Path, PathBuf};

use common::ids::VersionId;
use common::path::RemotePath;
use common::units::ByteCount;

use super::context::Context;
use super::failure::Failure;
use super::fleet::{self, Job};
use super::glob::Selection;
use super::remote::{Remote, profile_of, sources_and_destination};
use super::session::Session;
use super::shapes::DownloadShape;
use super::{destination, human, walk};
use crate::download::{ByteRange, DownloadOptions, DownloadReport, Sink, is_stdout};
use crate::names::{Entry, ListOptions};
use crate::{BadCopy, Progress};

const PARALLEL_DEFAULT: u64 = 16;

/// Downloads files or directories (-r); to stdout with - as destination.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dbfs download /me/report.pdf .               ./report.pdf
  dbfs download -r /me/photos backup/          backup/photos/...
  dbfs download '/me/logs/*.gz' logs/          quote patterns
  dbfs download --range 0-1023 /me/disk.img -  the first KiB to stdout

An interrupted download goes on where it stopped when the same command is run again.")]
pub struct Args {
    /// Remote files, directories or patterns; last the local destination, or - for stdout
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"])]
    paths: Vec<String>,
    /// Download directories with everything below them
    #[arg(short, long)]
    recursive: bool,
    /// Files at once
    #[arg(short, long, value_name = "N", default_value_t = PARALLEL_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..=fleet::PARALLEL_MAX))]
    jobs: u64,
    /// With -r: only files that match this glob (repeatable)
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// With -r: not what matches this glob (repeatable)
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Only these bytes, both ends included: A-B, A- or -N for the last N
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    range: Option<ByteRange>,
    /// This version instead of the current one
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
    /// Begin anew where an earlier download was interrupted
    #[arg(long)]
    no_resume: bool,
    /// Print what would be downloaded
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Prints files to stdout.
#[derive(Clone, Debug, clap::Args)]
pub struct CatArgs {
    /// Remote files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// One file to be downloaded.
#[derive(Clone, Debug)]
struct Item {
    from: RemotePath,
    /// `None` for stdout.
    to: Option<PathBuf>,
}

/// Runs `download`.
///
/// # Errors
/// Nothing was downloaded, or not everything (`E_PARTIAL`).
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (sources, to) = sources_and_destination(&args.paths)?;
    let sources = sources
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Remote>, Failure>>()?;
    let session = context.session(profile_of(&sources)?).await?;
    let jobs = plan(&session, &args, &sources, to).await?;
    if args.range.is_some() && jobs.len() > 1 {
        return Err(Failure::usage("--range is for one file"));
    }
    if args.dry_run {
        return tell_plan(context, &jobs);
    }
    carry_out(context, &session, jobs, &args).await
}

/// Runs `cat`.
///
/// # Errors
/// A file cannot be read.
pub(super) async fn cat(context: &Context, args: CatArgs) -> Result<(), Failure> {
    let sources = args
        .paths
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Remote>, Failure>>()?;
    let session = context.session(profile_of(&sources)?).await?;
    for source in &sources {
        for entry in destination::expand(&session.client, source).await? {
            let options = DownloadOptions {
                shutdown: context.shutdown.clone(),
                ..DownloadOptions::default()
            };
            let sink = Sink::writer(tokio::io::stdout());
            session
                .client
                .download(&entry.path, sink, options)
                .await
                .map_err(closed)?;
        }
    }
    Ok(())
}

/// A reader of our stdout that went away is an end, not a failure.
fn closed(error: crate::Error) -> Failure {
    match &error {
        crate::Error::Local { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
            Failure::output(source)
        }
        _ => error.into(),
    }
}

async fn carry_out(
    context: &Context,
    session: &Session,
    jobs: Vec<Job<Item>>,
    args: &Args,
) -> Result<(), Failure> {
    let began = context.seams.clock.moment();
    let several = jobs.len() > 1;
    let fetch = |item: Item, progress: Progress| {
        let options = DownloadOptions {
            range: args.range,
            version: args.version.map(VersionId::new),
            resume: !args.no_resume,
            progress,
            shutdown: context.shutdown.clone(),
        };
        let client = session.client.clone();
        async move {
            let report = fetch_one(&client, &item, options).await?;
            Ok((item, report))
        }
    };
    let told = |(item, report): &(Item, DownloadReport)| tell(context, item, report, several);
    let outcome = fleet::run(context, "downloading", jobs, args.jobs, fetch, told).await?;
    let total = outcome.done.len() + outcome.failed.len();
    if several && !context.console.is_json() {
        let bytes: u64 = outcome
            .done
            .iter()
            .map(|(_, report)| report.delivered.get())
            .sum();
        let elapsed = context.seams.clock.moment().since(began);
        context.console.line(&format!(
            "{}, {} in {} ({:.0} files/s, {}), every byte verified",
            human::count(outcome.done.len() as u64, "file"),
            ByteCount::new(bytes),
            human::span(elapsed),
            outcome.done.len() as f64 / elapsed.as_secs_f64().max(0.001),
            human::rate(bytes, elapsed),
        ))?;
    }
    tell_bad_copies(context, &outcome.done, several);
    fleet::tell_failures(context, &outcome.failed, total);
    outcome.failure("downloaded").map_or(Ok(()), Err)
}

/// Whether a copy that could not be used gets a line of its own: one that is damaged does; one whose node is merely
/// down does not, where many files are read and every line would say the same.
fn told_alone(context: &Context, bad: &BadCopy, several: bool) -> bool {
    bad.kind == common::error::Kind::Corrupt || !several || context.console.verbosity() > 0
}

fn tell_bad_copies(context: &Context, done: &[(Item, DownloadReport)], several: bool) {
    let mut nodes = std::collections::BTreeMap::new();
    let bad = done.iter().flat_map(|(_, report)| &report.bad);
    for bad in bad.filter(|bad| !told_alone(context, bad, several)) {
        *nodes.entry(bad.node_name.as_str()).or_insert(0_u64) += 1;
    }
    for (node, chunks) in nodes {
        let chunks = human::count(chunks, "chunk");
        context.console.warn(&format!(
            "{node} could not be read from ({chunks}); another copy was read instead"
        ));
    }
}

async fn fetch_one(
    client: &crate::Client,
    item: &Item,
    options: DownloadOptions,
) -> Result<DownloadReport, Failure> {
    let Some(local) = &item.to else {
        let sink = Sink::writer(tokio::io::stdout());
        return client.download(&item.from, sink, options).await.map_err(closed);
    };
    if let Some(parent) = local.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| Failure::local("cannot create", parent, &error))?;
    }
    Ok(client.download(&item.from, Sink::file(local), options).await?)
}

async fn plan(
    session: &Session,
    args: &Args,
    sources: &[Remote],
    to: &str,
) -> Result<Vec<Job<Item>>, Failure> {
    let mut entries = Vec::new();
    for source in sources {
        entries.extend(destination::expand(&session.client, source).await?);
    }
    if to == "-" || is_stdout(Path::new(to)) {
        if let Some(directory) = entries.iter().find(|entry| !entry.is_file()) {
            return Err(Failure::usage(format!(
                "{} is a directory: it cannot go to stdout",
                directory.path
            )));
        }
        if entries.len() > 1 && !args.dry_run {
            return Err(Failure::usage("only one file can go to stdout").hint("use dbfs cat for several"));
        }
        return Ok(entries.into_iter().map(|entry| job(&entry, None)).collect());
    }
    let base = Path::new(to);
    let into = to.ends_with('/') || base.is_dir() || entries.len() > 1;
    let selection = Selection::new(&args.include, &args.exclude)?;
    let mut jobs = Vec::new();
    for entry in entries {
        let local = match entry.path.name() {
            Some(name) if into => base.join(name),
            _ => base.to_owned(),
        };
        if entry.is_file() {
            jobs.push(job(&entry, Some(local)));
        } else if args.recursive {
            jobs.extend(plan_tree(session, &entry.path, &local, &selection).await?);
        } else {
            return Err(Failure::usage(format!("{} is a directory", entry.path))
                .hint("say -r to download all below it"));
        }
    }
    Ok(jobs)
}

async fn plan_tree(
    session: &Session,
    root: &RemotePath,
    local: &Path,
    selection: &Selection,
) -> Result<Vec<Job<Item>>, Failure> {
    let options = ListOptions {
        recursive: true,
        ..ListOptions::default()
    };
    let mut pages = session.client.list(root, options);
    let mut jobs = Vec::new();
    while let Some(page) = pages.next_page().await? {
        for entry in page.into_iter().filter(Entry::is_file) {
            let relative = entry
                .path
                .as_str()
                .strip_prefix(root.as_str())
                .unwrap_or_default();
            if !selection.takes(relative.trim_start_matches('/')) {
                continue;
            }
            if let Some(to) = walk::local_below(local, root, &entry.path) {
                jobs.push(job(&entry, Some(to)));
            }
        }
    }
    std::fs::create_dir_all(local).map_err(|error| Failure::local("cannot create", local, &error))?;
    Ok(jobs)
}

fn job(entry: &Entry, to: Option<PathBuf>) -> Job<Item> {
    Job {
        name: entry.path.name().unwrap_or_default().to_owned(),
        size: Some(entry.size().get()),
        work: Item {
            from: entry.path.clone(),
            to,
        },
    }
}

fn tell_plan(context: &Context, jobs: &[Job<Item>]) -> Result<(), Failure> {
    for job in jobs {
        let to = job.work.to.as_deref().map_or("-".into(), Path::to_string_lossy);
        if context.console.is_json() {
            context.console.object(&serde_json::json!({
                "path": job.work.from.as_str(), "destination": to, "size": job.size, "dry_run": true,
            }))?;
        } else {
            let size = ByteCount::new(job.size.unwrap_or(0));
            context.console.line(&format!(
                "{} -> {to} ({size})",
                human::plain(job.work.from.as_str())
            ))?;
        }
    }
    Ok(())
}

fn tell(context: &Context, item: &Item, report: &DownloadReport, several: bool) -> Result<(), Failure> {
    let console = &context.console;
    for bad in report.bad.iter().filter(|bad| told_alone(context, bad, several)) {
        console.warn(&format!("{}: {bad}; another copy was read instead", item.from));
    }
    let Some(to) = &item.to else {
        // Stdout has the file itself.
        return Ok(());
    };
    if console.is_json() {
        return console.object(&DownloadShape::new(&to.display().to_string(), report));
    }
    if several && console.verbosity() == 0 {
        return Ok(());
    }
    let verified = if report.digest_verified {
        "digest verified"
    } else {
        "blocks verified"
    };
    console.line(&format!("{}  {}  {verified}", to.display(), report.delivered))
}
