//! Signed entries of author logs.

use bithealth_proto::{DecodeError, encode, v1};
use bithealth_types::{Digest, MemberId, NodeId, PackId, Sequence, ShardIndex};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::evidence::{Accused, NotEvidence};
use crate::member::MembershipError;
use crate::pack::PackError;

const ENTRY_LABEL: &[u8] = b"bithealth entry v1";

/// Signs an entry as its author.
pub fn sign(sign: impl Fn(&[u8]) -> [u8; 64], entry: v1::Entry) -> v1::SignedEntry {
    let bytes = encode(&entry);
    let digest = Digest(Sha256::digest(&bytes).into());
    let signature = Bytes::copy_from_slice(&sign(&message(&entry.author, entry.sequence, &digest)));
    v1::SignedEntry { entry: bytes.into(), signature }
}

/// What the next entry of its author names as `previous`: SHA-256 of the encoded `Entry`.
pub fn entry_digest(signed: &v1::SignedEntry) -> Digest {
    Digest(Sha256::digest(&signed.entry).into())
}

/// What an author signs. Of the entry only the digest, so that evidence of two signatures is small and shows no entry.
pub(crate) fn message(author: &[u8], sequence: u64, digest: &Digest) -> Vec<u8> {
    [ENTRY_LABEL, author, &sequence.to_be_bytes(), digest.as_bytes()].concat()
}

/// An entry that [`crate::State::check`] found valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub(crate) author: NodeId,
    pub(crate) digest: Digest,
    pub(crate) leaf: Digest,
    pub(crate) entry: v1::Entry,
}

impl Checked {
    /// Whose it is.
    pub fn author(&self) -> NodeId {
        self.author
    }

    /// Its position in its author's log.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.entry.sequence)
    }

    /// What the author's next entry names as the one before.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The entry.
    pub fn entry(&self) -> &v1::Entry {
        &self.entry
    }
}

/// What an applied entry was about. Whether a membership took effect is for [`crate::State::member`] and
/// [`crate::State::node`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// An organisation was admitted.
    Admitted(MemberId),
    /// A node was certified.
    NodeAdded(NodeId),
    /// A node was taken out.
    NodeRetired(NodeId),
    /// A pack was committed.
    PackCommitted(PackId),
    /// A shard moved.
    ShardPlaced {
        /// Of this pack.
        pack: PackId,
        /// This one.
        shard: ShardIndex,
        /// To this node.
        node: NodeId,
    },
    /// A digest was notarised.
    Notarised,
    /// A proposal was made or approved.
    Voted(Digest),
    /// Somebody was shown to have signed two things that exclude each other.
    Accused(Accused),
    /// A node condemned a holder, or absolved it.
    Judged {
        /// The holder.
        holder: NodeId,
    },
    /// A pack was gathered into another.
    PackRetired {
        /// The pack.
        pack: PackId,
        /// What holds its records now.
        replaced_by: PackId,
    },
}

impl Applied {
    /// Whether members, nodes or validators may follow from it.
    pub(crate) fn changes_members(&self) -> bool {
        use Applied::{Accused, Admitted, NodeAdded, NodeRetired, Voted};
        matches!(self, Admitted(_) | NodeAdded(_) | NodeRetired(_) | Accused(_) | Voted(_))
    }
}

