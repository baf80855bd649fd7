//! Who is calling: the token of a login, checked by its signature here and against the user's row where the request is
//! answered or applied.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use common::error::Kind;
use common::ids::UserId;
use proto::error::RpcError;
use proto::names_log::v1 as log;
use proto::ticket::{self, Purpose};
use rusqlite::Connection;

use super::serve::Call;
use crate::context::Context;
use crate::core::permission::Caller;
use crate::store::apply::Stop;
use crate::store::user::{self, User};

/// A valid token. Whether it still counts, the user's row says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    user: UserId,
    generation: u64,
}

impl Session {
    /// The session of a call.
    ///
    /// # Errors
    /// `Denied`: no token, a forged one or an expired one.
    pub(super) async fn of(call: &Call) -> Result<Self, RpcError> {
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(&call.token)
            .ok()
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| unauthenticated("the request carries no token"))?;
        let context = &call.context;
        let mut checked = context.keyring.verify(context.now(), &bytes);
        if checked == Err(ticket::Error::UnknownKey) {
            // A new leader may just have made the key.
            context.learn_keys().await?;
            checked = context.keyring.verify(context.now(), &bytes);
        }
        let body = checked.map_err(|error| match error {
            ticket::Error::UnknownKey => RpcError::new(
                Kind::Retry,
                "E_KEY_UNKNOWN",
                "the token was signed with a key that is not known here (yet)",
            ),
            ticket::Error::Forged | ticket::Error::Expired => unauthenticated(&error.to_string()),
        })?;
        match body.purpose {
            Some(Purpose::Session(session)) => Ok(Self {
                user: UserId::new(body.user_id),
                generation: session.token_generation,
            }),
            Some(Purpose::Upload(_) | Purpose::Read(_)) | None => {
                Err(unauthenticated("the ticket is no token of a login"))
            }
        }
    }

    /// Who it is.
    pub(super) const fn user_id(self) -> UserId {
        self.user
    }

    /// The user's row, where the token still counts.
    ///
    /// # Errors
    /// `Denied`: disabled, or the password was changed.
    pub(super) fn user(self, tables: &Connection) -> Result<User, Stop> {
        let row = user::by_id(tables, self.user)?;
        Ok(user::still_good(row, self.generation)?)
    }

    /// Who holds the token, whether or not it still counts ([`user::holder`]).
    ///
    /// # Errors
    /// `Denied`: nobody.
    pub(super) fn holder(self, tables: &Connection) -> Result<Caller, Stop> {
        user::holder(tables, self.claim())
    }

    /// The session as commands carry it, to be checked when they are applied.
    pub(super) const fn claim(self) -> log::Caller {
        log::Caller {
            user_id: self.user.get(),
            token_generation: self.generation,
        }
    }
}

fn unauthenticated(message: &str) -> RpcError {
    RpcError::new(Kind::Denied, "E_UNAUTHENTICATED", message).hint("log in")
}

/// A token for `user`.
///
/// # Errors
/// `Retry` before the first leader has made a key.
pub(super) fn issue(context: &Context, user: &User) -> Result<String, RpcError> {
    let purpose = Purpose::Session(ticket::v1::Session {
        user: user.name.clone(),
        admin: user.admin,
        token_generation: user.token_generation,
    });
    let lifetime = context.config.timings.token_lifetime.get();
    let ticket = context.keyring.sign(context.now(), lifetime, user.id, purpose)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(ticket))
}
