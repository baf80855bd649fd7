//! `dbfs whoami`: as whom the servers see the caller.

use super::context::Context;
use super::failure::Failure;
use super::human;
use super::shapes::UserShape;
use crate::names::User;

/// Shows as whom one is logged in, and how much one stores.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Nobody is logged in.
pub(super) async fn run(context: &Context, _args: Args) -> Result<(), Failure> {
    let session = context.session(None).await?;
    let user = session.client.whoami().await?;
    let console = &context.console;
    if console.is_json() {
        return console.document(&UserShape::from(&user));
    }
    console.line(&line(&user))
}

/// A user for people.
pub(super) fn line(user: &User) -> String {
    let shape = UserShape::from(user);
    let quota = user
        .quota
        .map_or_else(|| "no quota".to_owned(), |quota| format!("quota {quota}"));
    let disabled = if user.enabled { "" } else { ", disabled" };
    let name = human::plain(&shape.name);
    format!("{name}  {}, {} stored, {quota}{disabled}", shape.role, user.used)
}
