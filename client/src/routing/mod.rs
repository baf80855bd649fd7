//! Routing: from "ask the supernodes" or "ask the leader of that cluster" to one process that answers.
//!
//! Invariant: a call is tried again only for the kinds of error that may pass, within a budget of tries and an overall
//! deadline (P10). Calls to one group that follow each other share the deadline, so that a command which meets no quorum
//! ends in time however many calls it makes. One silent process costs at most `FIRST_TRY_MAX` before the next is asked. What a redirect says
//! is remembered per group; it is a hint, never a truth. Nothing here knows what a call means.
//!
//! Read [`Router`] first, then `call`.

mod call;
mod channels;
mod data;
mod group;
mod time;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::ids::ClusterId;
use common::tls::{self, Role};
use parking_lot::{Mutex, RwLock};
use proto::bulk::pool::Pool;
use proto::names::v1 as names;

pub(crate) use call::{Ask, Try};
pub(crate) use group::Group;

use crate::buffer::Buffers;
use crate::error::Error;
use crate::settings::Settings;
use crate::throttle::Throttle;
use channels::Channels;
use data::DataPlane;
use group::GroupTable;
use time::NamesClock;

/// The supernodes' group and the clusters met so far, with the channels to them.
pub(crate) struct Router {
    pub(crate) settings: Settings,
    channels: Channels,
    data: DataPlane,
    supernodes: Arc<Group>,
    clusters: Mutex<GroupTable>,
    token: RwLock<Option<String>>,
    names_clock: NamesClock,
    pub(crate) throttle: Throttle,
    /// A transfer has begun to move bytes: from here on a longer outage is waited for.
    moving: AtomicBool,
    /// For every transfer of this client but streams.
    pub(crate) buffers: Buffers,
}

impl Router {
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let tls = tls::client_config(&settings.ca_pem, tls::ALPN_CONTROL)?;
        let channels = Channels::new(settings.seams.network.clone(), Arc::new(tls));
        let supernodes = Group::new("supernodes", Role::Supernode, settings.supernodes.clone());
        let data = DataPlane::new(&settings.ca_pem)?;
        let token = RwLock::new(settings.token.clone());
        let throttle = Throttle::new(settings.seams.clock.clone(), settings.limits.bytes_per_second_max);
        Ok(Self {
            throttle,
            moving: AtomicBool::new(false),
            buffers: Buffers::default(),
            settings,
            channels,
            data,
            supernodes: Arc::new(supernodes),
            clusters: Mutex::default(),
            token,
            names_clock: NamesClock::default(),
        })
    }

    /// A transfer moves bytes: what it has done so far is worth waiting for those who do not answer.
    pub(crate) fn moves_bytes(&self) {
        self.moving.store(true, Ordering::Relaxed);
    }

    /// How long a group may go without an answer.
    fn patience(&self) -> Duration {
        let limits = &self.settings.limits;
        if self.moving.load(Ordering::Relaxed) {
            limits.patient_give_up_after
        } else {
            limits.give_up_after
        }
    }

    /// The names group.
    pub(crate) fn supernodes(&self) -> &Arc<Group> {
        &self.supernodes
    }

    /// The id of the cluster at `location`.
    pub(crate) fn cluster_id(location: &names::ClusterLocation) -> Result<ClusterId, Error> {
        ClusterId::try_from(location.cluster_id.as_ref())
            .map_err(|_| Error::protocol("a cluster without an id"))
    }

    /// The cluster at `location`, remembered by its id, brought up to date with the members that `location` names.
    pub(crate) fn cluster(&self, location: &names::ClusterLocation) -> Result<Arc<Group>, Error> {
        let id = Self::cluster_id(location)?;
        let role = Role::Chunkserver(location.name.clone());
        // Names that cannot stand in a certificate are found out here, once.
        tls::expected_name(&role)?;
        let group = self.clusters.lock().get_or_insert(id, || {
            Group::new(&format!("members of cluster {}", location.name), role, Vec::new())
        });
        let leader = location.members.iter().find(|member| member.leader);
        group.learn(
            location.members.iter().map(|member| member.control.clone()),
            leader.map(|leader| leader.control.clone()),
        );
        Ok(group)
    }

    /// Connections to the data plane of the cluster at `location`.
    pub(crate) fn pool(&self, location: &names::ClusterLocation) -> Result<Pool, Error> {
        self.data
            .pool(&self.settings, Self::cluster_id(location)?, &location.name)
    }

    /// The token that goes with calls to the supernodes.
    pub(crate) fn token(&self) -> Option<String> {
        self.token.read().clone()
    }

    /// Replaces the token.
    pub(crate) fn set_token(&self, token: Option<String>) {
        *self.token.write() = token;
    }
}
