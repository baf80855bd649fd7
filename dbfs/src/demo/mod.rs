//! `dbfs demo`: a real installation in a temporary place, the main job end to end with real files, and faults on the way.
//!
//! Owns the story and its checks; the work is done by the same commands and the same library that everyone uses.
//! Invariant: afterwards nothing is left behind, no process and no file, also after a failure or Ctrl-C.
//!
//! Read `play.rs` for the story, then `stage.rs` for what it is played on.

mod material;
mod play;
mod stage;

use client::cli::console::Colour;
use client::cli::context::Context;
use client::cli::failure::Failure;
use client::cli::human;

use crate::local::layout::Size;
use stage::Stage;

const SIZE: Size = Size {
    supernodes: 3,
    clusters: 2,
    nodes: 3,
};

/// Shows what DBFS does: stores real files, loses a node and a leader on the way, and verifies every byte.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Starts nine processes in a temporary directory on loopback, takes less than a minute, and leaves nothing behind. It
ends with a number other than 0 if anything is not as it should be.")]
pub(crate) struct Args {
    /// Keep the directory with all logs
    #[arg(long)]
    keep: bool,
    /// Size of each of the two large files
    #[arg(long, value_name = "SIZE", default_value = "300MiB")]
    size: common::units::ByteCount,
}

/// Runs the command.
///
/// # Errors
/// Something is not as it should be.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let began = context.seams.clock.moment();
    let mut stage = Stage::build(context, SIZE, args.keep)?;
    let result = tokio::select! {
        result = Box::pin(play::play(&mut stage, args.size)) => result,
        () = context.shutdown.triggered() => Err(Failure::interrupted()),
    };
    stage.clear().await?;
    result?;
    let elapsed = human::span(context.seams.clock.moment().since(began));
    if context.console.is_json() {
        return context.console.object(&serde_json::json!({ "demo": "passed" }));
    }
    let text = format!("All of it was as it should be, in {elapsed}; nothing was left behind.");
    context.console.line("")?;
    context
        .console
        .line(&context.console.paint_out(Colour::Green, &text))?;
    context
        .console
        .line("`dbfs up` starts an installation that stays.")
}
