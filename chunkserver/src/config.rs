//! The `chunkserver` section of the configuration: every key with its default, checked once at start.
//!
//! Invariant: a [`Config`] that [`Config::validate`] let pass needs no further checks; what does not fit together is an
//! error that names the key and what to write instead (P11).

use std::path::PathBuf;
use std::time::Duration;

use common::address;
use common::units::{ByteCount, Span};
use serde::{Deserialize, Serialize};

use crate::store::config::StoreConfig;
use crate::transfer::settings::DataPlaneSettings;

/// The longest a [`proto::files::v1::SealRequest`] may wait for an outcome.
pub const SEAL_WAIT_MAX: Duration = Duration::from_secs(30);

/// One chunkserver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the cluster: lower-case letters, digits, hyphens. Part of every node's certificate.
    pub cluster: String,
    /// Name of this node, for people.
    pub node: String,
    /// Failure domain (rack, room). Empty: the host is its own zone.
    pub zone: String,
    /// Name of the machine; processes with the same host are one failure domain. Empty: the machine's own name.
    pub host: String,
    /// Where the cluster stands, for people and for the choice of a second cluster.
    pub site: String,
    /// Directory of metadata: Raft log, state machine, identity of the node.
    pub data_dir: PathBuf,
    /// Directory with `ca.pem`, `node.pem` and `node.key`.
    pub identity_dir: PathBuf,
    /// Addresses to bind.
    pub listen: Addresses,
    /// Addresses that others connect to; empty: as bound.
    pub advertise: Addresses,
    /// Found a new cluster here, where there is none yet in `data_dir`. Exactly one node of a cluster says so.
    pub found: bool,
    /// Control addresses of nodes of the cluster to join, where this node is new.
    pub join: Vec<String>,
    /// How many nodes vote: 1, 3 or 5.
    pub voters: u32,
    /// Control addresses of supernodes; any one that answers is enough.
    pub supernodes: Vec<String>,
    /// Whether an upload may be acknowledged with fewer than two copies.
    pub durability: Durability,
    /// Where and how chunks are kept.
    pub store: StoreConfig,
    /// Bounds and deadlines of the bulk data plane.
    pub data_plane: DataPlaneSettings,
    /// Periods and deadlines.
    pub timings: Timings,
    /// Bounds (P10).
    pub limits: Limits,
}

/// Where a process is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Addresses {
    /// gRPC: `host:port`.
    pub control: String,
    /// Bulk data plane: `host:port`.
    pub data: String,
}

/// What an acknowledged upload has behind it (P1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Two copies of every chunk on two nodes. Needs three nodes to go on when one is lost.
    Full,
    /// One copy is accepted where there is no second node. Receipts and `status` say so.
    Reduced,
}

/// Periods and deadlines. Those that say so are in cluster time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// Leader of the Raft group to its members.
    pub raft_heartbeat: Span,
    /// A member that hears no leader asks for votes after a random time from this...
    pub election_min: Span,
    /// ...up to this.
    pub election_max: Span,
    /// Node to leader.
    pub heartbeat_period: Span,
    /// Leader to supernodes.
    pub registry_period: Span,
    /// A node not heard from for so long gets no new data.
    pub suspect_after: Span,
    /// A node not heard from for so long is given up: its chunks count as lacking a copy.
    pub dead_after: Span,
    /// An upload whose client is silent for so long is abandoned (cluster time).
    pub upload_silence_max: Span,
    /// How long a permit to write or read one chunk lasts (cluster time).
    pub grant_lifetime: Span,
    /// From the mark of an unreferenced chunk to its doom: the time in which a mistake can be undone (cluster time).
    pub mark_undo_window: Span,
    /// From doom to the first order to drop; at least the lifetime of a grant, so that long reads end (cluster time).
    pub drop_delay: Span,
    /// How long an upload that owns nothing any more is remembered, so that a late request finds its end (cluster time).
    pub upload_memory: Span,
    /// How often the leader looks for what can be reclaimed.
    pub reclaim_period: Span,
    /// How often a node reports all that its disks hold.
    pub inventory_period: Span,
    /// How soon after its start a node does so first.
    pub inventory_delay: Span,
    /// How often the data-plane key is replaced (cluster time).
    pub key_period: Span,
}

