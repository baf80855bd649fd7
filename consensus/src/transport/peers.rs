//! Who is reached where: addresses from the committed member records, and hints learned from the peers themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::net::Network;
use common::tls::Role;
use parking_lot::Mutex;
use proto::raft::v1 as pb;
use proto::raft::v1::raft_client::RaftClient;
use rustls::ClientConfig;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::error::Error;
use crate::settings::Settings;
use crate::state::MemberRow;
use crate::transport::MESSAGE_BYTES_MAX;
use crate::transport::wire::Identity;

/// How long a peer may take to say who it is.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) type Client = RaftClient<Channel>;

/// Reaches processes by address, before and without any membership.
#[derive(Clone)]
pub(crate) struct Seed {
    network: Network,
    role: Role,
    tls: Arc<ClientConfig>,
    label: String,
}

/// Reaches members by id.
pub(crate) struct Peers {
    seed: Seed,
    pub(crate) identity: Identity,
    members: watch::Receiver<Arc<[MemberRow]>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Open channels, with the address they lead to.
    channels: BTreeMap<(u64, Lane), (String, Client)>,
    /// Where a member was found, when its record was of no use.
    hints: BTreeMap<u64, Hint>,
    /// Who did not answer the last time.
    silent: BTreeSet<u64>,
}

struct Hint {
    address: String,
    /// The record then; a newer one is right.
    instead_of: Option<String>,
}

/// Snapshots travel on connections of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Lane {
    Log,
    Snapshot,
}

/// Who says that it is a member, and where.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) control: &'a str,
}

impl Seed {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            network: settings.network.clone(),
            role: settings.role.clone(),
            tls: Arc::clone(&settings.tls),
            label: settings.label.clone(),
        }
    }

    /// A channel to the process at `address`.
    pub(crate) fn client(&self, address: &str) -> Result<Client, Error> {
        let channel = proto::control::connect(&self.network, address, &self.role, Arc::clone(&self.tls))
            .map_err(|error| Error::Settings {
                reason: error.to_string(),
            })?;
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// An envelope from a process that is no member yet.
    pub(crate) fn envelope(&self) -> Option<pb::Envelope> {
        Some(pb::Envelope {
            protocol_version: proto::PROTOCOL_VERSION,
            group: self.label.clone(),
            ..pb::Envelope::default()
        })
    }

    /// Asks the process at `address` which group it belongs to.
    pub(crate) async fn describe(&self, address: &str) -> Result<pb::DescribeReply, Status> {
        let envelope = self.envelope();
        self.ask(
            address,
            pb::DescribeRequest {
                envelope,
                ..pb::DescribeRequest::default()
            },
        )
        .await
    }

    /// The same, saying who asks: a process of the same identity takes note.
    pub(crate) async fn describe_as(
        &self,
        address: &str,
        claim: Claim<'_>,
    ) -> Result<pb::DescribeReply, Status> {
        let (identity, control) = (claim.identity, claim.control);
        let node = identity.node.get();
        self.describe_for(address, identity, node, &identity.incarnation, control)
            .await
    }

    /// The same on behalf of member `node` of the group of `identity`.
    pub(crate) async fn describe_for(
        &self,
        address: &str,
        identity: &Identity,
        node: u64,
        incarnation: &[u8],
        control: &str,
    ) -> Result<pb::DescribeReply, Status> {
        let envelope = identity.envelope(0).map(|envelope| pb::Envelope {
            from_node: node,
            ..envelope
        });
        let request = pb::DescribeRequest {
            envelope,
            incarnation: incarnation.to_vec().into(),
            control_address: control.to_owned(),
        };
        self.ask(address, request).await
    }

    async fn ask(&self, address: &str, request: pb::DescribeRequest) -> Result<pb::DescribeReply, Status> {
        let mut client = self
            .client(address)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut request = Request::new(request);
        request.set_timeout(DESCRIBE_TIMEOUT);
        client.describe(request).await.map(tonic::Response::into_inner)
    }
}

impl Peers {
    pub(crate) fn new(seed: Seed, identity: Identity, members: watch::Receiver<Arc<[MemberRow]>>) -> Self {
        Self {
            seed,
            identity,
            members,
            known: Mutex::new(Known::default()),
        }
    }

    pub(crate) fn seed(&self) -> &Seed {
        &self.seed
    }

    /// A channel to member `node`; `None` while nobody knows where it is.
    pub(crate) fn client(&self, node: u64, lane: Lane) -> Option<Client> {
        let recorded = self.recorded(node);
        let mut known = self.known.lock();
        let hint = known.hints.get(&node).filter(|hint| hint.instead_of == recorded);
        let address = hint.map(|hint| hint.address.clone()).or(recorded)?;
        if let Some((open, client)) = known.channels.get(&(node, lane))
            && *open == address
        {
            return Some(client.clone());
        }
        let client = self.seed.client(&address).ok()?;
        known.channels.insert((node, lane), (address, client.clone()));
        Some(client)
    }

    /// Member `node` answered a call, or `failure` says why it did not. What is new is logged; that it goes on is not.
    pub(crate) fn heard(&self, node: u64, failure: Option<&str>) {
        let silent = &mut self.known.lock().silent;
        match failure {
            Some(error) if silent.insert(node) => {
                tracing::warn!(group = self.seed.label, node, error, "a member cannot be reached");
            }
            None if silent.remove(&node) => {
                tracing::info!(group = self.seed.label, node, "a member is reached again");
            }
            _ => {}
        }
    }

    /// The control address of `node`, as committed.
    pub(crate) fn recorded(&self, node: u64) -> Option<String> {
        let members = self.members.borrow();
        let member = members.iter().find(|member| member.node == node);
        member.map(|member| member.record.control.clone())
    }

    /// Member `node` answered at `address`; holds until its record changes.
    pub(crate) fn hint(&self, node: u64, address: &str) {
        let recorded = self.recorded(node);
        let mut known = self.known.lock();
        if recorded.as_deref() == Some(address) {
            known.hints.remove(&node);
            return;
        }
        let hint = Hint {
            address: address.to_owned(),
            instead_of: recorded,
        };
        known.hints.insert(node, hint);
    }
}
