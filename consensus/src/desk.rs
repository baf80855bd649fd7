//! What other processes may ask of this member.

use std::sync::Arc;

use common::ids::JoinNonce;

use crate::background::presence::is_current;
use crate::engine::Answer;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::reads::Gate;
use crate::schema::{Announce, Join, Kind, Record};
use crate::status::{Member, MemberRecord};
use crate::transport::Desk;

pub(crate) struct FrontDesk {
    pub(crate) ledger: Ledger,
    /// Confirms on this member alone.
    pub(crate) here: Gate,
    pub(crate) members_max: usize,
}

#[tonic::async_trait]
impl Desk for FrontDesk {
    async fn read_index(&self) -> Result<u64, Error> {
        self.here.index().await
    }

    async fn join(&self, nonce: JoinNonce, record: MemberRecord) -> Result<u64, Error> {
        let join = Kind::Join(Join {
            nonce: nonce.bytes().to_vec(),
            record: Some(Record::from(&record)),
            members_max: self.members_max as u64,
        });
        // A task of its own: a joiner that hangs up must not leave us without knowing the outcome.
        let ledger = self.ledger.clone();
        let committed = tokio::spawn(async move { ledger.commit(join).await });
        match committed.await.map_err(|_| Error::OutcomeUnknown)?? {
            Answer::Joined(Ok(node)) => Ok(node.get()),
            Answer::Joined(Err(reason)) => Err(Error::Refused { reason }),
            Answer::Applied | Answer::Commands(_) => Err(Error::OutcomeUnknown),
        }
    }

    async fn announce(&self, node: u64, nonce: Vec<u8>, record: MemberRecord) -> Result<(), Error> {
        self.ledger.leading()?;
        if is_current(&self.ledger, node, &record) {
            return Ok(());
        }
        let announce = Kind::Announce(Announce {
            node,
            record: Some(Record::from(&record)),
            nonce,
        });
        let ledger = self.ledger.clone();
        let committed = tokio::spawn(async move { ledger.commit(announce).await });
        committed.await.map_err(|_| Error::OutcomeUnknown)?.map(drop)
    }

    fn describe(&self) -> (Option<Member>, Arc<[Member]>) {
        (self.ledger.roster.leader(), self.ledger.roster.members())
    }
}
