//! A node's id and libp2p's peer id: two forms of one Ed25519 public key.

use bithealth_types::NodeId;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::{Multiaddr, Protocol};

/// Multihash code of a key that is not hashed but written out, as libp2p does with Ed25519 keys.
const IDENTITY: u64 = 0;

/// What precedes the 32 bytes of an Ed25519 key in libp2p's encoding of a public key: field 1 (key type) = 1, field 2
/// (data) of 32 bytes.
const ED25519_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// A node's key pair for the network.
#[derive(Clone)]
pub struct Keys {
    pair: Keypair,
    node: NodeId,
}

/// Why a peer id is not a node's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer {peer} has no Ed25519 key; nodes have no other")]
pub struct NotEd25519 {
    /// The peer id as libp2p writes it.
    pub peer: String,
}

impl Keys {
    /// The key pair of an Ed25519 seed (RFC 8032, section 5.1.5).
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        // Wipes `seed`, which is this function's own copy.
        let secret = ed25519::SecretKey::try_from_bytes(&mut seed).expect("any 32 bytes are an Ed25519 seed");
        let pair = ed25519::Keypair::from(secret);
        Self { node: NodeId(pair.public().to_bytes()), pair: pair.into() }
    }

    /// The node these keys are of.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    pub(crate) fn pair(&self) -> &Keypair {
        &self.pair
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.node.short())
    }
}

/// The node with this peer id.
///
/// # Errors
/// [`NotEd25519`] if the id is a hash, or of a key of another kind.
pub fn node_id(peer: &PeerId) -> Result<NodeId, NotEd25519> {
    let hash: &libp2p::multihash::Multihash<64> = peer.as_ref();
    let key = hash.digest().strip_prefix(&ED25519_PREFIX).and_then(|key| NodeId::try_from(key).ok());
    match key {
        Some(node) if hash.code() == IDENTITY => Ok(node),
        _ => Err(NotEd25519 { peer: peer.to_string() }),
    }
}

/// The peer id of a node. `None` if the node's id is not a point of the curve, so that nobody can have its key.
pub fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node an address names at its end; none if it names none, or is no multiaddress.
pub fn node_at(address: &str) -> Option<NodeId> {
    node_id(&peer_of(&address.parse().ok()?)?).ok()
}

/// The peer id an address ends with.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The address without the peer id it may end with.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// The address, ending with the peer id.
pub(crate) fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    without_peer(address).with(Protocol::P2p(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_and_its_peer_id_become_each_other() {
        for seed in 0..32 {
            let keys = Keys::from_seed([seed; 32]);
            let peer = peer_id(&keys.node_id()).unwrap();
            assert_eq!(peer, keys.pair().public().to_peer_id());
            assert_eq!(node_id(&peer), Ok(keys.node_id()));
        }
    }

    #[test]
    fn an_address_names_its_node_at_its_end() {
        let (relay, node) = (Keys::from_seed([1; 32]), Keys::from_seed([2; 32]));
        let [relay, peer] = [&relay, &node].map(|keys| keys.pair().public().to_peer_id());
        let at = format!("/ip4/9.9.9.9/tcp/1/p2p/{relay}/p2p-circuit");
        assert_eq!(node_at(&format!("{at}/p2p/{peer}")), Some(node.node_id()));
        assert_eq!(node_at(&at), None);
        assert_eq!(node_at("9.9.9.9:1"), None);
    }

    #[test]
    fn the_node_id_is_the_public_key_of_the_seed() {
        // RFC 8032, section 7.1, test 1.
        let seed = *b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
        let want = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(Keys::from_seed(seed).node_id().to_string(), want);
    }

    #[test]
    fn a_hashed_peer_id_is_refused() {
        // The form of RSA and ECDSA keys: a SHA-256 of the key instead of the key.
        let peer: PeerId = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().unwrap();
        assert_eq!(node_id(&peer), Err(NotEd25519 { peer: peer.to_string() }));
    }

    #[test]
    fn a_secp256k1_peer_id_is_refused() {
        // Written out like an Ed25519 key, but of key type 2 and 33 bytes.
        let mut key = vec![0x08, 0x02, 0x12, 0x21];
        key.extend([2; 33]);
        let peer = PeerId::from_multihash(libp2p::multihash::Multihash::wrap(IDENTITY, &key).unwrap()).unwrap();
        assert_eq!(node_id(&peer), Err(NotEd25519 { peer: peer.to_string() }));
    }

    #[test]
    fn an_id_that_is_no_point_has_no_peer_id() {
        let mut bytes = [0; 32];
        bytes[0] = 2; // y = 2 is on no point of the curve
        assert_eq!(peer_id(&NodeId(bytes)), None);
    }

    #[test]
    fn a_seed_never_shows_in_debug_output() {
        let keys = Keys::from_seed([0xA7; 32]);
        assert_eq!(format!("{keys:?}"), format!("Keys({})", keys.node_id().short()));
    }
}
