//! `dbfs download` and `dbfs cat`: remote files become local files, or stdout.
//!
//! Invariant (P3): nothing stands under its final name before every byte of it was verified; a part file stands aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::ids::VersionId;
use common::path::RemotePath;
use common::units::ByteCount;

use super::context::Context;
use super::destination::Meaning;
use super::failure::{Exit, Failure};
use super::fleet::{self, Job};
use super::glob::Selection;
use super::kept::{self, LeftOut, SummaryShape};
use super::partly::Parts;
use super::remote::{Remote, profile_of, remotes, sources_and_destination};
use super::session::Session;
use super::shapes::DownloadShape;
use super::shapes::changes::PlannedDownloadShape;
use super::{destination, folding, human, walk};
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
  dbfs download -r /me/photos backup           backup/...
  dbfs download '/me/logs/**/*.gz' logs/       quote patterns
  dbfs download --range 0-1023 /me/disk.img -  the first KiB to stdout

A destination that ends in / (or is . or ..) means into that directory: the source keeps its name. Any other means as that
name, also for a directory, whatever stands there. Several sources, or a pattern, need a destination that ends in /.
With -r empty directories, modification times and the executable bit come back as `upload -r` kept them.
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

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    jobs: Vec<Job<Item>>,
    /// Local directories, and what was kept of them.
    directories: Vec<(PathBuf, BTreeMap<String, String>)>,
}

/// Runs `download`.
///
/// # Errors
/// Nothing was downloaded, or not everything (`E_PARTIAL`).
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (sources, to) = sources_and_destination(&args.paths)?;
    let sources = remotes(sources)?;
    let session = context.session(profile_of(&sources)?).await?;
    let plan = plan(&session, &args, &sources, to).await?;
    if args.range.is_some() && plan.jobs.len() > 1 {
        return Err(Failure::usage("--range is for one file"));
    }
    if args.dry_run {
        return tell_plan(context, &plan.jobs);
    }
    carry_out(context, &session, plan, &args).await
}

/// Runs `cat`.
///
/// # Errors
/// A file cannot be read.
pub(super) async fn cat(context: &Context, args: CatArgs) -> Result<(), Failure> {
    let sources = remotes(&args.paths)?;
    let session = context.session(profile_of(&sources)?).await?;
    let mut entries = Vec::new();
    for source in &sources {
        entries.extend(destination::expand(&session.client, source).await?.entries);
    }
    if let Some(directory) = entries.iter().find(|entry| !entry.is_file()) {
        let path = directory.path.as_str();
        return Err(Failure::new(Exit::Usage, "E_NOT_A_FILE", format!("{path} is not a file")).at(path));
    }
    let mut parts = Parts::new("printed");
    for entry in &entries {
        let options = DownloadOptions {
            shutdown: context.shutdown.clone(),
            ..DownloadOptions::default()
        };
        let sink = Sink::writer(tokio::io::stdout());
        match session
            .client
            .download(&entry.path, sink, options)
            .await
            .map_err(closed)
        {
            Ok(_) => parts.done(entry.path.as_str()),
            Err(failure) if failure.is_silent() => return Err(failure),
            Err(failure) => parts.failed(entry.path.as_str(), failure),
        }
    }
    parts.end(context, |_| None)
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

async fn carry_out(context: &Context, session: &Session, plan: Plan, args: &Args) -> Result<(), Failure> {
    let began = context.seams.clock.moment();
    let Plan { jobs, directories } = plan;
    for (directory, _) in &directories {
        std::fs::create_dir_all(directory)
            .map_err(|error| Failure::local("cannot create", directory, &error))?;
    }
    let total = jobs.len();
    let several = total > 1;
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
            match fetch_one(&client, &item, options).await {
                Ok(report) => {
                    if let Some(local) = item.to.as_deref().filter(|_| args.recursive) {
                        give_back(context, local, &report.entry.metadata);
                    }
                    Ok((item, report))
                }
                Err(failure) => Err(failure.at(item.from.as_str())),
            }
        }
    };
    let mut bytes = 0;
    let mut silent = BTreeMap::new();
    let told = |(item, report): (Item, DownloadReport)| {
        bytes += report.delivered.get();
        for bad in report.bad.iter().filter(|bad| !told_alone(context, bad, several)) {
            *silent.entry(bad.node_name.clone()).or_insert(0_u64) += 1;
        }
        tell(context, &item, &report, several)?;
        Ok(item.from.to_string())
    };
    let verbs = ("downloading", "downloaded");
    let parts = fleet::run(context, verbs, jobs, args.jobs, fetch, told).await?;
    let (files, total) = (parts.count_done(), parts.count());
    let all = files == total;
    // Last, because a file that is made in a directory changes its time.
    for (directory, metadata) in &directories {
        give_back(context, directory, metadata);
    }
    if args.recursive && context.console.is_json() {
        let summary = SummaryShape::new(files, bytes, LeftOut::default());
        context.console.object(&summary)?;
    }
    if several && !context.console.is_json() {
        let elapsed = context.seams.clock.moment().since(began);
        // Of what did not come nothing was verified.
        let of_all = if all {
            String::new()
        } else {
            format!(" of {total}")
        };
        let verified = match (files, all) {
            (0, false) => ", nothing was downloaded",
            (_, false) => ", every byte of these verified",
            (_, true) => ", every byte verified",
        };
        context.console.line(&format!(
            "{}{of_all}, {} in {} ({:.0} files/s, {}){verified}",
            human::count(files as u64, "file"),
            ByteCount::new(bytes),
            human::span(elapsed),
            files as f64 / elapsed.as_secs_f64().max(0.001),
            human::rate(bytes, elapsed),
        ))?;
    }
    tell_silent(context, silent);
    parts.end(context, |_| None)
}

