//! Makes the first administrator, from the configuration, where the installation has none.

use std::sync::Arc;
use std::time::Duration;

use common::ids::Epoch;
use common::units::Span;
use proto::names_log::v1 as log;
use proto::names_log::v1::command::Body as Command;
use proto::names_log::v1::reply::Body as Reply;
use zeroize::Zeroizing;

use super::{LOOK_PERIOD, until_leading};
use crate::context::Context;
use crate::core::user_name::{check_name, check_password};
use crate::store::user;

/// Users that are looked at for an administrator.
const USERS_MAX: u32 = 10_000;
/// After a failure, so that the log is not filled with it.
const FAILURE_PAUSE: Duration = Span::seconds(10).get();

pub(super) async fn run(context: Arc<Context>) {
    if context.config.admin.user.is_empty() {
        return;
    }
    loop {
        let epoch = until_leading(&context).await;
        match attempt(&context, epoch).await {
            Ok(true) => return,
            Ok(false) => context.clock.sleep(LOOK_PERIOD).await,
            Err(reason) => {
                tracing::error!(user = context.config.admin.user, %reason, "no first administrator could be made");
                context.clock.sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

/// Whether there is an administrator now; false where it is worth trying again soon.
async fn attempt(context: &Context, epoch: Epoch) -> Result<bool, String> {
    let users = context
        .read_local(|tables| Ok(user::all(tables, USERS_MAX)?))
        .await;
    let Ok(users) = users else {
        return Ok(false);
    };
    if users.iter().any(|user| user.admin) {
        return Ok(true);
    }
    let admin = &context.config.admin;
    let password = read_password(context)?;
    check_name(&admin.user)
        .and_then(|()| check_password(&password))
        .map_err(|refusal| refusal.to_string())?;
    let Ok(password_hash) = context.passwords.hash(password).await else {
        return Ok(false);
    };
    let command = log::CreateUser {
        caller: None,
        name: admin.user.clone(),
        password_hash,
        admin: true,
        quota_bytes: None,
        wall_millis: context.clock.wall().as_millis(),
        bootstrap: true,
    };
    match context.propose_in(epoch, Command::CreateUser(command)).await {
        Ok(Reply::UserMade(made)) => {
            if made.user_id.is_some() {
                tracing::info!(user = admin.user, "first administrator made");
            }
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind.is_passing() => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

fn read_password(context: &Context) -> Result<Zeroizing<String>, String> {
    let path = &context.config.admin.password_file;
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let first = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(first.to_owned()))
}
