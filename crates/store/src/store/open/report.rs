//! What opening a store found, for the operator and for repair.

use std::path::Path;

use crate::item::{Damage, Kind, Part};

/// Damaged or torn items that are described; more are only counted.
pub const DAMAGE_REPORTED_MAX: usize = 1024;
/// What opening a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// Why the index was made anew, if it was.
    pub rebuilt: Option<Rebuilt>,
    /// What does not verify; at most [`DAMAGE_REPORTED_MAX`] of it. After a clean close only `scrub` looks.
    pub damage: Vec<Damage>,
    /// How much does not verify.
    pub damage_count: u64,
    /// What was torn by a crash; at most [`DAMAGE_REPORTED_MAX`] of it. No sync is known to have covered it.
    pub torn: Vec<Torn>,
    /// Segments that were there at the last clean close and are not now.
    pub missing: Vec<u64>,
}

/// Why an index was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebuilt {
    /// The store was not closed cleanly.
    NotClosed,
    /// The segments are not those the store was closed with.
    SegmentsDiffer,
    /// The index is not the one the store was closed with, or does not open.
    IndexDiffers,
}

/// A torn record or stretch, cut off or closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Number of the segment.
    pub segment: u64,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
    /// Whose it was, as far as that can be told.
    pub item: Option<(Kind, Vec<u8>)>,
}

impl Opening {
    pub(super) fn damaged(&mut self, segment: u64, offset: u64, len: u64, part: Part, item: Option<(Kind, Vec<u8>)>) {
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_REPORTED_MAX {
            self.damage.push(Damage { segment, offset, len, part, item });
        }
    }

    pub(super) fn torn(&mut self, torn: Torn) {
        if self.torn.len() < DAMAGE_REPORTED_MAX {
            self.torn.push(torn);
        }
    }

    pub(super) fn tell(&self, dir: &Path) {
        let dir = dir.display();
        if let Some(reason) = self.rebuilt {
            tracing::info!(%dir, ?reason, "the index was rebuilt");
        }
        for Torn { segment, offset, len, .. } in &self.torn {
            tracing::warn!(%dir, segment, offset, len, "what a crash tore is cut off or closed");
        }
        if self.damage_count > 0 {
            tracing::error!(%dir, count = self.damage_count, "stored bytes are damaged");
        }
        if !self.missing.is_empty() {
            tracing::error!(%dir, segments = ?self.missing, "segments are missing");
        }
    }
}
