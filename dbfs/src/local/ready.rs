//! Whether an installation is ready: judged by what it says of itself, not by how long it has been running.

use std::time::Duration;

use client::Client;
use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use client::cli::session::Target;
use client::names::{ClusterState, Installation, Login, NodeCondition};
use common::error::Kind;

use super::board::{Board, Row};
use super::launch::Fleet;
use super::layout::{Cluster, Plan, voters};

/// How long a start may take before something must be wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(150);
/// One question; a process that has not come up yet answers none.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A cluster's report must be of this run, not what the supernodes remember of the last one.
const REPORT_AGE_MAX: Duration = Duration::from_secs(5);

/// The first admin of a local installation.
pub(crate) const ADMIN: &str = "admin";

/// A ready installation: a client that is logged in, and the login.
pub(crate) struct Ready {
    /// Logged in as the admin.
    pub(crate) client: Client,
    /// What the login gave.
    pub(crate) login: Login,
}

/// Waits until every group has its leader and voters, and every node is live.
///
/// # Errors
/// A process ended, it takes too long, or the user interrupts.
pub(crate) async fn wait(
    context: &Context,
    target: &Target,
    password: &str,
    plan: &Plan,
    fleet: &mut Fleet,
    board: &mut Board,
) -> Result<Ready, Failure> {
    let clock = &context.seams.clock;
    let began = clock.moment();
    let mut known: Option<Ready> = None;
    loop {
        if let Some(ended) = fleet.ended().first() {
            return Err(ended_early(ended));
        }
        if context.shutdown.is_triggered() {
            return Err(Failure::interrupted());
        }
        if known.is_none() {
            known = clock
                .timeout(ASK_TIMEOUT, log_in(context, target, password))
                .await
                .flatten();
        }
        let status = match &known {
            Some(ready) => clock
                .timeout(ASK_TIMEOUT, ready.client.status())
                .await
                .and_then(Result::ok),
            None => None,
        };
        let rows = rows(plan, status.as_ref());
        let waiting: Vec<String> = rows
            .iter()
            .filter(|row| !row.ready)
            .map(|row| format!("{} ({})", row.name, row.state))
            .collect();
        board.show(rows);
        if waiting.is_empty()
            && let Some(ready) = known
        {
            return Ok(ready);
        }
        if clock.moment().since(began) > READY_TIMEOUT {
            return Err(Failure::new(
                Exit::Unavailable,
                "E_START",
                format!(
                    "not ready after {} s: {}",
                    READY_TIMEOUT.as_secs(),
                    waiting.join(", ")
                ),
            )
            .hint("the logs are in the installation's logs directory"));
        }
        tokio::select! {
            () = clock.sleep(POLL) => {}
            () = context.shutdown.triggered() => {}
        }
    }
}

/// A process that ended before it was ready.
fn ended_early(ended: &super::launch::Ended) -> Failure {
    // A role says why it ends in its last line: `error[CODE]: ...`.
    Failure::new(
        Exit::Other,
        "E_CHILD_ENDED",
        format!("{} ended ({}):\n{}", ended.name, ended.status, ended.last_words),
    )
}

async fn log_in(context: &Context, target: &Target, password: &str) -> Option<Ready> {
    let client = context.connect(target, None).await.ok()?;
    match client.login(ADMIN, password).await {
        Ok(login) => Some(Ready { client, login }),
        Err(error) => {
            if error.kind() == Kind::Denied {
                tracing::warn!(%error, "the admin's password is refused");
            }
            None
        }
    }
}

/// The board for what `status` says; without one nobody has answered yet.
pub(crate) fn rows(plan: &Plan, status: Option<&Installation>) -> Vec<Row> {
    let mut rows = Vec::new();
    for process in &plan.supernodes {
        let names = status.map(|status| &status.names);
        let member = names.and_then(|names| {
            names
                .members
                .iter()
                .find(|member| member.control == process.control)
        });
        let leads = member.is_some_and(|member| names.is_some_and(|names| names.leader == Some(member.node)));
        let has_leader = names.is_some_and(|names| names.leader.is_some());
        let state = match member {
            _ if status.is_none() => "starting",
            None => "joining",
            Some(_) if leads => "leader",
            Some(member) if member.voter => "voter",
            Some(_) => "learning",
        };
        rows.push(Row {
            name: process.name.clone(),
            address: process.control.clone(),
            state: state.to_owned(),
            ready: has_leader && member.is_some_and(|member| member.voter),
        });
    }
    for cluster in &plan.clusters {
        let state = status.and_then(|status| status.clusters.iter().find(|state| state.name == cluster.name));
        rows.extend(cluster_rows(cluster, state));
    }
    rows
}

fn cluster_rows(cluster: &Cluster, state: Option<&ClusterState>) -> Vec<Row> {
    let fresh = state.filter(|state| state.report_age.is_some_and(|age| age <= REPORT_AGE_MAX));
    let expected = voters(u32::try_from(cluster.nodes.len()).unwrap_or(u32::MAX)) as usize;
    let voting = fresh.map_or(0, |state| {
        state.nodes.iter().filter(|node| node.member.voter).count()
    });
    let takes_files = fresh.is_some_and(|state| state.leader.is_some() && state.accepts_files.is_ok());
    let row = |process: &super::layout::Process| {
        let node = fresh.and_then(|state| {
            state
                .nodes
                .iter()
                .find(|node| node.member.data == process.data || node.member.name == process.name)
        });
        let leads =
            node.is_some_and(|node| fresh.is_some_and(|state| state.leader == Some(node.member.node)));
        let live = node.is_some_and(|node| node.condition == NodeCondition::Live);
        let role = match node {
            None => String::new(),
            Some(_) if leads => ", leader".to_owned(),
            Some(node) if node.member.voter => ", voter".to_owned(),
            Some(_) => ", learner".to_owned(),
        };
        let condition = node.map_or_else(
            || "starting".to_owned(),
            |node| format!("{:?}", node.condition).to_ascii_lowercase(),
        );
        let waits = match fresh.map(|state| &state.accepts_files) {
            Some(Err(reason)) if live => format!(" ({reason})"),
            _ => String::new(),
        };
        Row {
            name: process.name.clone(),
            address: process.data.clone(),
            state: format!("{condition}{role}{waits}"),
            ready: live && takes_files && voting >= expected,
        }
    };
    cluster.nodes.iter().map(row).collect()
}
