//! `dbfs status`: how the whole installation does.

use std::time::Duration;

use common::units::ByteCount;

use super::console::{Colour, Console};
use super::context::Context;
use super::failure::Failure;
use super::human;
use super::status_shapes::{ClusterShape, GroupShape, MemberShape, StatusShape};

/// Shows health, leaders, nodes, space and what lacks copies.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Show it again every two seconds, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

const WATCH_PERIOD: Duration = Duration::from_secs(2);

/// Runs the command. An installation that is not healthy is told, not a failure.
///
/// # Errors
/// Nobody answers, or the caller may not ask.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let session = context.session_without_quorum().await?;
    let console = &context.console;
    let mut first = true;
    loop {
        let status = session
            .client
            .status()
            .await
            .map(|installation| StatusShape::from(&installation));
        match status {
            Ok(shape) if console.is_json() && args.watch => console.object(&shape)?,
            Ok(shape) if console.is_json() => console.document(&shape)?,
            Ok(shape) => {
                if args.watch && console.is_screen() {
                    // Home, and clear what was there.
                    console.raw(b"\x1b[H\x1b[2J")?;
                } else if args.watch && !first {
                    console.line("")?;
                }
                first = false;
                lines(console, &shape)
                    .iter()
                    .try_for_each(|line| console.line(line))?;
            }
            // Who watches wants to see it come back.
            Err(error) if args.watch && error.kind().is_passing() => console.failure(&error.into()),
            Err(error) => return Err(error.into()),
        }
        console.flush()?;
        if !args.watch {
            return Ok(());
        }
        context.seams.clock.sleep(WATCH_PERIOD).await;
    }
}

/// The status for people.
pub fn lines(console: &Console, shape: &StatusShape) -> Vec<String> {
    let colour = match shape.health {
        "healthy" => Colour::Green,
        "degraded" => Colour::Yellow,
        _ => Colour::Red,
    };
    let mut lines = vec![format!(
        "{}  {}, {}, {} under way",
        console.paint_out(colour, shape.health),
        human::count(shape.files, "file"),
        ByteCount::new(shape.logical_bytes),
        human::count(shape.uploads_open, "upload"),
    )];
    lines.extend(shape.problems.iter().map(|problem| format!("  - {problem}")));
    lines.push(String::new());
    lines.extend(names_lines(console, &shape.names));
    for cluster in &shape.clusters {
        lines.push(String::new());
        lines.extend(cluster_lines(console, cluster));
    }
    lines
}

fn names_lines(console: &Console, names: &GroupShape) -> Vec<String> {
    let leader = names.leader.as_deref().unwrap_or("none");
    let mut lines = vec![console.paint_out(
        Colour::Bold,
        &format!("names  leader {leader}, term {}", names.term),
    )];
    let rows: Vec<Vec<String>> = names
        .members
        .iter()
        .map(|member| {
            let role = if Some(&member.name) == names.leader.as_ref() {
                "leader"
            } else if member.voter {
                "voter"
            } else {
                "learner"
            };
            vec![
                format!("  {}", member.name),
                replication(console, member),
                role.to_owned(),
                member.control.clone(),
            ]
        })
        .collect();
    lines.extend(human::table(&rows, &[]));
    lines
}

/// What the group's leader makes of a member, with how long it has been silent or what it lacks.
fn replication(console: &Console, member: &MemberShape) -> String {
    let silent = human::span(Duration::from_millis(member.silent_millis.unwrap_or_default()));
    match member.replication {
        "up_to_date" => "up to date".to_owned(),
        "catching_up" => {
            let lag = member.lag_entries.unwrap_or_default();
            console.paint_out(Colour::Yellow, &format!("{lag} log entries behind"))
        }
        "silent" => console.paint_out(Colour::Red, &format!("silent for {silent}")),
        "set_aside" => console.paint_out(Colour::Red, "set aside"),
        other => console.paint_out(Colour::Yellow, other),
    }
}

fn cluster_lines(console: &Console, cluster: &ClusterShape) -> Vec<String> {
    let leader = cluster.leader.as_deref().unwrap_or("none");
    let mut lines = vec![console.paint_out(
        Colour::Bold,
        &format!("cluster {}  leader {leader}, term {}", cluster.name, cluster.term),
    )];
    let reduced = if cluster.durability.reduced {
        ", reduced durability"
    } else {
        ""
    };
    lines.push(format!(
        "  {} used of {}, {} free; {}, {} under-replicated; {} copies{reduced}",
        ByteCount::new(cluster.load.used_bytes),
        ByteCount::new(cluster.load.capacity_bytes),
        ByteCount::new(cluster.load.free_bytes),
        human::count(cluster.chunks, "chunk"),
        cluster.under_replicated_chunks,
        cluster.durability.copies,
    ));
    let rows: Vec<Vec<String>> = cluster
        .nodes
        .iter()
        .map(|node| {
            let role = match () {
                () if Some(&node.member.name) == cluster.leader.as_ref() => "leader",
                () if node.member.voter => "voter",
                () => "learner",
            };
            let state = match node.state.as_str() {
                "live" => node.state.clone(),
                "dead" | "gone" => console.paint_out(Colour::Red, &node.state),
                _ => console.paint_out(Colour::Yellow, &node.state),
            };
            vec![
                format!("  {}", node.member.name),
                state,
                role.to_owned(),
                replication(console, &node.member),
                format!("{} used", ByteCount::new(node.load.used_bytes)),
                format!("{} free", ByteCount::new(node.load.free_bytes)),
                format!("cpu {}%", node.load.cpu_permille / 10),
                node.member.zone.clone(),
                node.member.data.clone(),
            ]
        })
        .collect();
    lines.extend(human::table(&rows, &[]));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::health::tests::installation;
    use crate::cli::options::Options;

    #[test]
    fn a_status_names_leaders_and_nodes() {
        let sink = || Box::new(std::io::sink());
        let console = Console::to_writers(&Options::default(), sink(), sink());
        let shape = StatusShape::from(&installation());
        let text = lines(&console, &shape).join("\n");
        for part in [
            "healthy  3 files, 1 MiB",
            "leader supernode-1",
            "cluster alpha  leader alpha-2",
            "alpha-3  live",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let json = serde_json::to_value(&shape).unwrap();
        assert_eq!(json["clusters"][0]["nodes"][0]["name"], "alpha-1");
        assert_eq!(json["clusters"][0]["leader"], "alpha-2");
    }
}
