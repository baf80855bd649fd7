//! `dbfs user`: who may use the installation.

use common::units::ByteCount;

use super::context::Context;
use super::failure::Failure;
use super::secret;
use super::shapes::UserShape;
use super::{human, whoami};
use crate::names::{NewUser, Role, User};

/// Creates, lists and changes users.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Creates a user and the bucket of the same name (admin)
    Add(AddArgs),
    /// Lists all users (admin), or oneself
    #[command(visible_alias = "ls")]
    List,
    /// Changes one's own password, or as admin anyone's
    Passwd(PasswdArgs),
    /// Forbids a user to log in; their tokens end at once (admin)
    Disable(NameArgs),
    /// Allows a user to log in again (admin)
    Enable(NameArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct AddArgs {
    /// The login name
    name: String,
    /// May do everything
    #[arg(long)]
    admin: bool,
    /// The most they may store, for example 500GiB
    #[arg(long, value_name = "SIZE")]
    quota: Option<ByteCount>,
    /// Read the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct PasswdArgs {
    /// Whose (admin); default: one's own
    name: Option<String>,
    /// Read the new password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct NameArgs {
    /// The login name
    name: String,
}

/// Runs the command.
///
/// # Errors
/// Not allowed, or the user does not exist or exists already.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let session = context.session(None).await?;
    let client = &session.client;
    match args.verb {
        Verb::Add(add) => {
            let password = secret::new_password(context, &add.name, add.password_stdin)?;
            let user = NewUser {
                name: add.name,
                password,
                role: if add.admin { Role::Admin } else { Role::User },
                quota: add.quota,
            };
            tell(context, &client.create_user(user).await?)
        }
        Verb::List => {
            let users = client.list_users().await?;
            if context.console.is_json() {
                return users
                    .iter()
                    .try_for_each(|user| context.console.object(&UserShape::from(user)));
            }
            let rows: Vec<Vec<String>> = users.iter().map(row).collect();
            human::table(&rows, &[])
                .iter()
                .try_for_each(|line| context.console.line(line))
        }
        Verb::Passwd(passwd) => {
            let whose = passwd.name.as_deref().unwrap_or(&session.user);
            let password = secret::new_password(context, whose, passwd.password_stdin)?;
            tell(
                context,
                &client.set_password(passwd.name.as_deref(), &password).await?,
            )
        }
        Verb::Disable(name) => tell(context, &client.set_user_enabled(&name.name, false).await?),
        Verb::Enable(name) => tell(context, &client.set_user_enabled(&name.name, true).await?),
    }
}

fn row(user: &User) -> Vec<String> {
    let state = if user.enabled { "enabled" } else { "disabled" };
    let quota = user
        .quota
        .map_or_else(|| "no quota".to_owned(), |quota| format!("of {quota}"));
    vec![
        human::plain(&user.name),
        super::shapes::word(&user.role),
        state.to_owned(),
        format!("{} {quota}", user.used),
        human::date(user.created),
    ]
}

fn tell(context: &Context, user: &User) -> Result<(), Failure> {
    if context.console.is_json() {
        return context.console.document(&UserShape::from(user));
    }
    context.console.line(&whoami::line(user))
}
