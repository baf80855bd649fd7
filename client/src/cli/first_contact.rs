//! The first contact with an installation: what CA certificate its servers show, for a person to compare and pin.
//!
//! Invariant (P9): nothing is sent and nothing that is read is used, except the certificate, which is only shown. The
//! connection that follows trusts this CA alone and checks the server's chain against it, so that a server which shows
//! someone else's CA gets nowhere.

use std::sync::Arc;

use common::tls::{ALPN_CONTROL, Role, expected_name};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::failure::{Exit, Failure};
use crate::Seams;

const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The CA certificate (PEM) that the server at `address` shows behind its own.
///
/// # Errors
/// Nobody answers there, or what answers shows no CA certificate.
pub(super) async fn shown_authority(seams: &Seams, address: &str) -> Result<String, Failure> {
    let unreachable = |reason: String| {
        Failure::new(
            Exit::Unavailable,
            "E_UNREACHABLE",
            format!("cannot reach {address}: {reason}"),
        )
        .hint("check the address and that a supernode runs there")
    };
    let provider = CryptoProvider::get_default()
        .cloned()
        .ok_or_else(|| Failure::new(Exit::Other, "E_TLS", "no TLS provider is installed"))?;
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ShownOnly(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_CONTROL.to_vec()];
    let stream = seams
        .network
        .connect(address)
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let name = expected_name(&Role::Supernode)?;
    let handshake = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream);
    let tls = seams
        .clock
        .timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .ok_or_else(|| unreachable("the TLS handshake takes too long".to_owned()))?
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
                unreachable("it turns callers away; it may still be starting".to_owned())
            }
            _ => unreachable(error.to_string()),
        })?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    match chain {
        [_, .., authority] => Ok(pem(authority)),
        _ => Err(Failure::new(
            Exit::Denied,
            "E_NO_CA",
            format!("{address} does not show its CA certificate"),
        )
        .hint("copy the installation's ca.pem here and name it with --ca")),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// Accepts any chain, for being shown to a person. The server must still own the key of its certificate.
#[derive(Debug)]
struct ShownOnly(Arc<CryptoProvider>);

impl ServerCertVerifier for ShownOnly {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::tls::{Authority, Identity, fingerprint, install_provider};

    async fn serve(directory: &std::path::Path, seams: &Seams) -> String {
        let config = Identity::load(directory)
            .unwrap()
            .server_config(ALPN_CONTROL)
            .unwrap();
        let mut listener = seams.network.bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                // The client goes away after the handshake.
                let _ = acceptor.accept(stream).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn the_authority_is_shown() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(directory.path()).unwrap();
        authority
            .issue(&Role::Supernode, &[], &directory.path().join("id"))
            .unwrap();
        let seams = Seams::real();
        let address = serve(&directory.path().join("id"), &seams).await;
        let shown = shown_authority(&seams, &address).await.unwrap();
        let expected = fingerprint(authority.certificate_pem()).unwrap();
        assert_eq!(fingerprint(&shown).unwrap(), expected);
        common::tls::client_config(&shown, ALPN_CONTROL).unwrap();
    }

    #[tokio::test]
    async fn nobody_there_is_told() {
        install_provider();
        let seams = Seams::real();
        let address = seams.network.bind("127.0.0.1:0").await.unwrap().address();
        let failure = shown_authority(&seams, &address).await.unwrap_err();
        assert_eq!((failure.exit, failure.retryable), (Exit::Unavailable, true));
    }
}
