//! Documents that come gzipped (RFC 1952).

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use crate::{Form, SubjectError};

/// Most bytes a gzipped document may inflate to before we look into it: seven times the largest FHIR Bundle known to us,
/// and far below what a small forged file could be made to fill.
pub const INFLATED_LEN_MAX: usize = 256 * 1024 * 1024;

/// The bytes of a document without its outer gzip.
pub(crate) fn plain(document: &[u8], form: Form) -> Result<Cow<'_, [u8]>, SubjectError> {
    if form.gzip && form.media_type.is_read() {
        inflate(document, INFLATED_LEN_MAX).map(Cow::Owned)
    } else {
        Ok(document.into())
    }
}

fn inflate(document: &[u8], len_max: usize) -> Result<Vec<u8>, SubjectError> {
    let mut plain = Vec::new();
    // One byte past the limit tells a document of exactly that length from a longer one.
    let read = MultiGzDecoder::new(document).take(len_max as u64 + 1).read_to_end(&mut plain);
    if plain.len() > len_max {
        return Err(SubjectError::TooLong { len_max });
    }
    read.map_err(|_| SubjectError::Gzip { inflated: plain.len() })?;
    Ok(plain)
}

/// As much of the beginning of a gzipped document as can be inflated from its first bytes, up to `len_max`.
pub(crate) fn peek(first_bytes: &[u8], len_max: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    // The input is cut, so an error at its end is expected; what came before it counts.
    let _cut = MultiGzDecoder::new(first_bytes).take(len_max as u64).read_to_end(&mut plain);
    plain
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_document_at_the_limit_inflates_and_one_past_it_does_not() {
        assert_eq!(inflate(&gzip(&[7; 1000]), 1000), Ok(vec![7; 1000]));
        assert_eq!(inflate(&gzip(&[7; 1001]), 1000), Err(SubjectError::TooLong { len_max: 1000 }));
    }

    #[test]
    fn a_cut_document_says_how_far_it_could_be_inflated() {
        let mut sealed = gzip(&(0..=255).cycle().take(100_000).collect::<Vec<u8>>());
        sealed.truncate(sealed.len() - 9);
        assert!(matches!(inflate(&sealed, 200_000), Err(SubjectError::Gzip { inflated }) if inflated <= 100_000));
        assert_eq!(inflate(b"no gzip", 100), Err(SubjectError::Gzip { inflated: 0 }));
    }

    #[test]
    fn members_one_after_the_other_are_one_document() {
        assert_eq!(inflate(&[gzip(b"one "), gzip(b"two")].concat(), 100).as_deref(), Ok(&b"one two"[..]));
    }
}
