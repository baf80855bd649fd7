//! The installation's own certificate authority, the identities it issues, and TLS configurations made of them.
//!
//! Who a process is stands in its certificate as DNS names under `dbfs.internal` (see [`Role`]): whoever connects
//! asks for the role it expects instead of for a host name, so that addresses may change freely. Invariant (P9): a
//! node of one cluster proves nothing to another cluster, because the cluster's name is part of the role.
//!
//! Files of an identity: `ca.pem`, `node.pem` (its certificate, then the authority's), `node.key` (0600). The authority's own key `ca.key` stays with the
//! operator. Configurations are reloaded without a restart through [`Reloadable`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::disk::write_durably;

/// ALPN of the control plane: gRPC over HTTP/2.
pub const ALPN_CONTROL: &[u8] = b"h2";
/// ALPN of the bulk data plane.
pub const ALPN_BULK: &[u8] = b"dbfs-bulk/1";

const AUTHORITY_NAME: &str = "DBFS installation CA";

/// Who a process is, as its certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// A supernode of the installation.
    Supernode,
    /// A chunkserver of the cluster with this name (lower-case letters, digits and hyphens).
    Chunkserver(String),
}

impl Role {
    /// The DNS name that stands for the role: `supernode.dbfs.internal`, `alpha.chunkserver.dbfs.internal`.
    pub fn server_name(&self) -> String {
        match self {
            Role::Supernode => "supernode.dbfs.internal".to_owned(),
            Role::Chunkserver(cluster) => format!("{cluster}.chunkserver.dbfs.internal"),
        }
    }
}

/// TLS material could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot access {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no usable certificate or key.
    #[error("{path} holds no usable {what}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// A name that cannot stand in a certificate.
    #[error("'{0}' cannot be a host or cluster name: use letters, digits, hyphens and dots")]
    Name(String),
    /// Certificate creation failed.
    #[error("cannot create a certificate")]
    Issue(#[from] rcgen::Error),
    /// rustls refused the material.
    #[error("the certificates and keys do not fit together")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes aws-lc-rs the process's only crypto provider. Called first thing in `main` and in tests; repeating is fine.
pub fn install_provider() {
    // An error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The installation's certificate authority: issues identities, opens nothing by itself.
pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// Reads `ca.pem` and `ca.key` in `directory`, or creates them where neither exists.
    ///
    /// # Errors
    /// The files cannot be read or written, or hold something else.
    pub fn open_or_create(directory: &Path) -> Result<Self, Error> {
        let (certificate_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !certificate_path.exists() && !key_path.exists() {
            let key = KeyPair::generate()?;
            let certificate_pem = authority_params().self_signed(&key)?.pem();
            write_file(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
            write_file(&certificate_path, certificate_pem.as_bytes(), 0o644)?;
            return Ok(Self { certificate_pem, key });
        }
        let certificate_pem = read_text(&certificate_path)?;
        let key = KeyPair::from_pem(&read_text(&key_path)?).map_err(|_| Error::Pem {
            path: key_path,
            what: "private key",
        })?;
        Ok(Self { certificate_pem, key })
    }

    /// The authority's certificate, which everyone trusts.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues an identity for `role` to `directory` (`ca.pem`, `node.pem`, `node.key`), valid also for `hosts`.
    ///
    /// # Errors
    /// A name is not one, or the files cannot be written.
    pub fn issue(&self, role: &Role, hosts: &[String], directory: &Path) -> Result<(), Error> {
        let mut names = vec![role.server_name()];
        names.extend(hosts.iter().cloned());
        let mut params =
            CertificateParams::new(names).map_err(|_| Error::Name(format!("{role:?} at {hosts:?}")))?;
        params.distinguished_name = distinguished_name(&role.server_name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        set_validity(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &Issuer::new(authority_params(), &self.key))?;
        std::fs::create_dir_all(directory).map_err(|source| Error::File {
            path: directory.to_owned(),
            source,
        })?;
        write_file(&directory.join("node.key"), key.serialize_pem().as_bytes(), 0o600)?;
        // The authority's certificate follows the identity's own, so that a client's first contact can show its
        // fingerprint to a person and pin it.
        let chain = [certificate.pem().as_str(), self.certificate_pem.as_str()].concat();
        write_file(&directory.join("node.pem"), chain.as_bytes(), 0o644)?;
        write_file(&directory.join("ca.pem"), self.certificate_pem.as_bytes(), 0o644)
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params);
    params
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Wide enough that a clock which jumps locks nobody out; rotation, not expiry, retires an identity.
fn set_validity(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 12, 31);
}

/// What a process proves with, and whom it trusts.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    /// Reads `ca.pem`, `node.pem` and `node.key` in `directory`.
    ///
    /// # Errors
    /// A file is missing, unreadable, or holds something else; the error names it.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let key_path = directory.join("node.key");
        let key_text = read_text(&key_path)?;
        let key = PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|_| Error::Pem {
            path: key_path,
            what: "private key",
        })?;
        let chain_path = directory.join("node.pem");
        let chain = certificates(&chain_path, &read_text(&chain_path)?)?;
        let roots_path = directory.join("ca.pem");
        let roots = trusted(&roots_path, &read_text(&roots_path)?)?;
        Ok(Self { chain, key, roots })
    }

    /// A server for clients that prove who they are by other means (tokens, grants). Peers of the installation may
    /// show a certificate; one that is shown must be valid. See [`peer_has_role`].
    ///
    /// # Errors
    /// The key does not belong to the certificate.
    pub fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, Error> {
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&self.roots))
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::Config(error.into()))?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| Error::Config(error.into()))?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// A client that shows this identity (mutual TLS between nodes).
    ///
    /// # Errors
    /// The key does not belong to the certificate.
    pub fn client_config(&self, alpn: &[u8]) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| Error::Config(error.into()))?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// A client without a certificate which trusts the authority in `ca_pem` alone.
