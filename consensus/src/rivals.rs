//! One identity lives once: who starts from a copied data directory is refused while the original runs.
//!
//! Two processes that act as one member could vote twice and acknowledge what only one of them stores. Every process has
//! an incarnation, chosen at its start. Before a member takes part, it looks for its own identity at every address where
//! that could run; the leader does the same before it believes that a member has moved. A process that is gone does not
//! answer, so that a restart, also at another address, costs one round of questions.

use std::collections::BTreeSet;
use std::time::Duration;

use common::error::Kind;
use futures::future::join_all;
use proto::error::RpcError;
use proto::raft::v1 as pb;
use tonic::Status;

use crate::error::Error;
use crate::settings::Settings;
use crate::transport::{Claim, Peers};

/// How long one address may take to say who is there. What does not answer does not take part either.
const ASK_MAX: Duration = Duration::from_millis(500);

/// The stable name of the refusal.
pub(crate) const CODE: &str = "E_SECOND_INCARNATION";

/// Looks for another process of this member's identity; `known` are the addresses of members as of the last run.
///
/// # Errors
/// [`Error::Refused`]: it runs, and where.
pub(crate) async fn look(settings: &Settings, peers: &Peers, known: &[String]) -> Result<(), Error> {
    let claim = Claim {
        identity: &peers.identity,
        control: &settings.record.control,
    };
    let addresses: BTreeSet<&String> = known
        .iter()
        .chain(&settings.join)
        .filter(|address| **address != settings.record.control)
        .collect();
    let refused = |address: &str| Error::Refused {
        reason: refusal(claim.identity.node.get(), address),
    };
    let mut moved = BTreeSet::new();
    for (address, reply) in ask_all(settings, peers, claim, &addresses).await {
        if is_rival(claim, &reply) {
            return Err(refused(&address));
        }
        let ours = reply
            .members
            .into_iter()
            .filter(|member| member.node == claim.identity.node.get());
        moved.extend(ours.map(|member| member.control_address));
    }
    // Where it has moved to meanwhile, as others know.
    moved.retain(|address| !addresses.contains(address) && *address != settings.record.control);
    let found = ask_all(settings, peers, claim, &moved.iter().collect()).await;
    match found.iter().find(|(_, reply)| is_rival(claim, reply)) {
        Some((address, _)) => Err(refused(address)),
        None => Ok(()),
    }
}

async fn ask_all(
    settings: &Settings,
    peers: &Peers,
    claim: Claim<'_>,
    addresses: &BTreeSet<&String>,
) -> Vec<(String, pb::DescribeReply)> {
    let asked = addresses.iter().map(|address| async move {
        let asking = peers.seed().describe_as(address, claim);
        let reply = settings.clock.timeout(ASK_MAX, asking).await?.ok()?;
        Some(((*address).clone(), reply))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether member `node`, which `incarnation` says is at `control` now, may be believed.
///
/// # Errors
/// Another process of that identity answers where the member is known to be.
pub(crate) async fn check_move(
    peers: &Peers,
    node: u64,
    incarnation: &[u8],
    control: &str,
) -> Result<(), Status> {
    let Some(address) = peers.recorded(node).filter(|address| address != control) else {
        return Ok(());
    };
    let Ok(reply) = peers
        .seed()
        .describe_for(&address, &peers.identity, node, incarnation, control)
        .await
    else {
        return Ok(());
    };
    let lives = reply.node == node
        && reply.cluster_id.as_ref() == peers.identity.cluster.bytes()
        && reply.incarnation.as_ref() != incarnation;
    if lives {
        return Err(RpcError::new(Kind::Conflict, CODE, refusal(node, &address)).into());
    }
    Ok(())
}

fn is_rival(claim: Claim<'_>, reply: &pb::DescribeReply) -> bool {
    reply.node == claim.identity.node.get()
        && reply.cluster_id.as_ref() == claim.identity.cluster.bytes()
        && reply.incarnation.as_ref() != claim.identity.incarnation
}

fn refusal(node: u64, address: &str) -> String {
    format!(
        "node {node} of this group runs at {address} already, so this data directory is a copy of that node's; stop one of \
         the two and keep it stopped; a further node starts with an empty data directory"
    )
}
