//! What a faulty disk remembers: what readers see, what a power loss leaves, and what is between the two.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::Faults;

/// What reaches the plate as one.
const PAGE_LEN: u64 = 512;
pub(super) struct World {
    pub(super) random: u64,
    pub(super) faults: Faults,
    pub(super) capacity: u64,
    pub(super) boot: u64,
    pub(super) next_id: u64,
    pub(super) contents: HashMap<u64, Content>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) kept_names: BTreeMap<PathBuf, u64>,
    pub(super) renaming: Vec<Naming>,
    pub(super) locks: BTreeMap<PathBuf, u32>,
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) now: Vec<u8>,
    pub(super) kept: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Cut(u64),
}

#[derive(Clone)]
pub(super) enum Naming {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}
impl World {
    /// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
    pub(super) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub(super) fn happens(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|id| self.contents[id].now.len() as u64).sum()
    }

    pub(super) fn content(&mut self, id: u64) -> &mut Content {
        self.contents.get_mut(&id).expect("contents outlive handles")
    }

    /// What of `pending` reaches the plate if nobody waits for it.
    pub(super) fn some_of(&mut self, pending: Vec<Change>) -> Vec<Change> {
        let style = self.below(4);
        let prefix = self.below(pending.len() as u64 + 1) as usize;
        let count = pending.len();
        let mut reached = Vec::new();
        for (i, change) in pending.into_iter().enumerate() {
            match (style, change) {
                (0, _) => {}
                (1, change) if i < prefix => reached.push(change),
                (1, Change::Write { at, bytes }) if i == prefix && i + 1 == count => {
                    let torn = self.below(bytes.len() as u64 + 1) as usize;
                    reached.push(Change::Write { at, bytes: bytes[..torn].to_vec() });
                }
                (1, _) => {}
                (_, Change::Cut(len)) => {
                    if self.below(2) == 0 {
                        reached.push(Change::Cut(len));
                    }
                }
                (_, Change::Write { at, bytes }) => {
                    let mut start = 0;
                    while start < bytes.len() {
                        let to_page_end = PAGE_LEN - (at + start as u64) % PAGE_LEN;
                        let end = bytes.len().min(start + to_page_end as usize);
                        if self.below(4) > 0 {
                            reached.push(Change::Write { at: at + start as u64, bytes: bytes[start..end].to_vec() });
                        }
                        start = end;
                    }
                }
            }
        }
        reached
    }

    pub(super) fn lose_unsynced(&mut self) {
        let mut ids: Vec<u64> = self.contents.keys().copied().collect();
        ids.sort_unstable(); // so that the same seed loses the same
        for id in ids {
            let pending = std::mem::take(&mut self.content(id).pending);
            let reached = self.some_of(pending);
            let content = self.content(id);
            reached.iter().for_each(|change| change.apply(&mut content.kept));
            content.now = content.kept.clone();
        }
        let renaming = std::mem::take(&mut self.renaming);
        let reached = self.below(renaming.len() as u64 + 1) as usize;
        renaming[..reached].iter().for_each(|naming| naming.apply(&mut self.kept_names));
        self.names = self.kept_names.clone();
    }
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Cut(len) => bytes.resize(*len as usize, 0),
            Self::Write { at, bytes: new } => {
                let end = *at as usize + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at as usize..end].copy_from_slice(new);
            }
        }
    }
}

impl Naming {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Add(path, id) => {
                names.insert(path.clone(), *id);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }

    pub(super) fn is_in(&self, dir: &Path) -> bool {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename(path, _)) = self;
        path.parent() == Some(dir)
    }
}
