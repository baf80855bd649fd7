//! Users, as the names layer tells of them.

use std::time::Duration;

use common::ids::UserId;
use common::time::WallTime;
use common::units::ByteCount;
use proto::names::v1 as wire;

use crate::error::Error;

/// What a user may do beside their own buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing.
    User,
    /// Everything.
    Admin,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Stays the same when the user is renamed.
    pub id: UserId,
    /// The login name, and the name of the user's own bucket.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether they may log in.
    pub enabled: bool,
    /// The most they may store; `None` for no limit.
    pub quota: Option<ByteCount>,
    /// What they store.
    pub used: ByteCount,
    /// When they were created.
    pub created: WallTime,
}

/// A user to be created.
#[derive(Clone)]
pub struct NewUser {
    /// The login name.
    pub name: String,
    /// Their first password.
    pub password: String,
    /// What they may do.
    pub role: Role,
    /// The most they may store; `None` for no limit.
    pub quota: Option<ByteCount>,
}

/// What a login gave.
#[derive(Clone)]
pub struct Login {
    /// To be kept secret, and given to [`crate::Settings::token`] by later processes.
    pub token: String,
    /// How long the token is good for.
    pub expires_in: Duration,
    /// Who logged in.
    pub user: User,
}

impl TryFrom<wire::User> for User {
    type Error = Error;
    fn try_from(wire: wire::User) -> Result<Self, Error> {
        let role = match wire.role() {
            wire::UserRole::Admin => Role::Admin,
            // A role that this build does not know gives nothing that it could show.
            wire::UserRole::User | wire::UserRole::Unspecified => Role::User,
        };
        if wire.name.is_empty() {
            return Err(Error::protocol("a user without a name"));
        }
        Ok(Self {
            id: UserId::new(wire.user_id),
            name: wire.name,
            role,
            enabled: wire.enabled,
            quota: wire.quota_bytes.map(ByteCount::new),
            used: ByteCount::new(wire.used_bytes),
            created: WallTime::from_millis(wire.created_wall_millis),
        })
    }
}

impl From<Role> for wire::UserRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => wire::UserRole::User,
            Role::Admin => wire::UserRole::Admin,
        }
    }
}
