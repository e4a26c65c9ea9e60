//! Says who may read a pack, and with which key.
//!
//! Today a pack is sealed to whole organisations: its catalog key is derived by its author, and wrapped once for every
//! other reader. All of that stands behind the narrow trait [`Sealing`], so that folder keys, epochs and release halves
//! can take its place without a change to those who seal and open packs.

mod organisation;
mod readers;

use bithealth_envelope::CatalogKey;

pub use organisation::{GrantError, NotGranted, OrganisationSealing};
pub use readers::{READERS_MAX, Readers, ReadersError};

/// How the catalog key of a pack comes to those who may read it.
pub trait Sealing {
    /// The key of the catalog of a pack of ours with this salt: the same whenever it is asked for.
    fn catalog_key(&self, salt: &[u8; 32]) -> CatalogKey;

    /// The key, wrapped for each reader: what the author's log publishes beside the pack.
    ///
    /// # Errors
    /// [`GrantError`] names the reader it cannot be wrapped for.
    fn wraps(&self, salt: &[u8; 32], key: &CatalogKey) -> Result<Vec<Vec<u8>>, GrantError>;

    /// The key of the catalog of somebody's pack, from what its author published.
    ///
    /// `author_is_ours` says whether the author's node is one of our organisation, as the ledger knows it.
    ///
    /// # Errors
    /// [`NotGranted`] if the pack is sealed to others only.
    fn open(&self, salt: &[u8; 32], author_is_ours: bool, wraps: &[impl AsRef<[u8]>])
    -> Result<CatalogKey, NotGranted>;
}
