use libp2p::tls;
use tokio::io::duplex;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::*;

type Io = Compat<tokio::io::DuplexStream>;

fn upgrade() -> (PeerId, Upgrade) {
    let keys = Keypair::generate_ed25519();
    (keys.public().to_peer_id(), Upgrade::new(&keys).unwrap())
}

fn wire() -> (Io, Io) {
    let (one, other) = duplex(1 << 16);
    (one.compat(), other.compat())
}

#[tokio::test]
async fn both_learn_who_the_other_is_and_speak_the_fastest_cipher() {
    let ((one, ours), (other, theirs)) = (upgrade(), upgrade());
    let (here, there) = wire();
    let (called, heard) =
        futures::join!(ours.upgrade_outbound(here, "/tls/1.0.0"), theirs.upgrade_inbound(there, "/tls/1.0.0"));
    let ((called, stream), (heard, _)) = (called.unwrap(), heard.unwrap());
    assert_eq!((called, heard), (other, one));
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap();
    assert_eq!(suite.suite(), suites()[0].suite());
    assert_eq!(has_aes(), suite.suite() == TLS13_AES_256_GCM_SHA384.suite());
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768, "what is recorded today stays closed");
}

#[tokio::test]
async fn libp2p_as_it_comes_is_understood_in_both_directions() {
    let (us, ours) = upgrade();
    let keys = Keypair::generate_ed25519();
    let theirs = tls::Config::new(&keys).unwrap();
    let (here, there) = wire();
    let (called, heard) = futures::join!(
        ours.clone().upgrade_outbound(here, "/tls/1.0.0"),
        theirs.clone().upgrade_inbound(there, "/tls/1.0.0")
    );
    assert_eq!((called.unwrap().0, heard.unwrap().0), (keys.public().to_peer_id(), us));
    let (here, there) = wire();
    let (called, heard) =
        futures::join!(theirs.upgrade_outbound(here, "/tls/1.0.0"), ours.upgrade_inbound(there, "/tls/1.0.0"));
    assert_eq!((called.unwrap().0, heard.unwrap().0), (us, keys.public().to_peer_id()));
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_refused() {
    let (_, ours) = upgrade();
    let (here, there) = wire();
    let stranger = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier))
        .with_no_client_auth();
    let name = ServerName::IpAddress(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    let (_, heard) = futures::join!(
        TlsConnector::from(Arc::new(stranger)).connect(name, here),
        ours.upgrade_inbound(there, "/tls/1.0.0")
    );
    assert!(matches!(heard, Err(TlsError::Handshake(_))));
}

#[test]
fn a_changed_certificate_is_refused_and_so_is_a_second_one() {
    let keys = Keypair::generate_ed25519();
    let (certificate, _) = certificate::generate(&keys).unwrap();
    Verifier::check(&certificate, &[]).unwrap();
    assert!(Verifier::check(&certificate, std::slice::from_ref(&certificate)).is_err());
    let mut refused = 0;
    for at in 0..certificate.len() {
        let mut changed = certificate.to_vec();
        changed[at] ^= 1;
        let changed = CertificateDer::from(changed);
        match Verifier::check(&changed, &[]) {
            Err(_) => refused += 1,
            Ok(()) => {
                let named = certificate::parse(&changed).unwrap().peer_id();
                assert_eq!(named, keys.public().to_peer_id(), "byte {at} makes it somebody else's");
            }
        }
    }
    // A bit or two say nothing, such as how a field is marked that nobody reads.
    assert!(refused + 4 > certificate.len(), "{refused} of {} changes are refused", certificate.len());
}
