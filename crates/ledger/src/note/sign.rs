//! Who signed a note, and when a witness saw it.

use super::{
    COSIGNATURE_TIME_MAX_S, Checkpoint, NOTE_LEN_MAX, NoteAlgorithm, NoteError, NoteSignature, SignedNote, VerifierKey,
    check_characters,
};
use crate::member::signed_by;

/// A time, u64 in big-endian order, stands before the signature of a cosignature.
const TIME_LEN: usize = 8;
const SIGNATURE_LEN: usize = 64;

/// Signs a text; `sign` is the log's, and has `key`.
///
/// The text is signed as it is. So a key that signs notes should sign nothing else, unless that begins with a label no
/// text of a note begins with.
///
/// # Errors
/// [`NoteError`] if the text cannot be that of a note, or the key is not for notes.
///
/// Source: <https://c2sp.org/signed-note>, "Ed25519 signatures".
pub fn sign_note(text: &str, key: &VerifierKey, sign: impl Fn(&[u8]) -> [u8; 64]) -> Result<SignedNote, NoteError> {
    check_algorithm(key, NoteAlgorithm::Ed25519)?;
    check_characters(text)?;
    if !text.ends_with('\n') {
        return Err(NoteError::NoNewline { what: "the text" });
    }
    let signatures = vec![NoteSignature::by(key, sign(text.as_bytes()).to_vec())];
    let note = SignedNote { text: text.to_owned(), signatures };
    let got = note.to_string().len();
    if got > NOTE_LEN_MAX { Err(NoteError::TooLong { got }) } else { Ok(note) }
}

/// Says that the tree of a checkpoint is, at `time_s` (seconds since 1970), the longest one the witness saw of the log,
/// and continues all it saw before; `sign` is the witness's, and has `key`.
///
/// Whether that is true is for the caller to check: this only signs. [`SignedNote::add`] takes what it returns.
///
/// # Errors
/// [`NoteError`] if the note is not a checkpoint, the time is past all times, or the key is not for cosignatures.
///
/// Source: <https://c2sp.org/tlog-cosignature>, "Ed25519 signed message".
pub fn cosign(
    note: &SignedNote,
    key: &VerifierKey,
    time_s: u64,
    sign: impl Fn(&[u8]) -> [u8; 64],
) -> Result<NoteSignature, NoteError> {
    check_algorithm(key, NoteAlgorithm::CosignatureV1)?;
    Checkpoint::parse(note.text())?;
    let signature = sign(&cosignature_message(note.text(), time_s)?);
    Ok(NoteSignature::by(key, [time_s.to_be_bytes().as_slice(), &signature].concat()))
}

/// Checks that the key signed the note.
///
/// Signatures by other keys are not looked at. Of several by this key each must be right.
///
/// # Errors
/// [`NoteError`] if the key did not sign, or a line is false that says so.
pub fn verify_note(note: &SignedNote, key: &VerifierKey) -> Result<(), NoteError> {
    let signatures = signatures_by(note, key, NoteAlgorithm::Ed25519, SIGNATURE_LEN)?;
    signatures.iter().try_for_each(|signature| check_signature(key, note.text().as_bytes(), signature))
}

/// Checks that the witness with this key cosigned the note, which is a checkpoint; returns when, in seconds since 1970.
///
/// Signatures by other keys are not looked at, the log's neither. Of several by this key each must be right, and the
/// latest time is returned. It may lie in the future: the caller knows the time.
///
/// # Errors
/// [`NoteError`] if the key did not cosign, or a line is false that says so.
pub fn verify_cosignature(note: &SignedNote, key: &VerifierKey) -> Result<u64, NoteError> {
    Checkpoint::parse(note.text())?;
    let mut latest_s = 0;
    for cosignature in signatures_by(note, key, NoteAlgorithm::CosignatureV1, TIME_LEN + SIGNATURE_LEN)? {
        let (time, signature) = cosignature.split_first_chunk().expect("it has the length of both");
        let time_s = u64::from_be_bytes(*time);
        check_signature(key, &cosignature_message(note.text(), time_s)?, signature)?;
        latest_s = latest_s.max(time_s);
    }
    Ok(latest_s)
}

impl SignedNote {
    /// What the note says is signed by this key, whether it is or not.
    pub(crate) fn signatures_of(&self, key: &VerifierKey) -> impl Iterator<Item = &[u8]> {
        let (name, key_id) = (key.name().to_owned(), key.id());
        let by_key = self.signatures.iter().filter(move |it| it.key_id == key_id && it.name == name);
        by_key.map(|it| it.bytes.as_slice())
    }
}

/// What the key signed, as the note says: at least one signature, each of the length that is due.
fn signatures_by<'a>(
    note: &'a SignedNote,
    key: &VerifierKey,
    algorithm: NoteAlgorithm,
    want: usize,
) -> Result<Vec<&'a [u8]>, NoteError> {
    check_algorithm(key, algorithm)?;
    let signatures: Vec<_> = note.signatures_of(key).collect();
    if signatures.is_empty() {
        return Err(NoteError::NotSigned { name: key.name().to_owned(), key_id: key.id() });
    }
    match signatures.iter().find(|signature| signature.len() != want) {
        Some(other) => Err(NoteError::SignatureLen { got: other.len(), want }),
        None => Ok(signatures),
    }
}

fn check_algorithm(key: &VerifierKey, want: NoteAlgorithm) -> Result<(), NoteError> {
    let got = key.algorithm();
    if got == want { Ok(()) } else { Err(NoteError::OtherAlgorithm { got, want }) }
}

fn check_signature(key: &VerifierKey, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
    let right = signed_by(key.public(), message, signature);
    if right { Ok(()) } else { Err(NoteError::FalseSignature { name: key.name().to_owned(), key_id: key.id() }) }
}

/// What a witness signs. Its first line keeps it apart from any checkpoint, whose second line is a number.
pub(crate) fn cosignature_message(text: &str, time_s: u64) -> Result<Vec<u8>, NoteError> {
    if time_s > COSIGNATURE_TIME_MAX_S {
        return Err(NoteError::Time { got: time_s });
    }
    Ok(format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes())
}