/// Bounds on what a chunkserver takes on (P10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Control requests under way; more are answered with Busy.
    pub requests_in_flight_max: u32,
    /// Seals that wait for their outcome at once.
    pub seals_waiting_max: u32,
    /// Uploads open in this cluster at once.
    pub uploads_open_max: u64,
    /// Memory for manifests, which never change and are therefore always right.
    pub manifest_cache_bytes_max: ByteCount,
    /// Threads for Raft and control.
    pub control_threads: u32,
    /// Threads for the data plane.
    pub data_threads: u32,
    /// Kept free under data_dir, so that deletions can be written down when it is full. Below it on any node that votes,
    /// the cluster takes no uploads. A data directory on the same file system leaves so much more.
    pub disk_reserve_bytes: ByteCount,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "alpha".to_owned(),
            node: String::new(),
            zone: String::new(),
            host: String::new(),
            site: String::new(),
            data_dir: PathBuf::new(),
            identity_dir: PathBuf::new(),
            listen: Addresses {
                control: "127.0.0.1:7101".to_owned(),
                data: "127.0.0.1:7102".to_owned(),
            },
            advertise: Addresses::default(),
            found: false,
            join: Vec::new(),
            voters: 3,
            supernodes: Vec::new(),
            durability: Durability::Full,
            store: StoreConfig::default(),
            data_plane: DataPlaneSettings::default(),
            timings: Timings::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            raft_heartbeat: Span::millis(200),
            election_min: Span::seconds(1),
            election_max: Span::seconds(2),
            heartbeat_period: Span::millis(500),
            registry_period: Span::seconds(1),
            suspect_after: Span::seconds(2),
            dead_after: Span::seconds(30),
            upload_silence_max: Span::seconds(600),
            grant_lifetime: Span::seconds(120),
            mark_undo_window: Span::seconds(600),
            drop_delay: Span::seconds(150),
            upload_memory: Span::seconds(7 * 86_400),
            reclaim_period: Span::seconds(5),
            inventory_period: Span::seconds(600),
            inventory_delay: Span::seconds(20),
            key_period: Span::seconds(86_400),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight_max: 2048,
            seals_waiting_max: 1024,
            uploads_open_max: 100_000,
            manifest_cache_bytes_max: ByteCount::mib(64),
            control_threads: 2,
            data_threads: 2,
            disk_reserve_bytes: ByteCount::mib(256),
        }
    }
}

/// The configuration does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunkserver.{key}: {reason}")]
pub struct Error {
    /// The dotted path below `chunkserver`.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first key that does not fit, and why.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |key, reason: &str| {
            Err(Error {
                key,
                reason: reason.to_owned(),
            })
        };
        if !is_cluster_name(&self.cluster) {
            return refuse("cluster", "use 1 to 63 lower-case letters, digits and hyphens");
        }
        if self.node.is_empty() {
            return refuse("node", "give the node a name");
        }
        if self.data_dir.as_os_str().is_empty() {
            return refuse("data_dir", "name a directory for metadata");
        }
        if self.identity_dir.as_os_str().is_empty() {
            return refuse(
                "identity_dir",
                "name the directory with ca.pem, node.pem and node.key",
            );
        }
        if self.listen.control.is_empty() || self.listen.data.is_empty() {
            return refuse("listen", "name an address for control and one for data");
        }
        self.check_addresses()?;
        if !matches!(self.voters, 1 | 3 | 5) {
            return refuse("voters", "must be 1, 3 or 5");
        }
        if self.voters == 1 && self.durability == Durability::Full {
            return refuse(
                "voters",
                "one voter is no majority of anything: use 3, or say `durability: reduced`",
            );
        }
        if let Err(error) = self.store.validate() {
            return refuse("store", &error.to_string());
        }
        if let Err((key, reason)) = self.data_plane.validate() {
            return refuse("data_plane", &format!("{key} {reason}"));
        }
        self.timings.validate()?;
        self.limits.validate()
    }

    fn check_addresses(&self) -> Result<(), Error> {
        let check = |key, checked: Result<(), address::Error>| {
            checked.map_err(|error| Error {
                key,
                reason: error.advice(),
            })
        };
        for seed in &self.join {
            check("join", address::parse(seed).map(drop))?;
        }
        for supernode in &self.supernodes {
            check("supernodes", address::parse(supernode).map(drop))?;
        }
        check("listen.control", address::parse(&self.listen.control).map(drop))?;
        check("listen.data", address::parse(&self.listen.data).map(drop))?;
        self.announced(&self.listen.control, &self.listen.data).map(drop)
    }

    /// What others connect to, where the two planes are bound to `control` and `data`.
    ///
    /// # Errors
    /// Nobody else can connect to what they are bound to, and nothing says what to use in its place.
    pub fn announced(&self, control: &str, data: &str) -> Result<Addresses, Error> {
        let seeds: Vec<String> = self.join.iter().chain(&self.supernodes).cloned().collect();
        let of = |key, advertise: &str, bound: &str| {
            address::announced(advertise, bound, &seeds).map_err(|error| Error {
                key,
                reason: error.advice(),
            })
        };
        Ok(Addresses {
            control: of("advertise.control", &self.advertise.control, control)?,
            data: of("advertise.data", &self.advertise.data, data)?,
        })
    }

    /// The name of the machine.
    pub fn host_name(&self) -> &str {
        if self.host.is_empty() {
            &self.node
        } else {
            &self.host
        }
    }

    /// The failure domain.
    pub fn zone_name(&self) -> &str {
        if self.zone.is_empty() {
            self.host_name()
        } else {
            &self.zone
        }
    }
}