/// Whether a copy that could not be used gets a line of its own: one that is damaged does; one whose node is merely
/// down does not, where many files are read and every line would say the same.
fn told_alone(context: &Context, bad: &BadCopy, several: bool) -> bool {
    bad.kind == common::error::Kind::Corrupt || !several || context.console.verbosity() > 0
}

/// Nodes that could not be read from, and for how many chunks.
fn tell_silent(context: &Context, nodes: BTreeMap<String, u64>) {
    for (node, chunks) in nodes {
        let chunks = human::count(chunks, "chunk");
        context.console.warn(&format!(
            "{node} could not be read from ({chunks}); another copy was read instead"
        ));
    }
}

/// Gives a local file or directory the time and mode that were kept. What the file system here cannot keep is said.
fn give_back(context: &Context, local: &Path, metadata: &BTreeMap<String, String>) {
    if let Err(failure) = kept::give_back(local, metadata) {
        context.console.warn(&failure.message);
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

async fn plan(session: &Session, args: &Args, sources: &[Remote], to: &str) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let named = destination::expand_all(&session.client, sources).await?;
    if to == "-" || is_stdout(Path::new(to)) {
        let entries = named.entries;
        if let Some(directory) = entries.iter().find(|entry| !entry.is_file()) {
            let path = directory.path.as_str();
            return Err(Failure::usage(format!("{path} is a directory: it cannot go to stdout")).at(path));
        }
        if entries.len() > 1 && !args.dry_run {
            return Err(Failure::usage("only one file can go to stdout").hint("use dbfs cat for several"));
        }
        plan.jobs = entries.into_iter().map(|entry| job(&entry, None)).collect();
        return Ok(plan);
    }
    let base = Path::new(to);
    let meaning = destination::meaning(to, destination::are_several(sources, &named))?;
    if meaning == Meaning::Into {
        destination::check_local(base, meaning, true)?;
    }
    let named = if args.recursive { named.outermost() } else { named };
    let mut roots = Vec::new();
    for entry in named.entries {
        if !entry.is_file() && !args.recursive {
            let path = entry.path.as_str();
            return Err(Failure::usage(format!("{path} is a directory"))
                .at(path)
                .hint("say -r to download all below it"));
        }
        let local = match entry.path.name() {
            Some(name) if meaning == Meaning::Into => base.join(name),
            _ => base.to_owned(),
        };
        destination::check_local(&local, Meaning::As, entry.is_file())?;
        roots.push((entry, local));
    }
    let pairs = roots
        .iter()
        .map(|(entry, local)| (local.display().to_string(), entry.path.as_str()));
    destination::check_distinct(pairs)?;
    let selection = Selection::new(&args.include, &args.exclude)?;
    for (entry, local) in roots {
        if entry.is_file() {
            plan.jobs.push(job(&entry, Some(local)));
        } else {
            plan_tree(session, &mut plan, &entry, &local, &selection).await?;
        }
    }
    check_folding(base, &plan.jobs)?;
    Ok(plan)
}

/// Refuses two files that would be one for the local file system, which matters where there are several.
fn check_folding(base: &Path, jobs: &[Job<Item>]) -> Result<(), Failure> {
    if jobs.len() < 2 {
        return Ok(());
    }
    let pairs = jobs.iter().filter_map(|job| {
        let to = job.work.to.as_deref()?;
        Some((to.strip_prefix(base).unwrap_or(to), job.work.from.as_str()))
    });
    folding::check(base, pairs)
}

async fn plan_tree(
    session: &Session,
    plan: &mut Plan,
    root: &Entry,
    local: &Path,
    selection: &Selection,
) -> Result<(), Failure> {
    let options = ListOptions {
        recursive: true,
        directories: true,
        ..ListOptions::default()
    };
    plan.directories.push((local.to_owned(), root.metadata.clone()));
    let mut pages = session.client.list(&root.path, options);
    while let Some(page) = pages.next_page().await? {
        for entry in page {
            let path = entry.path.as_str();
            let relative = path.strip_prefix(root.path.as_str()).unwrap_or_default();
            let relative = relative.trim_start_matches('/');
            let Some(to) = walk::local_below(local, &root.path, &entry.path) else {
                continue;
            };
            if entry.is_file() && selection.takes(relative) {
                plan.jobs.push(job(&entry, Some(to)));
            } else if !entry.is_file() && !selection.has_includes() && !selection.excludes_directory(relative)
            {
                plan.directories.push((to, entry.metadata));
            }
        }
    }
    Ok(())
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
            context.console.object(&PlannedDownloadShape {
                path: job.work.from.to_string(),
                destination: to.into_owned(),
                size: job.size,
                dry_run: true,
            })?;
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
