//! `dbfs login` and `dbfs logout`: a profile for an installation, with its CA pinned.

use std::path::PathBuf;

use common::address;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::first_contact;
use super::profile::{Profile, Store, is_profile_name};
use super::secret;
use super::session::{Target, expiry};

/// Port of the supernodes where an address names none.
const PORT_DEFAULT: u16 = 7001;

/// Logs in at an installation and keeps a token in a profile.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The first login shows the fingerprint of the installation's CA certificate and pins it: compare it with what
`dbfs cert fingerprint` shows on a server. The password comes from a prompt, DBFS_PASSWORD or --password-stdin.")]
pub struct Args {
    /// A supernode: host:port, or https://host:port. Default: that of the profile
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// The login name. Default: that of the profile
    #[arg(short, long, value_name = "NAME", env = "DBFS_USER")]
    user: Option<String>,
    /// Read the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
    /// The CA fingerprint that is expected: goes on without asking if it fits, refuses if not
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Name of the profile to write. Default: the host's name
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

/// Forgets the token of a profile.
#[derive(Clone, Debug, clap::Args)]
pub struct LogoutArgs {}

/// Runs `login`.
///
/// # Errors
/// The server cannot be reached or trusted, or refuses the password.
pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let store = Store::of(&context.environment)?;
    let profiles = store.load()?;
    let known = profiles
        .choose(context.options.profile.as_deref())
        .unwrap_or(None);
    let address = match (&args.url, known) {
        (Some(url), _) => address_of(url)?,
        (None, Some((_, profile))) => profile.supernodes.first().cloned().unwrap_or_default(),
        (None, None) => return Err(Failure::usage("name a supernode: dbfs login HOST:PORT")),
    };
    // The profile that knows this installation already, so that its CA is not taken anew on trust.
    let same = profiles
        .profiles
        .iter()
        .find(|(_, profile)| profile.supernodes.contains(&address));
    let user = args
        .user
        .clone()
        .or_else(|| same.map(|(_, profile)| profile.user.clone()))
        .map_or_else(|| ask_user(context), Ok)?;
    let name = args
        .name
        .clone()
        .or_else(|| context.options.profile.clone())
        .or_else(|| same.map(|(name, _)| name.clone()))
        .unwrap_or_else(|| host_of(&address));
    if !is_profile_name(&name) {
        return Err(Failure::usage(format!(
            "'{name}' cannot be a profile's name: use letters, digits, - _ ."
        )));
    }
    let ca_pem = trusted_ca(context, &args, &address, same.map(|(_, profile)| profile)).await?;
    let target = Target {
        supernodes: vec![address.clone()],
        ca_pem: ca_pem.clone(),
        profile: None,
    };
    let client = context.connect(&target, None).await?;
    let password = secret::password(context, &user, args.password_stdin)?;
    let login = client.login(&user, &password).await?;
    let mut supernodes = client.supernodes();
    if !supernodes.contains(&address) {
        supernodes.push(address);
    }
    let profile = Profile {
        supernodes,
        ca_pem,
        user: user.clone(),
        token: Some(login.token.clone()),
        token_expires: Some(expiry(context.seams.clock.wall(), &login)),
        password: None,
        data_dir: None,
    };
    store.update(|all| {
        all.profiles.insert(name.clone(), profile);
        all.default = Some(name.clone());
    })?;
    if context.console.is_json() {
        return context.console.document(&serde_json::json!({
            "profile": name, "user": user, "token_expires_in_seconds": login.expires_in.as_secs(),
        }));
    }
    context.console.line(&format!(
        "logged in as {user}; profile '{name}' is the default now"
    ))
}

