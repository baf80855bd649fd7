//! `dbfs cert`: the installation's CA, and identities for roles that are started by hand.

use std::path::PathBuf;

use client::cli::context::Context;
use client::cli::failure::{Exit, Failure};
use common::tls::{Authority, Role, fingerprint};

/// Makes the installation's CA and the identities of its processes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Keep ca.key offline: whoever has it can become any server of the installation. A server needs only its own directory
with ca.pem, node.pem and node.key.

  dbfs cert init --ca-dir /secure/ca
  dbfs cert issue --ca-dir /secure/ca --supernode --host s1.example.org /etc/dbfs/identity
  dbfs cert issue --ca-dir /secure/ca --chunkserver alpha --host n1.example.org /etc/dbfs/identity")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Makes a CA: ca.pem and ca.key
    Init(InitArgs),
    /// Issues an identity: ca.pem, node.pem and node.key
    Issue(IssueArgs),
    /// Shows the fingerprint of a CA certificate, as `dbfs login` does
    Fingerprint(FingerprintArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct InitArgs {
    /// The CA's directory
    #[arg(id = "directory", long = "ca-dir", value_name = "DIR", env = "DBFS_CA_DIR")]
    directory: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("role").required(true).args(["supernode", "chunkserver"]))]
struct IssueArgs {
    /// The CA's directory
    #[arg(id = "directory", long = "ca-dir", value_name = "DIR", env = "DBFS_CA_DIR")]
    directory: PathBuf,
    /// For a supernode
    #[arg(long)]
    supernode: bool,
    /// For a chunkserver of this cluster
    #[arg(long, value_name = "CLUSTER")]
    chunkserver: Option<String>,
    /// A host name or address that the identity is also valid for (repeatable)
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Where to write the identity
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
struct FingerprintArgs {
    /// The CA certificate
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A file cannot be read or written, or is in the way.
pub(crate) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::Init(init) => {
            create_private(&init.directory)?;
            for name in ["ca.pem", "ca.key"] {
                let path = init.directory.join(name);
                if path.exists() {
                    return Err(Failure::new(
                        Exit::Conflict,
                        "E_EXISTS",
                        format!("{} exists already; it is left as it is", path.display()),
                    )
                    .hint("use another directory for a new CA"));
                }
            }
            let authority = Authority::open_or_create(&init.directory)?;
            tell(
                context,
                &init.directory.join("ca.pem"),
                authority.certificate_pem(),
            )
        }
        Verb::Issue(issue) => {
            if !issue.directory.join("ca.key").exists() {
                return Err(Failure::new(
                    Exit::NotFound,
                    "E_IDENTITY",
                    format!("there is no CA in {}", issue.directory.display()),
                )
                .hint("make one with `dbfs cert init --ca-dir DIR`"));
            }
            let role = match issue.chunkserver {
                Some(cluster) => Role::Chunkserver(cluster),
                None => Role::Supernode,
            };
            common::tls::expected_name(&role)?;
            create_private(&issue.to)?;
            Authority::open_or_create(&issue.directory)?.issue(&role, &issue.host, &issue.to)?;
            let name = role.server_name();
            if context.console.is_json() {
                let directory = issue.to.display().to_string();
                return context
                    .console
                    .document(&serde_json::json!({ "identity": directory, "name": name }));
            }
            context.console.line(&format!("{}  {name}", issue.to.display()))
        }
        Verb::Fingerprint(of) => {
            let pem = std::fs::read_to_string(&of.file)
                .map_err(|error| Failure::local("cannot read", &of.file, &error))?;
            if context.console.is_json() {
                return tell(context, &of.file, &pem);
            }
            context.console.line(&fingerprint(&pem)?)
        }
    }
}

fn tell(context: &Context, file: &std::path::Path, pem: &str) -> Result<(), Failure> {
    let fingerprint = fingerprint(pem)?;
    if context.console.is_json() {
        let file = file.display().to_string();
        return context
            .console
            .document(&serde_json::json!({ "ca": file, "fingerprint": fingerprint }));
    }
    context
        .console
        .line(&format!("{}\n  {fingerprint}", file.display()))
}

fn create_private(directory: &std::path::Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Failure::local("cannot create", directory, &error))
}
