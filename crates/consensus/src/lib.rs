//! Decides who makes the next block, and what makes it final.
//!
//! [`Rule`] is all the rest of the system knows about it. [`FounderRule`] is the first one, and the simplest: the nodes
//! of the organisation that founded the network produce blocks, and the producer's signature is the certificate.
//!
//! What that does not give: **history is as honest as the founder.** Two of its nodes, or one that lies, can make two
//! blocks of one height (every node that sees both reports it, none resolves it). And while no node of the founder runs,
//! no block is made; everything else goes on, and the next block covers what waited. A rule with validators of several
//! organisations takes its place behind the same trait.

use bithealth_ledger::{State, header_message};
use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, MemberId, NodeId};
use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

/// Who makes blocks, and what makes them final.
pub trait Rule {
    /// Whether this node may produce the block after the tip of `state`.
    fn may_produce(&self, state: &State, node: &NodeId) -> bool;

    /// The certificate of `header` by `signer`, which holds the key behind `sign`.
    fn certify(&self, header: &v1::Header, signer: &NodeId, sign: &dyn Fn(&[u8]) -> [u8; 64]) -> v1::Certificate;

    /// Whether `certificate` makes `header` final after the tip of `state`.
    ///
    /// # Errors
    /// [`CertificateError`].
    fn verify(&self, state: &State, header: &v1::Header, certificate: &v1::Certificate)
    -> Result<(), CertificateError>;
}

/// Why a certificate does not make a header final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is for another header.
    #[error("it names header {got}, this is {want}")]
    OtherHeader {
        /// The bytes it names, as hexadecimal.
        got: String,
        /// The digest of the header.
        want: Digest,
    },
    /// Another number of votes than the rule asks for.
    #[error("{got} votes, {want} are due")]
    Votes {
        /// Votes that came.
        got: usize,
        /// Votes that were due.
        want: usize,
    },
    /// An id that is none.
    #[error("the {what} has {got} bytes, 32 are due")]
    IdLength {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
    },
    /// The vote is not the producer's.
    #[error("node {got} voted, the producer is {want}")]
    OtherSigner {
        /// Who voted.
        got: NodeId,
        /// The producer.
        want: NodeId,
    },
    /// The producer is no node of a member.
    #[error("the producer, node {node}, is not known here")]
    UnknownProducer {
        /// The producer.
        node: NodeId,
    },
    /// The producer may not produce.
    #[error(
        "the producer, node {node}, belongs to {member}; only nodes of the founder {founder} produce, until they retire"
    )]
    NotProducer {
        /// The producer.
        node: NodeId,
        /// Its organisation.
        member: MemberId,
        /// The founder.
        founder: MemberId,
    },
    /// The vote is not signed by its signer.
    #[error("the vote is not signed by node {node}")]
    BadSignature {
        /// Who should have.
        node: NodeId,
    },
}

/// The nodes of the founding organisation produce; the producer's vote is the certificate.
///
/// A node of the founder that is retired stops when a block covers its retirement: only then do all see it alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct FounderRule;

impl Rule for FounderRule {
    fn may_produce(&self, state: &State, node: &NodeId) -> bool {
        state.node(node).is_some_and(|node| node.member == state.founder() && node.retired_since.is_none())
    }

    fn certify(&self, header: &v1::Header, signer: &NodeId, sign: &dyn Fn(&[u8]) -> [u8; 64]) -> v1::Certificate {
        let signature = Bytes::copy_from_slice(&sign(&header_message(header)));
        let vote = v1::Vote { signer: Bytes::copy_from_slice(signer.as_bytes()), signature };
        v1::Certificate { header: Bytes::copy_from_slice(digest(header).as_bytes()), votes: vec![vote] }
    }

    fn verify(
        &self,
        state: &State,
        header: &v1::Header,
        certificate: &v1::Certificate,
    ) -> Result<(), CertificateError> {
        let want = digest(header);
        if certificate.header != want.0.as_slice() {
            let got = certificate.header.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(CertificateError::OtherHeader { got, want });
        }
        let [vote] = certificate.votes.as_slice() else {
            return Err(CertificateError::Votes { got: certificate.votes.len(), want: 1 });
        };
        let (producer, signer) = (node_id("producer", &header.producer)?, node_id("signer", &vote.signer)?);
        if signer != producer {
            return Err(CertificateError::OtherSigner { got: signer, want: producer });
        }
        let node = state.node(&producer).ok_or(CertificateError::UnknownProducer { node: producer })?;
        if !self.may_produce(state, &producer) {
            let (member, founder) = (node.member, state.founder());
            return Err(CertificateError::NotProducer { node: producer, member, founder });
        }
        let key = VerifyingKey::from_bytes(producer.as_bytes()).ok();
        let signature = Signature::from_slice(&vote.signature).ok();
        let message = header_message(header);
        let signed = |(key, signature): (VerifyingKey, Signature)| key.verify_strict(&message, &signature).is_ok();
        if !key.zip(signature).is_some_and(signed) {
            return Err(CertificateError::BadSignature { node: producer });
        }
        Ok(())
    }
}

fn node_id(what: &'static str, bytes: &[u8]) -> Result<NodeId, CertificateError> {
    NodeId::try_from(bytes).map_err(|_| CertificateError::IdLength { what, got: bytes.len() })
}

#[cfg(test)]
mod tests;
