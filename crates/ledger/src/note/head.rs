//! The tip of the history as a checkpoint.

use bithealth_types::{Digest, GenesisId, Height};

use super::{Checkpoint, NoteAlgorithm, VerifierKey, VerifierKeyError};
use crate::State;

/// The origin of a network's checkpoints: `bithealth/` and the digest of its genesis, which nobody else can have.
///
/// Labels of all else that nodes sign go on with a space behind `bithealth`, so that no checkpoint is taken for an entry.
pub fn origin(genesis: &GenesisId) -> String {
    format!("bithealth/{genesis}")
}

/// The key under which a node signs checkpoints. Its name is the origin, as the standard wants it; which node it is, the
/// key says.
///
/// # Errors
/// [`VerifierKeyError::NotAKey`] if `public` is none.
///
/// Source: <https://c2sp.org/tlog-checkpoint>, "Signatures".
pub fn log_key(genesis: &GenesisId, public: [u8; 32]) -> Result<VerifierKey, VerifierKeyError> {
    VerifierKey::new(&origin(genesis), NoteAlgorithm::Ed25519, public)
}

/// What all nodes of a network say of the history up to a height: the RFC 9162 root over its headers as they are encoded,
/// and, in a line of its own, SHA-256 of the last of them, which people compare with `ledger verify`.
///
/// The text is the same at every node, so that a witness's cosignature is good for all of them.
pub fn head_checkpoint(genesis: &GenesisId, height: Height, root: Digest, header: Digest) -> Checkpoint {
    Checkpoint { origin: origin(genesis), len: height.0, root, extensions: vec![format!("header {header}")] }
}

impl State {
    /// The checkpoint of the tip; `None` before the first block.
    ///
    /// Blocks only ever follow on the tip, each after a quorum signed it. So of two checkpoints of one state, or of states
    /// that came from the same stored blocks, the later one continues the earlier one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.tip().map(|_| head_checkpoint(&self.genesis_id(), self.height(), self.history_root(), self.tip_digest()))
    }
}

#[cfg(test)]
mod tests {
    use bithealth_merkle::{leaf_hash, root};
    use bithealth_proto::encode;

    use super::*;
    use crate::fixture::{history, public, state};
    use crate::{Light, digest_of_bytes};

    #[test]
    fn a_checkpoint_is_about_all_headers_up_to_the_tip_with_it() {
        let history = history();
        let encoded: Vec<_> = history.headers.iter().map(|it| encode(it.header.as_ref().unwrap())).collect();
        let leaves: Vec<_> = encoded.iter().map(|header| leaf_hash(header)).collect();
        let checkpoint = history.state.checkpoint().unwrap();
        assert_eq!((checkpoint.len, checkpoint.root), (10, root(&leaves)));
        assert_eq!(checkpoint.extensions, [format!("header {}", digest_of_bytes(&encoded[9]))]);
        assert_eq!(checkpoint.origin, format!("bithealth/{}", history.state.genesis_id()));

        // Who followed the headers from outside comes to the same.
        let mut light = Light::new(history.state.genesis()).unwrap();
        history.headers.iter().for_each(|header| light.advance(header).unwrap());
        let from_outside =
            head_checkpoint(&history.state.genesis_id(), light.height(), light.history_root(), light.digest());
        assert_eq!(from_outside, checkpoint);
    }

    #[test]
    fn a_header_names_what_the_checkpoint_before_it_says() {
        let history = history();
        let (last, before) = history.headers.split_last().unwrap();
        let mut light = Light::new(history.state.genesis()).unwrap();
        before.iter().for_each(|header| light.advance(header).unwrap());
        let header = last.header.clone().unwrap();
        let digest = |bytes: &[u8]| Digest::try_from(bytes).unwrap();
        assert_eq!(digest(&header.history_root), light.history_root());
        assert_eq!(digest(&header.previous), light.digest());
    }

    #[test]
    fn there_is_no_checkpoint_before_the_first_block() {
        assert_eq!(state().checkpoint(), None);
    }

    #[test]
    fn a_node_signs_under_the_origin() {
        let genesis = state().genesis_id();
        assert_eq!(log_key(&genesis, public(1)).unwrap().name(), origin(&genesis));
    }
}
