//! Control channels by address and role, kept for reuse and dropped when they failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::net::Network;
use common::tls::Role;
use parking_lot::Mutex;
use proto::control;
use rustls::ClientConfig;
use tonic::transport::Channel;

use crate::error::Error;

/// Channels kept at most; each is one connection. Beyond it, one of the others is closed.
const CHANNELS_MAX: usize = 256;

pub(super) struct Channels {
    network: Network,
    tls: Arc<ClientConfig>,
    /// By address and the name expected in the certificate.
    open: Mutex<BTreeMap<(String, String), Channel>>,
}

impl Channels {
    pub(super) fn new(network: Network, tls: Arc<ClientConfig>) -> Self {
        Self {
            network,
            tls,
            open: Mutex::default(),
        }
    }

    /// The channel to `address`, which connects when it is first used.
    pub(super) fn to(&self, address: &str, role: &Role) -> Result<Channel, Error> {
        let key = (address.to_owned(), role.server_name());
        let mut open = self.open.lock();
        if let Some(channel) = open.get(&key) {
            return Ok(channel.clone());
        }
        let channel = control::connect(&self.network, address, role, Arc::clone(&self.tls))?;
        if open.len() >= CHANNELS_MAX {
            open.pop_first();
        }
        open.insert(key, channel.clone());
        Ok(channel)
    }

    /// Forgets the channel to `address`: the next call connects anew instead of waiting for a dead connection to be
    /// noticed. Calls under way on it go on.
    pub(super) fn drop_channel(&self, address: &str, role: &Role) {
        self.open.lock().remove(&(address.to_owned(), role.server_name()));
    }
}
