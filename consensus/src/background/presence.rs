//! Keeps this member known to the others, and the others to it, also after addresses have changed.

use std::sync::Arc;
use std::time::Duration;

use proto::error::RpcError;
use proto::raft::v1 as pb;
use tonic::{Request, Status};

use crate::ledger::Ledger;
use crate::rivals;
use crate::schema::{Announce, Kind, Record};
use crate::status::MemberRecord;
use crate::transport::{Peers, record_out};

const PERIOD: Duration = Duration::from_secs(1);
/// After so long without a leader this member looks for one.
const UNHEARD: Duration = Duration::from_secs(5);
/// Periods between two looks of a lone leader for another group.
const ELDER_PERIODS: u32 = 3;
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Presence {
    pub(crate) ledger: Ledger,
    pub(crate) peers: Arc<Peers>,
    pub(crate) record: MemberRecord,
    /// Control addresses from the settings.
    pub(crate) join: Vec<String>,
    /// Makes this member's row where there is none.
    pub(crate) nonce: Vec<u8>,
}

impl Presence {
    pub(crate) async fn run(self) {
        let mut announced = false;
        let mut periods = 0_u32;
        loop {
            periods = periods.wrapping_add(1);
            if self.ledger.roster.timekeeper.leading().is_some() {
                announced = self.announce_here().await;
                if periods.is_multiple_of(ELDER_PERIODS) {
                    self.yield_to_elder().await;
                }
            } else {
                let unheard = self.ledger.roster.timekeeper.unheard();
                let lonely = unheard.is_none_or(|unheard| unheard > UNHEARD);
                if !announced || lonely {
                    announced = self.announce_there().await;
                }
            }
            self.ledger.clock.sleep(PERIOD).await;
        }
    }

    /// The leader commits its own record where it is not committed yet.
    async fn announce_here(&self) -> bool {
        let node = self.peers.identity.node.get();
        if is_current(&self.ledger, node, &self.record) {
            return true;
        }
        let announce = Announce {
            node,
            record: Some(Record::from(&self.record)),
            nonce: self.nonce.clone(),
        };
        self.ledger.commit(Kind::Announce(announce)).await.is_ok()
    }

    /// Ends this member where it has founded a group beside one that lives: nobody of that was there when it asked.
    async fn yield_to_elder(&self) {
        if self.ledger.roster.state.members.borrow().len() > 1 {
            return;
        }
        for address in self
            .join
            .iter()
            .filter(|address| **address != self.record.control)
        {
            let Ok(reply) = self.peers.seed().describe(address).await else {
                continue;
            };
            if reply.cluster_id.as_ref() != self.peers.identity.cluster.bytes() && reply.members.len() > 1 {
                let members = reply.members.len();
                self.ledger.roster.health.fail(format!(
                    "it founded a second group beside the one of {members} members that {address} belongs to: move its \
                     directory away and start it again without found"
                ));
                return;
            }
        }
    }

    /// Finds a leader and tells it.
    async fn announce_there(&self) -> bool {
        let mut leader = self.ledger.roster.leader().map(|leader| leader.control);
        if leader.is_none() {
            leader = self.look_around().await;
        }
        let Some(leader) = leader else {
            return false;
        };
        match self.announce_to(&leader).await {
            Ok(()) => true,
            Err(status) => {
                let refusal = RpcError::from(status.clone());
                if refusal.code == rivals::CODE {
                    tracing::error!(node = %self.peers.identity.node, "{}", refusal.message);
                    self.ledger.roster.health.fail(refusal.message);
                    return false;
                }
                tracing::debug!(%leader, %status, "could not announce this member");
                // The leader may have moved.
                self.look_around().await;
                false
            }
        }
    }

    async fn announce_to(&self, leader: &str) -> Result<(), Status> {
        let client = self.peers.seed().client(leader);
        let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(pb::AnnounceRequest {
            envelope: self.peers.identity.envelope(0),
            member: Some(record_out(self.peers.identity.node.get(), &self.record)),
            incarnation: self.peers.identity.incarnation.to_vec().into(),
            nonce: self.nonce.clone().into(),
        });
        request.set_timeout(ANNOUNCE_TIMEOUT);
        client.announce(request).await.map(drop)
    }

    /// Asks every address known who is there; remembers members found, returns the leader's address.
    async fn look_around(&self) -> Option<String> {
        let members = self.ledger.roster.state.members.borrow().clone();
        let recorded = members.iter().map(|member| member.record.control.clone());
        let mut addresses: Vec<String> = self.join.iter().cloned().chain(recorded).collect();
        addresses.sort();
        addresses.dedup();
        addresses.retain(|address| *address != self.record.control);
        let asked = addresses.iter().map(|address| async move {
            let reply = self.peers.seed().describe(address).await.ok()?;
            let ours = reply.cluster_id.as_ref() == self.peers.identity.cluster.bytes();
            ours.then_some((address, reply))
        });
        let found = futures::future::join_all(asked).await;
        let mut leader = None;
        for (address, reply) in found.into_iter().flatten() {
            self.peers.hint(reply.node, address);
            let leads = |found: &pb::Member| found.node == reply.node;
            if reply.leader.as_ref().is_some_and(leads) {
                leader = Some(address.clone());
            } else if leader.is_none() {
                leader = reply.leader.map(|found| found.control_address);
            }
        }
        leader
    }
}

/// Whether the committed record of `node` is `record`, and the node takes part.
pub(crate) fn is_current(ledger: &Ledger, node: u64, record: &MemberRecord) -> bool {
    let members = ledger.roster.state.members.borrow();
    members
        .iter()
        .any(|member| member.node == node && member.active && member.record == *record)
}
