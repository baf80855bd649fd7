//! From options, environment and profile to a client that is logged in.
//!
//! Order of every setting: flag, `DBFS_*`, profile, default. Secrets come from the environment, a prompt or stdin.
//! A profile that `dbfs up` made keeps its password and logs in again by itself; any other asks its user to.

use std::time::Duration;

use common::time::WallTime;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::profile::{Profile, Store};
use crate::names::Login;
use crate::throttle::chunks_at_once;
use crate::{Client, Error, Limits, Settings};

/// Files that usually share a limit on bandwidth.
const FILES_AT_ONCE: usize = 16;

/// A token with less time left than this is renewed before the command begins.
const TOKEN_RENEW_BEFORE: Duration = Duration::from_secs(300);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let exit = match error.code() {
            "E_INTERRUPTED" => Exit::Interrupted,
            _ => Exit::of(kind),
        };
        let message = match &error {
            // The server's own sentence names the thing concerned; which call it was is of no use to a person.
            Error::Call { source, .. } => source.message.clone(),
            _ => common::error::chain(&error),
        };
        let failure = Self {
            retryable: kind.is_passing(),
            request_id: error.request_id().unwrap_or_default().to_owned(),
            ..Self::new(exit, error.code(), message).hint(error.hint())
        };
        match failure.exit {
            Exit::NotFound => failure.or_hint("`dbfs list` shows what is there and what you may see"),
            Exit::Denied => failure.or_hint("`dbfs whoami` shows as whom the servers see you"),
            Exit::Unavailable => {
                failure.or_hint("`dbfs status` shows what is missing; run the command again")
            }
            Exit::Conflict => failure.or_hint("look with `dbfs stat`, decide, and run the command again"),
            _ => failure,
        }
    }
}

/// A client that is logged in, and as whom.
#[derive(Clone, Debug)]
pub struct Session {
    /// The way to the servers.
    pub client: Client,
    /// The login name; empty where only a token is known.
    pub user: String,
    /// Which profile; `None` where flags or the environment say everything.
    pub profile: Option<String>,
}

/// Where an installation is.
#[derive(Clone, Debug)]
pub struct Target {
    /// Control addresses of supernodes.
    pub supernodes: Vec<String>,
    /// Its CA certificate.
    pub ca_pem: String,
    /// The profile that this came from, if any.
    pub profile: Option<(String, Profile)>,
}

impl Context {
    /// Which installation is meant: `named` is the profile in front of a remote path.
    ///
    /// # Errors
    /// None is known, or what is known of it cannot be read.
    pub fn target(&self, named: Option<&str>) -> Result<Target, Failure> {
        let profile = self.profile(named.or(self.options.profile.as_deref()))?;
        let from_profile = profile.as_ref().map(|(_, profile)| profile);
        let supernodes = if self.options.endpoints.is_empty() {
            from_profile
                .map(|profile| profile.supernodes.clone())
                .unwrap_or_default()
        } else {
            for endpoint in &self.options.endpoints {
                common::address::parse(endpoint)?;
            }
            self.options.endpoints.clone()
        };
        if supernodes.is_empty() {
            return Err(
                Failure::new(Exit::Usage, "E_NO_PROFILE", "no installation is known yet").hint(
                    "run `dbfs up` for one on this machine, or `dbfs login HOST:PORT` for one that runs elsewhere",
                ),
            );
        }
        let ca_pem = match (&self.options.ca, from_profile) {
            (Some(file), _) => {
                std::fs::read_to_string(file).map_err(|error| Failure::local("cannot read", file, &error))?
            }
            (None, Some(profile)) => profile.ca_pem.clone(),
            (None, None) => {
                return Err(Failure::usage("the installation's CA certificate is not known")
                    .hint("name its file with --ca or DBFS_CA, or log in once: `dbfs login HOST:PORT`"));
            }
        };
        Ok(Target {
            supernodes,
            ca_pem,
            profile,
        })
    }

    /// The profile `wanted`, or the one that is used where none is named. Where options and environment say everything,
    /// profiles that cannot be read are not needed.
    fn profile(&self, wanted: Option<&str>) -> Result<Option<(String, Profile)>, Failure> {
        let found = Store::of(&self.environment).and_then(|store| {
            let profiles = store.load()?;
            let chosen = profiles.choose(wanted)?;
            Ok(chosen.map(|(name, profile)| (name.to_owned(), profile.clone())))
        });
        let has = |name| self.environment.get(name).is_some();
        let says_who = has("DBFS_TOKEN") || (has("DBFS_USER") && has("DBFS_PASSWORD"));
        let says_all = !self.options.endpoints.is_empty() && self.options.ca.is_some() && says_who;
        match found {
            Err(_) if says_all && wanted.is_none() => Ok(None),
            found => found,
        }
    }