impl Timings {
    fn validate(&self) -> Result<(), Error> {
        let refuse = |key, reason: &str| {
            Err(Error {
                key,
                reason: reason.to_owned(),
            })
        };
        if self.heartbeat_period.get().is_zero() || self.registry_period.get().is_zero() {
            return refuse("timings.heartbeat_period", "must not be zero");
        }
        if self.suspect_after < self.heartbeat_period {
            return refuse("timings.suspect_after", "must be at least heartbeat_period");
        }
        if self.dead_after < self.suspect_after {
            return refuse("timings.dead_after", "must be at least suspect_after");
        }
        if self.grant_lifetime < Span::seconds(2) {
            return refuse(
                "timings.grant_lifetime",
                "must be at least 2s: clients do not begin with a second left",
            );
        }
        if self.drop_delay < self.grant_lifetime {
            return refuse(
                "timings.drop_delay",
                "must be at least grant_lifetime, so that reads under way can end",
            );
        }
        if self.upload_silence_max < self.grant_lifetime {
            return refuse(
                "timings.upload_silence_max",
                "must be at least grant_lifetime: a chunk may take that long",
            );
        }
        if self.reclaim_period.get().is_zero() || self.inventory_period.get().is_zero() {
            return refuse("timings.reclaim_period", "must not be zero");
        }
        Ok(())
    }
}

impl Limits {
    fn validate(&self) -> Result<(), Error> {
        if self.requests_in_flight_max == 0
            || self.seals_waiting_max == 0
            || self.uploads_open_max == 0
            || self.control_threads == 0
            || self.data_threads == 0
        {
            return Err(Error {
                key: "limits",
                reason: "every limit must be at least 1".to_owned(),
            });
        }
        Ok(())
    }
}

fn is_cluster_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable() -> Config {
        let store = StoreConfig {
            directories: vec![crate::store::config::DirectoryConfig {
                path: "/tmp/a/chunks".into(),
                capacity_bytes: None,
            }],
            ..StoreConfig::default()
        };
        Config {
            store,
            node: "a1".to_owned(),
            data_dir: "/tmp/a".into(),
            identity_dir: "/tmp/i".into(),
            ..Config::default()
        }
    }

    #[test]
    fn the_defaults_need_only_names_and_places() {
        assert_eq!(usable().validate(), Ok(()));
        assert_eq!(usable().zone_name(), "a1");
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 5] = [
            ("voters", |config| config.voters = 2),
            ("voters", |config| config.voters = 1),
            ("cluster", |config| config.cluster = "Al pha".to_owned()),
            ("timings.drop_delay", |config| {
                config.timings.drop_delay = Span::seconds(1);
            }),
            ("timings.dead_after", |config| {
                config.timings.dead_after = Span::millis(1);
            }),
        ];
        for (key, spoil) in cases {
            let mut config = usable();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(common::config::parse::<Config>("clusster: a\n").is_err());
        let config: Config = common::config::parse("durability: reduced\nvoters: 1\n").unwrap();
        assert_eq!(config.durability, Durability::Reduced);
    }
}
