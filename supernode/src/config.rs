//! The `supernode` section of the configuration: every key with its default, checked once at start.
//!
//! Invariant: a [`Config`] that [`Config::validate`] let pass needs no further checks; what does not fit together is an
//! error that names the key and what to write instead (P11).

use std::path::PathBuf;

use common::address;
use common::units::{ByteCount, Span};
use serde::{Deserialize, Serialize};

/// One supernode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this supernode, for people.
    pub name: String,
    /// Failure domain (rack, room). Empty: the host is its own zone.
    pub zone: String,
    /// Name of the machine. Empty: the machine's own name.
    pub host: String,
    /// Directory of the Raft log and the state machine.
    pub data_dir: PathBuf,
    /// Directory with `ca.pem`, `node.pem` and `node.key`.
    pub identity_dir: PathBuf,
    /// Address to bind: `host:port`.
    pub listen: String,
    /// Address that others connect to; empty: as bound.
    pub advertise: String,
    /// Found a new names group here, where there is none yet in `data_dir`. Exactly one supernode says so.
    pub found: bool,
    /// Addresses of supernodes of the group to join, where this one is new.
    pub join: Vec<String>,
    /// How many supernodes vote: 1, 3 or 5.
    pub voters: u32,
    /// The first administrator.
    pub admin: Admin,
    /// How long things last and how often they are looked at.
    pub timings: Timings,
    /// Where new files go.
    pub placement: Placement,
    /// Bounds (P10).
    pub limits: Limits,
}

/// The administrator who is made when the installation has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Empty: none is made.
    pub user: String,
    /// File whose first line is the password.
    pub password_file: PathBuf,
}

/// How long things last, in names time, and how often they are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// A user's token.
    pub token_lifetime: Span,
    /// A ticket for an upload; the client asks for a fresh one before.
    pub upload_ticket_lifetime: Span,
    /// A ticket for reading a version.
    pub read_ticket_lifetime: Span,
    /// A retry is recognised for so long (P4).
    pub dedupe_window: Span,
    /// What is deleted or replaced can be brought back for so long (P6).
    pub trash_keep: Span,
    /// An open upload which nobody has asked about for so long is aborted.
    pub session_idle_max: Span,
    /// How often the key that signs tickets is replaced.
    pub signing_key_period: Span,
    /// How often the trash and the sessions are looked through.
    pub tidy_period: Span,
}

/// When a cluster gets new files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// A cluster with more of its disks in use gets none, in percent.
    pub high_water_percent: u32,
    /// A cluster not heard from for so long gets none.
    pub cluster_silence_max: Span,
}

/// Bounds on what a supernode takes on (P10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests of clients under way.
    pub requests_in_flight_max: u32,
    /// Requests of clients that wait for a place; more are answered with Busy.
    pub requests_queued_max: u32,
    /// How long a request waits for a place.
    pub queue_wait_max: Span,
    /// Requests of clusters under way; they have places of their own, so that clients cannot cut them off.
    pub cluster_requests_in_flight_max: u32,
    /// How long a request may take in all.
    pub request_time_max: Span,
    /// Password checks at once; each takes 19 MiB and a core for some 30 ms.
    pub password_checks_max: u32,
    /// Password checks that wait; more are answered with Busy.
    pub password_checks_queued_max: u32,
    /// Calls that wait for an upload's outcome at once; more are answered at once.
    pub upload_waits_max: u32,
    /// One request of a client.
    pub request_bytes_max: ByteCount,
    /// Entries of one page of a listing or search.
    pub page_entries_max: u32,
    /// Rows that are looked at for one page.
    pub page_rows_max: u32,
    /// Open uploads of one user.
    pub uploads_open_per_user_max: u32,
    /// Uploads of one user that were refused or aborted and are still remembered; with so many none can be opened.
    pub uploads_failed_per_user_max: u32,
    /// Kept free under data_dir, so that deletions can be written down when it is full. Below it on any supernode that
    /// votes, none takes what adds.
    pub disk_reserve_bytes: ByteCount,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            zone: String::new(),
            host: String::new(),
            data_dir: PathBuf::new(),
            identity_dir: PathBuf::new(),
            listen: "127.0.0.1:7001".to_owned(),
            advertise: String::new(),
            found: false,
            join: Vec::new(),
            voters: 3,
            admin: Admin::default(),
            timings: Timings::default(),
            placement: Placement::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            token_lifetime: Span::seconds(12 * 3600),
            upload_ticket_lifetime: Span::seconds(3600),
            read_ticket_lifetime: Span::seconds(3600),
            dedupe_window: Span::seconds(24 * 3600),
            trash_keep: Span::seconds(7 * 24 * 3600),
            session_idle_max: Span::seconds(24 * 3600),
            signing_key_period: Span::seconds(7 * 24 * 3600),
            tidy_period: Span::seconds(5),
        }
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            high_water_percent: 90,
            cluster_silence_max: Span::seconds(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight_max: 1024,
            requests_queued_max: 4096,
            queue_wait_max: Span::seconds(2),
            cluster_requests_in_flight_max: 256,
            request_time_max: Span::seconds(30),
            password_checks_max: 2,
            password_checks_queued_max: 64,
            upload_waits_max: 256,
            request_bytes_max: ByteCount::mib(1),
            page_entries_max: 1000,
            page_rows_max: 20_000,
            uploads_open_per_user_max: 10_000,
            uploads_failed_per_user_max: 10_000,
            disk_reserve_bytes: ByteCount::mib(256),
        }
    }
}

