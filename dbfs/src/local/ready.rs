//! Whether an installation is ready: judged by what it says of itself, not by how long it has been running.

use std::time::Duration;

use client::Client;
use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use client::cli::session::Target;
use client::names::{ClusterState, Installation, Login, NodeCondition};
use common::error::Kind;

use super::board::{Board, Row};
use super::launch::{Ended, Fleet};
use super::layout::{Cluster, Plan, voters};

/// How long a start may take before something must be wrong.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// Where a process is missing, the others have come as far as they can once nothing has changed for so long.
const SETTLED_AFTER: Duration = Duration::from_secs(8);
/// Where nobody can log in, how long processes are watched that may end at once.
const LOCKED_OUT_LOOK: Duration = Duration::from_secs(3);
/// A process that cannot run ends within this.
const LASTS_AFTER: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(150);
/// One question; a process that has not come up yet answers none.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A cluster's report must be of this run, not what the supernodes remember of the last one.
const REPORT_AGE_MAX: Duration = Duration::from_secs(5);

/// The first admin of a local installation.
pub(crate) const ADMIN: &str = "admin";

/// An installation that serves.
pub(crate) struct Ready {
    /// Logged in as the admin where `login` is there.
    pub(crate) client: Client,
    /// What the login gave; `None` where the password in the installation's directory is not the admin's any more.
    pub(crate) login: Option<Login>,
    /// Processes that could not be started, or ended at once.
    pub(crate) missing: Vec<Ended>,
    /// Who runs but is not what it should be, and how it stands.
    pub(crate) waiting: Vec<String>,
    /// Every group has a leader, so that none has to be founded any more.
    pub(crate) is_founded: bool,
}

/// Waits until every group has its leader and voters, and every node is live. Where processes are `missing`, until the
/// others have come as far as they can.
///
/// # Errors
/// The installation cannot serve, or the user interrupts.
pub(crate) async fn wait(
    context: &Context,
    target: &Target,
    password: Option<&str>,
    plan: &Plan,
    fleet: &mut Fleet,
    mut missing: Vec<Ended>,
) -> Result<Ready, Failure> {
    let clock = &context.seams.clock;
    let mut board = Board::new(&context.console);
    let began = clock.moment();
    let (mut known, mut shown, mut changed) = (None, Vec::new(), began);
    loop {
        missing.extend(fleet.ended());
        if context.shutdown.is_triggered() {
            return Err(Failure::interrupted());
        }
        if known.is_none() {
            let logging_in = log_in(context, target, password, plan.founded);
            known = clock.timeout(ASK_TIMEOUT, logging_in).await.flatten();
        }
        let status = match &known {
            Some((client, Some(_))) => clock
                .timeout(ASK_TIMEOUT, client.status())
                .await
                .and_then(Result::ok),
            _ => None,
        };
        let rows = with_missing(rows(plan, status.as_ref()), &missing);
        let waiting: Vec<String> = rows
            .iter()
            .filter(|row| !row.ready && missing.iter().all(|ended| ended.name != row.name))
            .map(|row| format!("{} ({})", row.name, row.state))
            .collect();
        let now = clock.moment();
        if rows != shown {
            changed = now;
            shown.clone_from(&rows);
        }
        board.show(rows);
        let is_whole = waiting.is_empty()
            && missing.is_empty()
            && now.since(began) > LASTS_AFTER
            && everybody_listens(context, plan).await;
        let is_settled = is_whole
            || !missing.is_empty() && now.since(changed) > SETTLED_AFTER
            || now.since(began) > READY_TIMEOUT
            || is_locked_out(&known) && now.since(began) > LOCKED_OUT_LOOK;
        if is_settled {
            let led = status.as_ref().and_then(|status| led(plan, status));
            return match known {
                // Only the admin is told how the clusters do.
                Some((client, login)) if led.is_some_and(|led| led > 0) || login.is_none() => Ok(Ready {
                    client,
                    login,
                    missing,
                    waiting,
                    is_founded: led == Some(plan.clusters.len()),
                }),
                _ => Err(cannot_serve(&missing, &waiting)),
            };
        }
        tokio::select! {
            () = clock.sleep(POLL) => {}
            () = context.shutdown.triggered() => {}
        }
    }
}

/// Whether something listens at every control address: what others say of a process may be what it was before.
async fn everybody_listens(context: &Context, plan: &Plan) -> bool {
    for (process, _, _) in plan.processes() {
        if context.seams.network.connect(&process.control).await.is_err() {
            return false;
        }
    }
    true
}

/// How many clusters have a leader; `None` where the names group has none.
fn led(plan: &Plan, status: &Installation) -> Option<usize> {
    status.names.leader?;
    let has_leader = |cluster: &&Cluster| {
        status.clusters.iter().any(|state| {
            state.name == cluster.name
                && state.leader.is_some()
                && state.report_age.is_some_and(|age| age <= REPORT_AGE_MAX)
        })
    };
    Some(plan.clusters.iter().filter(has_leader).count())
}

fn is_locked_out(known: &Option<(Client, Option<Login>)>) -> bool {
    matches!(known, Some((_, None)))
}

fn with_missing(mut rows: Vec<Row>, missing: &[Ended]) -> Vec<Row> {
    for row in &mut rows {
        if missing.iter().any(|ended| ended.name == row.name) {
            "does not run".clone_into(&mut row.state);
            row.ready = false;
        }
    }
    rows
}

fn cannot_serve(missing: &[Ended], waiting: &[String]) -> Failure {
    if missing.is_empty() {
        let message = format!(
            "not ready after {} s: {}",
            READY_TIMEOUT.as_secs(),
            waiting.join(", ")
        );
        return Failure::new(Exit::Unavailable, "E_START", message)
            .hint("the logs are in the installation's logs directory");
    }
    // A role says why it ends in its last line: `error[CODE]: ...`.
    let each: Vec<String> = missing.iter().map(Ended::told).collect();
    let message = format!("the installation cannot serve: {}", each.join("\n"));
    Failure::new(Exit::Other, "E_CHILD_ENDED", message)
        .hint("remove the cause and run `dbfs up` again; nothing that is stored is lost")
}

/// A client that is logged in; one without a login where the password is not the admin's; nothing where nobody answers.
async fn log_in(
    context: &Context,
    target: &Target,
    password: Option<&str>,
    is_founded: bool,
) -> Option<(Client, Option<Login>)> {
    let client = context.connect(target, None).await.ok()?;
    let Some(password) = password else {
        return Some((client, None));
    };
    match client.login(ADMIN, password).await {
        Ok(login) => Some((client, Some(login))),
        // Until the first start is over there may be no admin yet.
        Err(error) if is_founded && error.kind() == Kind::Denied => Some((client, None)),
        Err(_) => None,
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