/// Why an entry is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Not an entry in its canonical encoding, or too long.
    #[error("the entry cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Its author is no public key.
    #[error("the entry's author has {got} bytes, 32 are due")]
    AuthorLength {
        /// Bytes that came.
        got: usize,
    },
    /// No node of a member, as far as is known here.
    #[error("node {author} is not known here")]
    UnknownAuthor {
        /// The author.
        author: NodeId,
    },
    /// Not signed by its author.
    #[error("entry {sequence} is not signed by its author, node {author}")]
    BadSignature {
        /// The author.
        author: NodeId,
        /// Its position.
        sequence: u64,
    },
    /// Its author was shown to have written two entries at one position, and a block ended its log. Of an own entry:
    /// this node is the one.
    #[error(
        "node {author} signed two different entries for one position of its log, which is frozen; its organisation sets \
         up a new node with `bithealth restore`"
    )]
    Frozen {
        /// The author.
        author: NodeId,
    },
    /// This very entry is here.
    #[error("entry {sequence} of node {author} is here already")]
    Known {
        /// The author.
        author: NodeId,
        /// Its position.
        sequence: u64,
    },
    /// An entry at this position is final; whether it is this one, only the store can tell.
    #[error("entry {sequence} of node {author} is final already")]
    Final {
        /// The author.
        author: NodeId,
        /// Its position.
        sequence: u64,
    },
    /// Another entry is here at this position: both are evidence ([`crate::equivocation`]).
    #[error("entry {sequence} of node {author} is {got}, and {have} is here: it wrote both")]
    Forked {
        /// The author.
        author: NodeId,
        /// Their position.
        sequence: u64,
        /// The digest of the one that is here.
        have: Digest,
        /// The digest of the one that came.
        got: Digest,
    },
    /// Entries before it have not arrived.
    #[error("entry {got} of node {author} came, {have} entries are here: those between are missing")]
    Gap {
        /// The author.
        author: NodeId,
        /// Entries that are here.
        have: u64,
        /// The position of the one that came.
        got: u64,
    },
    /// It does not follow the entry before it.
    #[error("entry {sequence} of node {author} names {got} as the one before, that is {have}")]
    WrongPrevious {
        /// The author.
        author: NodeId,
        /// Its position.
        sequence: u64,
        /// The digest of the entry before.
        have: Digest,
        /// The bytes that came for it, as hexadecimal.
        got: String,
    },
    /// It says nothing, or something this version does not know.
    #[error("the entry has no operation that this version knows")]
    NoOperation,
    /// Its membership message is not valid.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Its evidence shows nothing.
    #[error(transparent)]
    Evidence(#[from] NotEvidence),
    /// Its pack commit is not valid.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Only of an own entry: it refers to an organisation that is not known here.
    #[error("organisation {member} is not known here")]
    MemberUnknown {
        /// The organisation.
        member: MemberId,
    },
    /// Only of an own entry: it refers to a node that is not known here.
    #[error("node {node} is not known here")]
    NodeUnknown {
        /// The node.
        node: NodeId,
    },
    /// Only of an own entry: it refers to a pack that is not known here.
    #[error("pack {pack} is not known here")]
    PackUnknown {
        /// The pack.
        pack: PackId,
    },
    /// A holder is condemned for nothing that this version knows.
    #[error("a holder is condemned for fault {got}, which this version does not know")]
    NoFault {
        /// What came.
        got: i32,
    },
    /// An id that is none.
    #[error("{what} has {got} bytes, 32 are due")]
    IdLength {
        /// The id.
        what: &'static str,
        /// Bytes that came.
        got: usize,
    },
    /// A shard no pack has, or, of an own entry, that this pack does not have.
    #[error("shard {shard} of a pack of {n}")]
    NoSuchShard {
        /// The shard.
        shard: u32,
        /// Shards of the pack.
        n: u32,
    },
    /// Only of an own entry: a shard is placed by a node that is neither the pack's author nor the one that takes it.
    #[error("node {author} neither committed pack {pack} nor takes its shard")]
    NotPlacer {
        /// Who wrote the entry.
        author: NodeId,
        /// The pack.
        pack: PackId,
    },
    /// A pack is retired, or named as the replacement, by a node that did not commit it.
    #[error("node {author} did not commit pack {pack}")]
    NotItsPack {
        /// Who wrote the entry.
        author: NodeId,
        /// The pack.
        pack: PackId,
    },
    /// The author retires a pack twice, or into itself.
    #[error("pack {pack} cannot be retired into {into}")]
    RetiredBefore {
        /// The pack.
        pack: PackId,
        /// What should replace it.
        into: PackId,
    },
    /// The author committed this pack before.
    #[error("pack {pack} is committed already")]
    PackCommitted {
        /// The pack.
        pack: PackId,
    },
    /// Only of an own entry: who it accuses is known to be guilty.
    #[error("this was shown before")]
    AccusedBefore,
    /// Only of an own entry: another organisation has the name.
    #[error("there is a member called \"{name}\" already, organisation {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        by: MemberId,
    },
    /// Only of an own entry: the members have not approved the invite.
    #[error(
        "the members have not approved the invite yet: {got} of {want} approvals are there; other members run \
         `bithealth admin approve`"
    )]
    NotApproved {
        /// Members that are for it.
        got: usize,
        /// Those that must be.
        want: usize,
    },
    /// Only of an own entry: the proposal is there.
    #[error("this was proposed already; `bithealth admin proposals` shows it")]
    ProposedBefore,
    /// Only of an own entry: nobody proposed this, as far as is known here.
    #[error("proposal {proposal} is not known here; `bithealth admin proposals` lists those that are")]
    ProposalUnknown {
        /// The proposal.
        proposal: Digest,
    },
    /// Only of an own entry: it passed, or this organisation is for it.
    #[error("proposal {proposal} has passed, or this organisation approved it before")]
    ApprovedBefore {
        /// The proposal.
        proposal: Digest,
    },
    /// Signed with a key that is not the organisation's now.
    #[error(
        "organisation {member} signs with another key: its kit that was printed when its keys were changed last has it"
    )]
    NotItsKey {
        /// The organisation.
        member: MemberId,
    },
    /// A key that stands, or stood, for somebody.
    #[error("the new key for organisation {member} was in use before; make another")]
    KeyTaken {
        /// The organisation.
        member: MemberId,
    },
    /// Only of an own entry: the organisation is a member.
    #[error("organisation {member} is a member already")]
    AlreadyMember {
        /// The organisation.
        member: MemberId,
    },
    /// Only of an own entry: the node is another organisation's.
    #[error("node {node} belongs to organisation {by}")]
    NodeTaken {
        /// The node.
        node: NodeId,
        /// Whose it is.
        by: MemberId,
    },
    /// Only of an own entry: the node, perhaps the author itself, is retired.
    #[error("node {node} is retired")]
    NodeRetired {
        /// The node.
        node: NodeId,
    },
}

impl EntryError {
    /// Whether the entry may become valid when more arrives: keep it, or ask for it again later, and blame nobody.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::UnknownAuthor { .. } | Self::Gap { .. })
    }

    /// Whether no honest node can have taken it, whatever it knows: whoever shows it made it up.
    pub fn is_forged(&self) -> bool {
        let is_too_long = matches!(self, Self::Decode(DecodeError::TooLong { .. }));
        is_too_long || matches!(self, Self::BadSignature { .. } | Self::AuthorLength { .. })
    }
}