/// Runs `logout`.
///
/// # Errors
/// There is no such profile, or it cannot be written.
pub(super) async fn logout(context: &Context, _args: LogoutArgs) -> Result<(), Failure> {
    let store = Store::of(&context.environment)?;
    let profiles = store.load()?;
    let Some((name, _)) = profiles.choose(context.options.profile.as_deref())? else {
        return Err(Failure::new(
            Exit::NotFound,
            "E_NO_PROFILE",
            "no profile is in use",
        ));
    };
    store.update(|all| {
        if let Some(profile) = all.profiles.get_mut(name) {
            profile.token = None;
            profile.token_expires = None;
            profile.password = None;
        }
    })?;
    if context.console.is_json() {
        return context
            .console
            .document(&serde_json::json!({ "profile": name, "logged_out": true }));
    }
    context.console.note(&format!("profile '{name}' is logged out"));
    Ok(())
}

async fn trusted_ca(
    context: &Context,
    args: &Args,
    address: &str,
    known: Option<&Profile>,
) -> Result<String, Failure> {
    if let Some(file) = &context.options.ca {
        return read(file);
    }
    if let Some(profile) = known {
        return Ok(profile.ca_pem.clone());
    }
    let ca_pem = first_contact::shown_authority(&context.seams, address).await?;
    let fingerprint = common::tls::fingerprint(&ca_pem)?;
    if let Some(expected) = &args.fingerprint {
        let digits = |text: &str| -> String {
            text.chars()
                .filter(char::is_ascii_hexdigit)
                .collect::<String>()
                .to_ascii_lowercase()
        };
        if digits(expected) == digits(&fingerprint) {
            return Ok(ca_pem);
        }
        return Err(Failure::new(
            Exit::Denied,
            "E_FINGERPRINT",
            format!("{address} shows a CA with another fingerprint: {fingerprint}"),
        )
        .hint("do not go on before you know why: someone may stand between you and the server"));
    }
    context.console.note(&format!(
        "{address} is not known yet. Its CA certificate has the fingerprint\n  {fingerprint}"
    ));
    context.console.confirm("Trust this installation from now on?")?;
    Ok(ca_pem)
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| Failure::local("cannot read", file, &error))
}

fn ask_user(context: &Context) -> Result<String, Failure> {
    if !context.console.can_ask() {
        return Err(Failure::usage("a login name is needed").hint("give it by --user or DBFS_USER"));
    }
    let answer = context.console.ask("Login name: ")?;
    match answer.trim() {
        "" => Err(Failure::usage("a login name is needed")),
        name => Ok(name.to_owned()),
    }
}

/// `host:port` of what people type: also as a URL, and without a port where it is clear where the host ends.
fn address_of(url: &str) -> Result<String, Failure> {
    let rest = match url.split_once("://") {
        Some(("https" | "dbfs", rest)) => rest.trim_end_matches('/'),
        Some(_) => {
            let failure = Failure::usage(format!("'{url}' is not an address"));
            return Err(failure.hint("write host:port or https://host:port"));
        }
        None => url,
    };
    let error = match address::parse(rest) {
        Ok(_) => return Ok(rest.to_owned()),
        Err(error) => error,
    };
    // What the error proposes lacks nothing but the port: there was none.
    match error.instead.strip_suffix(":PORT") {
        Some(host) if host == rest || host.trim_matches(['[', ']']) == rest => {
            let whole = format!("{host}:{PORT_DEFAULT}");
            address::parse(&whole)?;
            Ok(whole)
        }
        _ => Err(error.into()),
    }
}

fn host_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let plain: String = host.trim_matches(['[', ']']).replace(':', "-");
    if is_profile_name(&plain) {
        plain
    } else {
        "default".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("host:7001", "host:7001"),
            ("https://host:7001/", "host:7001"),
            ("host", "host:7001"),
            ("[::1]:9", "[::1]:9"),
            ("::1", "[::1]:7001"),
            ("[::1]", "[::1]:7001"),
        ] {
            assert_eq!(address_of(text).unwrap(), address, "{text}");
        }
        for text in [
            "",
            "ftp://host",
            "host:port",
            "host:",
            "a/b",
            "user@host",
            ":1",
            "::1:47061",
            "::1:7001",
        ] {
            assert!(address_of(text).is_err(), "{text}");
        }
        assert_eq!(host_of("10.0.0.1:7000"), "10.0.0.1");
        assert_eq!(host_of("[::1]:7000"), "--1");
    }
}