    /// A client for `target` with `token`.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn connect(&self, target: &Target, token: Option<String>) -> Result<Client, Failure> {
        // Several files share the rate.
        let at_once = (chunks_at_once(self.options.bwlimit) / FILES_AT_ONCE).max(1);
        let usual = Limits::default();
        let limits = Limits {
            bytes_per_second_max: self.options.bwlimit,
            upload_chunks_in_flight_max: usual.upload_chunks_in_flight_max.min(at_once),
            download_chunks_in_flight_max: usual.download_chunks_in_flight_max.min(at_once),
            ..usual
        };
        let settings = Settings {
            limits,
            token,
            agent: concat!("dbfs/", env!("CARGO_PKG_VERSION")).to_owned(),
            seams: self.seams.clone(),
            ..Settings::new(target.supernodes.clone(), target.ca_pem.clone())
        };
        Ok(Client::connect(settings).await?)
    }

    /// A client that is logged in at the installation which `named` (a path's prefix), options or the default mean.
    ///
    /// # Errors
    /// No installation is known, nobody answers, or the login is refused.
    pub async fn session(&self, named: Option<&str>) -> Result<Session, Failure> {
        self.session_with(named, false).await
    }

    /// As [`Context::session`], for what a single supernode answers: it goes on with the token that there is where no
    /// majority of them can say whether it still counts.
    ///
    /// # Errors
    /// As [`Context::session`].
    pub async fn session_without_quorum(&self) -> Result<Session, Failure> {
        self.session_with(None, true).await
    }

    async fn session_with(&self, named: Option<&str>, without_quorum: bool) -> Result<Session, Failure> {
        let target = self.target(named)?;
        let session = |client, user: &str| Session {
            client,
            user: user.to_owned(),
            profile: target.profile.as_ref().map(|(name, _)| name.clone()),
        };
        if let Some(token) = self.environment.get("DBFS_TOKEN") {
            let client = self.connect(&target, Some(token.to_owned())).await?;
            return Ok(session(
                client,
                self.environment.get("DBFS_USER").unwrap_or_default(),
            ));
        }
        if let (Some(user), Some(password)) = (
            self.environment.get("DBFS_USER"),
            self.environment.get("DBFS_PASSWORD"),
        ) {
            let client = self.connect(&target, None).await?;
            client.login(user, password).await?;
            return Ok(session(client, user));
        }
        let Some((name, profile)) = &target.profile else {
            return Err(
                Failure::new(Exit::Denied, "E_NOT_LOGGED_IN", "nobody is logged in")
                    .hint("run `dbfs login HOST:PORT`, or set DBFS_USER and DBFS_PASSWORD"),
            );
        };
        // The first profile of a command is its only one.
        let _ = self.login_again.set(login_hint(profile));
        let client = self.connect(&target, profile.token.clone()).await?;
        match self.renewed(&client, name, profile).await {
            Ok(()) => {}
            Err(failure) if without_quorum && failure.retryable && profile.token.is_some() => {
                self.console
                    .warn(&format!("the login cannot be checked: {}", failure.message));
            }
            Err(failure) => return Err(failure),
        }
        Ok(session(client, &profile.user))
    }

    /// Logs in anew where the profile's token does not count any more and its password is known.
    async fn renewed(&self, client: &Client, name: &str, profile: &Profile) -> Result<(), Failure> {
        let password = profile.password.as_deref();
        let password = password.or_else(|| self.environment.get("DBFS_PASSWORD"));
        if let Some(password) = password {
            if self.needs_login(client, profile).await? {
                let login = client.login(&profile.user, password).await?;
                if let Err(failure) = self.remember(name, &login) {
                    self.console.warn(&format!(
                        "the new login counts for this command only: {}",
                        failure.message
                    ));
                }
            }
            return Ok(());
        }
        if profile.token.is_some() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Denied,
            "E_NOT_LOGGED_IN",
            format!("profile '{name}' is logged out"),
        )
        .hint(login_hint(profile)))
    }

    async fn needs_login(&self, client: &Client, profile: &Profile) -> Result<bool, Failure> {
        let soon = WallTime::from_millis(
            self.seams.clock.wall().as_millis() + u64::try_from(TOKEN_RENEW_BEFORE.as_millis()).unwrap_or(0),
        );
        if profile.token.is_none() || profile.token_expires.is_none_or(|expires| expires < soon) {
            return Ok(true);
        }
        // The wall clock only hints; whether the token still counts, the server says. It does not after the servers
        // were set up anew at the same addresses.
        match client.whoami().await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == common::error::Kind::Denied => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// `failure`, told as the end of a login where it is that.
    pub(super) fn explain_login(&self, mut failure: Failure) -> Failure {
        if !matches!(failure.code.as_str(), "E_UNAUTHENTICATED" | "E_TOKEN_REVOKED") {
            return failure;
        }
        if failure.code == "E_UNAUTHENTICATED" {
            "E_TOKEN_EXPIRED".clone_into(&mut failure.code);
            failure.message = format!("your login is over: {}", failure.message);
        }
        if let Some(hint) = self.login_again.get() {
            failure.hint.clone_from(hint);
        }
        failure
    }

    /// Keeps a login's token in profile `name`.
    ///
    /// # Errors
    /// The profiles cannot be written.
    pub fn remember(&self, name: &str, login: &Login) -> Result<(), Failure> {
        let expires = expiry(self.seams.clock.wall(), login);
        Store::of(&self.environment)?.update(|all| {
            if let Some(profile) = all.profiles.get_mut(name) {
                profile.token = Some(login.token.clone());
                profile.token_expires = Some(expires);
            }
        })
    }
}

/// When a login's token ends, by the wall clock.
pub(super) fn expiry(now: WallTime, login: &Login) -> WallTime {
    let lifetime = u64::try_from(login.expires_in.as_millis()).unwrap_or(u64::MAX);
    WallTime::from_millis(now.as_millis().saturating_add(lifetime))
}

/// How to log in again.
pub(super) fn login_hint(profile: &Profile) -> String {
    let address = profile.supernodes.first().map_or("HOST:PORT", String::as_str);
    format!("run `dbfs login {address} --user {}`", profile.user)
}
