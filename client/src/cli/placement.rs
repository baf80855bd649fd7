//! `dbfs placement`: each chunk of a file and where its copies are.

use common::ids::VersionId;

use super::console::Colour;
use super::context::Context;
use super::failure::Failure;
use super::human;
use super::remote::Remote;
use super::shapes::{ChunkShape, PlacementShape};

/// Shows each chunk of a file and where its copies are.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The remote file
    #[arg(value_name = "PATH")]
    path: String,
    /// This version instead of the current one
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// There is no such file, or no member of its cluster answers.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let remote: Remote = args.path.parse()?;
    let session = context.session(remote.profile.as_deref()).await?;
    let version = args.version.map(VersionId::new);
    let placement = session
        .client
        .placement(&remote.path, version)
        .await
        .map_err(|error| Failure::from(error).at(remote.path.as_str()))?;
    let shape = PlacementShape::from(&placement);
    let console = &context.console;
    if console.is_json() {
        return console.document(&shape);
    }
    console.line(&format!(
        "{}  {}, {} in cluster {}",
        human::plain(&shape.path),
        placement.entry.size(),
        human::count(shape.chunks.len() as u64, "chunk"),
        shape.cluster,
    ))?;
    let mut rows = vec![["CHUNK", "SIZE", "DIGEST", "COPIES"].map(str::to_owned).to_vec()];
    rows.extend(shape.chunks.iter().map(|chunk| row(context, chunk)));
    human::table(&rows, &[true, true])
        .iter()
        .try_for_each(|line| console.line(line))
}

fn row(context: &Context, chunk: &ChunkShape) -> Vec<String> {
    let copy = |copy: &super::shapes::CopyShape| {
        let place = if copy.zone == copy.host {
            copy.host.clone()
        } else {
            format!("{}/{}", copy.host, copy.zone)
        };
        let text = format!("{} ({place})", copy.name);
        if copy.state == "stored" && copy.node_state == "live" {
            text
        } else {
            let text = format!("{text} {}, node {}", copy.state, copy.node_state);
            context.console.paint_out(Colour::Yellow, &text)
        }
    };
    vec![
        chunk.index.to_string(),
        common::units::ByteCount::new(chunk.size).to_string(),
        chunk.digest.chars().take(12).collect(),
        chunk.copies.iter().map(copy).collect::<Vec<_>>().join(", "),
    ]
}
