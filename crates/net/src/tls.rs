//! TLS 1.3 over TCP as libp2p has it, with the cipher that this machine is fastest at.
//!
//! libp2p's own configuration offers ChaCha20-Poly1305 first, at a quarter of the speed of AES-GCM where the processor
//! has instructions for it, and writes session keys to the file that `SSLKEYLOGFILE` names; neither can be set there. The
//! certificates, what they prove, and how they are checked are its own.
//!
//! Source: the libp2p TLS specification, libp2p/specs, tls/tls.md.

use std::io;
use std::iter::{Once, once};
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, NoKeyLog, OtherError,
    ServerConfig, SignatureScheme, SupportedCipherSuite,
};

/// What both sides name in the handshake, so that another TLS service on the same port is told apart.
const ALPN: &[u8] = b"libp2p";

/// Schemes of the certificates that libp2p makes and takes. RSA is not among them: no node has such a key.
const SCHEMES: [SignatureScheme; 3] =
    [SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TlsError {
    /// No certificate could be made of the node's key.
    #[error("no certificate: {0}")]
    Certificate(#[from] certificate::GenError),
    /// The library does not take what it made.
    #[error(transparent)]
    Config(#[from] Error),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] io::Error),
    /// The peer's certificate says nothing.
    #[error("the peer's certificate: {0}")]
    Peer(#[from] certificate::ParseError),
    /// The peer showed none, or several.
    #[error("the peer showed {got} certificates, 1 is due")]
    Certificates {
        /// How many.
        got: usize,
    },
}

/// The upgrade of a TCP connection.
#[derive(Clone)]
pub(crate) struct Upgrade {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Upgrade {
    /// With a certificate that this node's key vouches for.
    pub(crate) fn new(keys: &Keypair) -> Result<Self, TlsError> {
        let (certificate, key) = certificate::generate(keys)?;
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = suites().to_vec();
        let provider = Arc::new(provider);
        let key = CertifiedKey::new(vec![certificate], aws_lc_rs::sign::any_ecdsa_type(&key)?);
        let ours = Arc::new(SingleCertAndKey::from(key));
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier))
            .with_cert_resolver(ours.clone());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // no authority vouches for nodes: their keys are their names
            .with_custom_certificate_verifier(Arc::new(Verifier))
            .with_client_cert_resolver(ours);
        server.alpn_protocols = vec![ALPN.to_vec()];
        client.alpn_protocols = vec![ALPN.to_vec()];
        server.key_log = Arc::new(NoKeyLog {});
        client.key_log = Arc::new(NoKeyLog {});
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The fastest first: whoever opens the connection decides.
fn suites() -> [SupportedCipherSuite; 3] {
    if has_aes() {
        [TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256]
    } else {
        [TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256]
    }
}

/// Whether the processor has instructions for AES.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        once("/tls/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Upgrade {
    type Output = (PeerId, TlsStream<C>);
    type Error = TlsError;
    type Future = BoxFuture<'static, Result<Self::Output, TlsError>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        async move {
            let stream = TlsAcceptor::from(self.server).accept(io).await?;
            Ok((peer(stream.get_ref().1)?, stream.into()))
        }
        .boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Upgrade {
    type Output = (PeerId, TlsStream<C>);
    type Error = TlsError;
    type Future = BoxFuture<'static, Result<Self::Output, TlsError>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        async move {
            // An address in place of a name sends none, as the specification wants; whom we reached is compared above.
            let nobody = ServerName::IpAddress(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
            let stream = TlsConnector::from(self.client).connect(nobody, io).await?;
            Ok((peer(stream.get_ref().1)?, stream.into()))
        }
        .boxed()
    }
}

/// Whose certificate it was.
fn peer(state: &CommonState) -> Result<PeerId, TlsError> {
    match state.peer_certificates().unwrap_or_default() {
        [one] => Ok(certificate::parse(one)?.peer_id()),
        others => Err(TlsError::Certificates { got: others.len() }),
    }
}

/// Takes any certificate that libp2p could have made. Who it is, the swarm compares with whom it called.
#[derive(Debug)]
struct Verifier;

impl Verifier {
    fn check(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(Error::General(format!("{} certificates, 1 is due", 1 + intermediates.len())));
        }
        certificate::parse(end_entity).map(drop).map_err(refused)
    }

    fn check_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = certificate::parse(certificate).map_err(refused)?;
        certificate.verify_signature(signed.scheme, message, signed.signature()).map_err(refused)?;
        Ok(HandshakeSignatureValid::assertion())
    }
}

fn refused(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// TLS 1.2 is not offered.
fn too_old() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 is due".into()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

#[cfg(test)]
mod tests;
