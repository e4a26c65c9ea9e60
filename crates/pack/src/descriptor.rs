//! What everybody can check of a pack.

use bithealth_proto::v1::PackDescriptor;
use bithealth_types::{Code, Digest, NotACode, PACK_LEN_MAX};

use crate::catalog::CATALOG_LEN_MIN;
use crate::padme::padme;

/// Why a descriptor describes no pack.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The salt has a wrong length.
    #[error("a pack salt of {got} bytes, 32 are due")]
    Salt {
        /// Bytes that came.
        got: usize,
    },
    /// No erasure code.
    #[error(transparent)]
    Code(#[from] NotACode),
    /// Longer than a pack may be.
    #[error("a pack of {got} bytes, at most {max} are accepted")]
    TooLong {
        /// Bytes it has.
        got: u64,
        /// [`PACK_LEN_MAX`].
        max: u64,
    },
    /// The length tells more than a Padme length would.
    #[error("a pack of {got} bytes, which is no Padme length: {want} is the next")]
    NotPadded {
        /// Bytes it has.
        got: u64,
        /// The next Padme length.
        want: u64,
    },
    /// The catalog has no possible length.
    #[error("a catalog of {got} bytes in a pack of {len}, at least {min} are due")]
    Catalog {
        /// Bytes it has.
        got: u64,
        /// Bytes of the pack.
        len: u64,
        /// [`CATALOG_LEN_MIN`].
        min: u64,
    },
    /// Not one root for each shard.
    #[error("{got} shard roots, the code has {want} shards")]
    RootCount {
        /// Roots that came.
        got: usize,
        /// Shards of the code.
        want: usize,
    },
    /// A root that is no digest.
    #[error("the root of shard {shard} has {got} bytes, 32 are due")]
    RootLength {
        /// Which shard.
        shard: usize,
        /// Bytes that came.
        got: usize,
    },
}

/// Checks a descriptor, whoever sent it; gives its code.
///
/// # Errors
/// [`DescriptorError`] names the first wrong field.
pub fn check_descriptor(descriptor: &PackDescriptor) -> Result<Code, DescriptorError> {
    let PackDescriptor { salt, len, k, n, roots, catalog_len } = descriptor;
    if salt.len() != 32 {
        return Err(DescriptorError::Salt { got: salt.len() });
    }
    let code = Code::new(*k, *n)?;
    let max = PACK_LEN_MAX as u64;
    if *len > max {
        return Err(DescriptorError::TooLong { got: *len, max });
    }
    if padme(*len) != *len {
        return Err(DescriptorError::NotPadded { got: *len, want: padme(*len) });
    }
    let min = CATALOG_LEN_MIN as u64;
    if *catalog_len < min || catalog_len > len {
        return Err(DescriptorError::Catalog { got: *catalog_len, len: *len, min });
    }
    let want = usize::from(code.n());
    if roots.len() != want {
        return Err(DescriptorError::RootCount { got: roots.len(), want });
    }
    if let Some(shard) = roots.iter().position(|root| root.len() != Digest::LEN) {
        return Err(DescriptorError::RootLength { shard, got: roots[shard].len() });
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn descriptor() -> PackDescriptor {
        PackDescriptor {
            salt: Bytes::from_static(&[7; 32]),
            len: 1 << 20,
            k: 4,
            n: 9,
            roots: vec![Bytes::from_static(&[1; 32]); 9],
            catalog_len: 900,
        }
    }

    fn with(change: impl Fn(&mut PackDescriptor)) -> Result<Code, DescriptorError> {
        let mut descriptor = descriptor();
        change(&mut descriptor);
        check_descriptor(&descriptor)
    }

    #[test]
    fn a_right_descriptor_gives_its_code() {
        assert_eq!(check_descriptor(&descriptor()), Ok(Code::new(4, 9).unwrap()));
        assert!(with(|d| d.len = PACK_LEN_MAX as u64).is_ok());
        assert!(with(|d| d.catalog_len = 1 << 20).is_ok());
        assert!(with(|d| d.catalog_len = CATALOG_LEN_MIN as u64).is_ok());
    }

    #[test]
    fn every_wrong_field_is_refused() {
        assert_eq!(with(|d| d.salt = Bytes::from_static(&[7; 31])), Err(DescriptorError::Salt { got: 31 }));
        assert_eq!(with(|d| d.k = 0), Err(DescriptorError::Code(NotACode { k: 0, n: 9 })));
        assert_eq!(with(|d| d.k = 10), Err(DescriptorError::Code(NotACode { k: 10, n: 9 })));
        let max = PACK_LEN_MAX as u64;
        assert_eq!(with(|d| d.len = max + 1), Err(DescriptorError::TooLong { got: max + 1, max }));
        let want = (1 << 20) + (1 << 15);
        assert_eq!(with(|d| d.len += 1), Err(DescriptorError::NotPadded { got: (1 << 20) + 1, want }));
        let min = CATALOG_LEN_MIN as u64;
        let catalog = |got, len| Err(DescriptorError::Catalog { got, len, min });
        assert_eq!(with(|d| d.catalog_len = min - 1), catalog(min - 1, 1 << 20));
        assert_eq!(with(|d| d.catalog_len = (1 << 20) + 1), catalog((1 << 20) + 1, 1 << 20));
        assert_eq!(with(|d| d.len = 0), catalog(900, 0));
        assert_eq!(with(|d| d.n = 10), Err(DescriptorError::RootCount { got: 9, want: 10 }));
        let short = Bytes::from_static(&[1; 33]);
        assert_eq!(with(|d| d.roots[8] = short.clone()), Err(DescriptorError::RootLength { shard: 8, got: 33 }));
    }
}