///
/// # Errors
/// `ca_pem` holds no certificate.
pub fn client_config(ca_pem: &str, alpn: &[u8]) -> Result<ClientConfig, Error> {
    let roots = trusted(Path::new("the CA certificate"), ca_pem)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// BLAKE3 of the authority's certificate, as shown to people: 16 groups of 4 hex digits.
///
/// # Errors
/// `ca_pem` holds no certificate.
pub fn fingerprint(ca_pem: &str) -> Result<String, Error> {
    let all = certificates(Path::new("the CA certificate"), ca_pem)?;
    let digest = all
        .first()
        .map(|certificate| blake3::hash(certificate))
        .unwrap_or_else(|| blake3::hash(b""));
    let hex = digest.to_hex().to_string();
    let groups: Vec<&str> = (0..hex.len())
        .step_by(4)
        .filter_map(|at| hex.get(at..at + 4))
        .collect();
    Ok(groups.join(" "))
}

/// Whether the certificate that the other end of a connection showed is one for `role`.
pub fn peer_has_role(shown: Option<&[CertificateDer<'_>]>, role: &Role) -> bool {
    let Some(certificate) = shown.and_then(<[_]>::first) else {
        return false;
    };
    let Ok(name) = ServerName::try_from(role.server_name()) else {
        return false;
    };
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

/// The name to ask for when connecting to a process of `role`.
///
/// # Errors
/// The cluster's name cannot stand in a certificate.
pub fn expected_name(role: &Role) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(role.server_name()).map_err(|_| Error::Name(role.server_name()))
}

/// A server configuration that can be replaced while connections are accepted; old connections live on.
#[derive(Clone)]
pub struct Reloadable(Arc<ArcSwap<ServerConfig>>);

impl Reloadable {
    /// Begins with `config`.
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// What the next connection gets.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Replaces the configuration for connections to come.
    pub fn replace(&self, config: ServerConfig) {
        self.0.store(Arc::new(config));
    }
}

fn certificates(path: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found
        .ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| Error::Pem {
            path: path.to_owned(),
            what: "certificate",
        })
}

fn trusted(path: &Path, pem: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| Error::Config(error.into()))?;
    }
    Ok(Arc::new(roots))
}

fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    write_durably(path, content, mode).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_valid_for_its_role_alone() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        let role = Role::Chunkserver("alpha".to_owned());
        let own = directory.path().join("n1");
        authority.issue(&role, &["127.0.0.1".to_owned()], &own).unwrap();
        let identity = Identity::load(&own).unwrap();
        assert!(peer_has_role(Some(&identity.chain), &role));
        assert!(!peer_has_role(
            Some(&identity.chain),
            &Role::Chunkserver("beta".to_owned())
        ));
        assert!(!peer_has_role(Some(&identity.chain), &Role::Supernode));
        assert!(!peer_has_role(None, &role));
        identity.server_config(ALPN_CONTROL).unwrap();
        identity.client_config(ALPN_BULK).unwrap();
        let again = Authority::open_or_create(directory.path()).unwrap();
        assert_eq!(again.certificate_pem(), authority.certificate_pem());
        assert_eq!(fingerprint(again.certificate_pem()).unwrap().len(), 79);
    }

    #[test]
    fn an_unreadable_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("node.key"), "not a key").unwrap();
        let error = Identity::load(directory.path()).unwrap_err();
        assert!(error.to_string().contains("node.key"), "{error}");
    }
}