/// The configuration does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("supernode.{key}: {reason}")]
pub struct Error {
    /// The dotted path below `supernode`.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub reason: String,
}

/// The least number of rows for a page: enough to find the way down the longest path and then some.
const PAGE_ROWS_MIN: u32 = 5000;

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first key that does not fit, and why.
    pub fn validate(&self) -> Result<(), Error> {
        self.check_place()?;
        self.check_timings()?;
        self.check_limits()
    }

    fn check_place(&self) -> Result<(), Error> {
        require(
            !self.data_dir.as_os_str().is_empty(),
            "data_dir",
            "name a directory on a local disk",
        )?;
        require(
            !self.identity_dir.as_os_str().is_empty(),
            "identity_dir",
            "name the directory with ca.pem, node.pem and node.key",
        )?;
        check_address("listen", address::parse(&self.listen).map(drop))?;
        for seed in &self.join {
            check_address("join", address::parse(seed).map(drop))?;
        }
        let announced = address::announced(&self.advertise, &self.listen, &self.join);
        check_address("advertise", announced.map(drop))?;
        require(matches!(self.voters, 1 | 3 | 5), "voters", "write 1, 3 or 5")?;
        require(
            self.admin.user.is_empty() || !self.admin.password_file.as_os_str().is_empty(),
            "admin.password_file",
            "name the file that holds the password of admin.user",
        )
    }

    fn check_timings(&self) -> Result<(), Error> {
        let timings = &self.timings;
        for (key, span) in [
            ("timings.token_lifetime", timings.token_lifetime),
            ("timings.upload_ticket_lifetime", timings.upload_ticket_lifetime),
            ("timings.read_ticket_lifetime", timings.read_ticket_lifetime),
            ("timings.dedupe_window", timings.dedupe_window),
            ("timings.session_idle_max", timings.session_idle_max),
            ("timings.tidy_period", timings.tidy_period),
            (
                "placement.cluster_silence_max",
                self.placement.cluster_silence_max,
            ),
        ] {
            require(!span.get().is_zero(), key, "write a span above zero")?;
        }
        require(
            timings.session_idle_max >= timings.upload_ticket_lifetime,
            "timings.session_idle_max",
            "write at least timings.upload_ticket_lifetime: a client asks for a fresh ticket only when one ends",
        )?;
        let longest = [
            timings.token_lifetime,
            timings.upload_ticket_lifetime,
            timings.read_ticket_lifetime,
        ];
        require(
            longest.iter().all(|span| timings.signing_key_period >= *span),
            "timings.signing_key_period",
            "write at least the longest lifetime of tokens and tickets: two keys are kept",
        )
    }

    fn check_limits(&self) -> Result<(), Error> {
        let limits = &self.limits;
        for (key, count) in [
            ("limits.requests_in_flight_max", limits.requests_in_flight_max),
            (
                "limits.cluster_requests_in_flight_max",
                limits.cluster_requests_in_flight_max,
            ),
            ("limits.password_checks_max", limits.password_checks_max),
            ("limits.page_entries_max", limits.page_entries_max),
            (
                "limits.uploads_open_per_user_max",
                limits.uploads_open_per_user_max,
            ),
            (
                "limits.uploads_failed_per_user_max",
                limits.uploads_failed_per_user_max,
            ),
        ] {
            require(count > 0, key, "write a number above zero")?;
        }
        require(
            limits.page_rows_max >= PAGE_ROWS_MIN,
            "limits.page_rows_max",
            "write at least 5000",
        )?;
        require(
            limits.request_bytes_max >= ByteCount::new(64 << 10),
            "limits.request_bytes_max",
            "write at least 64KiB: a path and its metadata must fit",
        )?;
        require(
            (1..=100).contains(&self.placement.high_water_percent),
            "placement.high_water_percent",
            "write a percentage from 1 to 100",
        )
    }
}

fn check_address(key: &'static str, checked: Result<(), address::Error>) -> Result<(), Error> {
    checked.map_err(|error| Error {
        key,
        reason: error.advice(),
    })
}

fn require(holds: bool, key: &'static str, reason: &str) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error {
        key,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            data_dir: "/data".into(),
            identity_dir: "/identity".into(),
            ..Config::default()
        }
    }

    #[test]
    fn defaults_need_only_their_directories() {
        assert_eq!(good().validate(), Ok(()));
        assert_eq!(Config::default().validate().unwrap_err().key, "data_dir");
        let text = common::config::to_yaml(&good()).unwrap();
        assert_eq!(common::config::parse::<Config>(&text), Ok(good()));
        assert!(common::config::parse::<Config>("lisen: a").is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 7] = [
            ("voters", |config| config.voters = 2),
            ("listen", |config| config.listen = "7001".to_owned()),
            ("admin.password_file", |config| {
                config.admin.user = "root".to_owned()
            }),
            ("timings.tidy_period", |config| {
                config.timings.tidy_period = Span::millis(0);
            }),
            ("timings.session_idle_max", |config| {
                config.timings.session_idle_max = Span::seconds(60);
            }),
            ("limits.page_rows_max", |config| config.limits.page_rows_max = 1),
            ("placement.high_water_percent", |config| {
                config.placement.high_water_percent = 101;
            }),
        ];
        for (key, spoil) in cases {
            let mut config = good();
            spoil(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
