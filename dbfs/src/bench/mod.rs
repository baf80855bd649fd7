//! `dbfs bench`: how fast an installation is, and how that compares with what the machine could do at best.
//!
//! Owns the workloads and their numbers. Everything it stores it deletes again. What is in force (durability,
//! congestion control) is said with the numbers, because they mean nothing without it.
//!
//! Read `large.rs` and `small.rs` for the workloads, `baseline_disk.rs` and `baseline_wire.rs` for the comparison.

mod baseline_disk;
mod baseline_wire;
mod large;
mod numbers;
mod small;

use std::path::PathBuf;

use client::cli::context::Context;
use client::cli::failure::Failure;
use client::cli::session::Session;
use client::names::DeleteOptions;
use common::path::RemotePath;
use common::units::ByteCount;
use numbers::Report;

/// Measures throughput and latency.
#[derive(Clone, Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("workload").required(true).args(["large", "small"]),
    after_help = "\
  dbfs bench --large --size 1GiB --baseline      GiB/s of one large file, and of disk and wire alone
  dbfs bench --small --files 5000                1 KiB files per second, 16 clients at once

The numbers depend on what else the machine does. A local installation shares disk and CPU with the client."
)]
pub(crate) struct Args {
    /// Upload and download large files
    #[arg(long)]
    large: bool,
    /// Upload and download many small files
    #[arg(long)]
    small: bool,
    /// Size of each file (default 1GiB, small: 1KiB)
    #[arg(long, value_name = "SIZE")]
    size: Option<ByteCount>,
    /// How many files (default 1, small: 2000)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    files: Option<u64>,
    /// Files at once (default 1, small: 16)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    parallel: Option<u64>,
    /// Also measure the disk alone and the wire alone, with as many bytes, and print the ratio
    #[arg(long)]
    baseline: bool,
    /// Where the disk is measured. Default: the directory of the local installation
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Congestion control of the client's sockets, for example cubic; default: the kernel's
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
struct Workload {
    size: ByteCount,
    files: u64,
    parallel: u64,
}

/// Runs the command.
///
/// # Errors
/// Something cannot be stored or read.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut context = context.clone();
    context.seams.network = common::net::Network::tcp(args.congestion.clone());
    let workload = Workload {
        size: args.size.unwrap_or(if args.large {
            ByteCount::mib(1024)
        } else {
            ByteCount::new(1024)
        }),
        files: args.files.unwrap_or(if args.large { 1 } else { 2000 }),
        parallel: args.parallel.unwrap_or(if args.large { 1 } else { 16 }),
    };
    let session = context.session(None).await?;
    let user = session.client.whoami().await?.name;
    let place = RemotePath::root()
        .join(&user)?
        .join(&format!("bench-{:08x}", context.seams.random.number() as u32))?;
    let measured = async {
        tokio::select! {
            result = measure(&context, &session, &place, workload, &args) => result,
            () = context.shutdown.triggered() => Err(Failure::interrupted()),
        }
    };
    let report = Box::pin(measured).await;
    clean_up(&context, &session, &place).await;
    report?.tell(&context)
}

async fn measure(
    context: &Context,
    session: &Session,
    place: &RemotePath,
    workload: Workload,
    args: &Args,
) -> Result<Report, Failure> {
    session.client.make_directory(place).await?;
    let status = session.client.status().await?;
    let mut report = Report::new(workload, &status, args.congestion.as_deref());
    if args.large {
        report.phases = large::run(context, &session.client, place, workload).await?;
    } else {
        report.phases = small::run(context, &session.client, place, workload).await?;
    }
    if args.baseline {
        let bytes = ByteCount::new(workload.size.get().saturating_mul(workload.files));
        let directory = disk_directory(context, args)?;
        report.disk = Some(baseline_disk::measure(context, &directory, bytes).await?);
        report.wire = Some(baseline_wire::measure(context, bytes, args.congestion.clone()).await?);
    }
    Ok(report)
}

fn disk_directory(context: &Context, args: &Args) -> Result<PathBuf, Failure> {
    if let Some(directory) = &args.disk {
        return Ok(directory.clone());
    }
    let target = context.target(None)?;
    target
        .profile
        .and_then(|(_, profile)| profile.data_dir)
        .ok_or_else(|| {
            Failure::usage("the disk that the nodes write to is not known")
                .hint("name a directory on it with --disk")
        })
}

async fn clean_up(context: &Context, session: &Session, place: &RemotePath) {
    let options = DeleteOptions {
        recursive: true,
        permanent: true,
        if_version: None,
    };
    if let Err(error) = session.client.delete(place, options).await {
        context
            .console
            .warn(&format!("{place} could not be deleted: {error}"));
    }
}
