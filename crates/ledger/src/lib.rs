//! Says which entry, header and membership is valid, and what state follows.
//!
//! [`State`] is what a node knows of the consortium: members, nodes, packs, the logs of all authors, and the tip of the
//! blocks. [`State::check`] judges an entry, [`State::apply`] takes what was judged; [`State::check_block`] and
//! [`State::apply_block`] do the same for blocks, and [`State::next_block`] makes the next one to decide. How validators
//! decide it is for `bithealth-consensus`; that they did, [`verify_certificate`] says.
//!
//! **Arrival order does not matter.** Every log arrives in its own order, but logs arrive in any order among each other,
//! and all nodes must come to the same state. So what makes an entry invalid for good depends on the entry and on what
//! its author wrote before, nothing else. It waits for these ([`EntryError::is_waiting`]), not for what it refers to, which
//! may never come if its author lied to some of us: it takes effect once that is there. Where two authors wrote what cannot both be (one invite used twice, one name for two
//! organisations), both entries stand in their logs, and the one that a block covered first, then the one of the lower
//! author id, takes effect. An honest node does not write such an entry knowingly: [`State::check_own`].
//!
//! **Without a state**: [`Light`] follows the history by its headers, and [`check_proof`] takes one file as proof that an
//! entry was in its author's log at a height. Both need the genesis and nothing else.
//!
//! [`SignedNote`] is the form in which heads leave the consortium, for witnesses and monitors that others wrote.

mod block;
mod certificate;
mod condemned;
mod entry;
mod evidence;
mod light;
mod log;
mod member;
mod note;
mod pack;
mod presence;
mod proof;
mod recovery;
mod registry;
mod state;
mod validators;

pub use block::{BLOCK_ENTRIES_MAX, BLOCK_LOGS_MAX, BlockError, CheckedBlock, TIME_UNCERTAINTY_MS, digest_of_bytes};
pub use certificate::{
    CertificateError, certificate, era_domain, guilty, proposal_message, signed_by_validator, signers,
    verify_certificate, vote_message,
};
pub use condemned::{CONDEMNED_FOR_MS, CONDEMNERS_MIN, Condemned};
pub use entry::{Applied, Checked, EntryError, entry_digest, sign};
pub use evidence::{Accused, NotEvidence, check_evidence, double_vote, equivocation};
pub use light::{Light, LightError, Skip, signed_header};
pub use log::{Log, entry_leaf};
pub use member::{
    JURISDICTION_LEN_MAX, MembershipError, NAME_LEN_MAX, RECIPIENT_LEN, REGION_LEN_MAX, admission, invite, member_keys,
    member_record, node_certificate, retire_node, signer, verify_admission, verify_invite, verify_keys, verify_member,
    verify_node, verify_retirement,
};
pub use note::{
    COSIGNATURE_TIME_MAX_S, Checkpoint, CheckpointError, NOTE_LEN_MAX, NOTE_SIGNATURES_MAX, NoteAlgorithm, NoteError,
    NoteSignature, SUBMISSION_LEN_MAX, SUBMISSION_PROOF_MAX, SignedNote, Submission, SubmissionError, VerifierKey,
    VerifierKeyError, Watched, WitnessError, cosign, head_checkpoint, log_key, origin, sign_note, verify_cosignature,
    verify_note,
};
pub use pack::{KEEP_IN_MAX, Pack, PackError, WRAP_LEN_MAX, WRAPS_MAX};
pub use presence::{Presence, Subject, check_presence};
pub use proof::{NotProven, Parts, Proven, ProvenRecord, build_proof, check_proof, commitment};
pub use recovery::{
    HOLDERS_MAX, NotPolicy, Opened, RECOVERY_WITNESSES_MAX, RecoveryError, RecoveryPolicy, merge, note_text,
    recovery_origin,
};
pub use registry::{Member, Node, Proposal};
pub use state::{GenesisError, PARAMETERS_DEFAULT, State};
pub use validators::{NotValidators, VALIDATORS_MAX, Validator, ValidatorSet, faulty, quorum};

#[cfg(test)]
mod fixture;
