//! Which records this node can open, and where they lie: a small index in memory over the sealed catalogs of packs.
//!
//! Rows stay sealed in their packs. In memory a record costs an id, two positions and two hashes (about 100 bytes), so
//! that a million of them fit; the rows themselves are opened when asked for, a few catalogs at a time. Nothing here is
//! stored: the shelf is filled again from the packs at each start.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, RwLock};

use bithealth_proto::v1::{self, CatalogRow};
use bithealth_types::{CHUNK_LEN, FolderId, NodeId, PackId, RecordId};

/// Catalogs kept open at a time; of a full pack of small records one takes about 4 MiB.
const CATALOGS_OPEN_MAX: usize = 8;

/// The salt of a pack: its name before it is coded.
pub type Salt = [u8; 32];

/// Whose pack it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Being gathered; its rows are in memory.
    Open,
    /// Our organisation's: the whole pack is in our store.
    Own,
    /// Another organisation's that was sealed for ours.
    Granted {
        /// The pack.
        pack: PackId,
        /// The node that wrote it.
        author: NodeId,
    },
}

/// A record that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The pack its row is in.
    pub salt: Salt,
    /// Whose pack that is.
    pub source: Source,
    /// Its row.
    pub row: CatalogRow,
}

/// Opens the sealed catalog of a pack.
pub trait Catalogs: Send + Sync {
    /// The catalog of the pack named `salt`.
    fn catalog(&self, salt: &Salt, source: &Source) -> anyhow::Result<v1::Catalog>;
}

/// The records this node can open.
pub struct Shelf {
    catalogs: Box<dyn Catalogs>,
    index: RwLock<Index>,
    recent: Mutex<VecDeque<(Salt, Arc<Vec<CatalogRow>>)>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Index {
    packs: Vec<Option<Shelved>>,
    by_salt: HashMap<Salt, u32>,
    records: HashMap<RecordId, Slot>,
    /// Where else a record lies: while small packs are gathered it is in two.
    also: HashMap<RecordId, Vec<Slot>>,
    tags: HashMap<[u8; 16], RecordId>,
    /// Our latest record of several chunks of each name, by a hash of the name.
    large: HashMap<u64, RecordId>,
    patients: BTreeSet<(u64, Slot)>,
    heads: HashMap<FolderId, Salt>,
    own: Totals,
}

struct Shelved {
    salt: Salt,
    source: Source,
    open_rows: Vec<CatalogRow>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    pack: u32,
    row: u32,
}

/// How much our organisation's own records are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Their plaintext.
    pub bytes: u64,
}

/// Which records to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this patient, as given when they were put.
    pub patient: Option<String>,
    /// In this category.
    pub category: Option<String>,
    /// Only our organisation's own.
    pub own_only: bool,
}

impl Shelf {
    /// An empty shelf over `catalogs`.
    pub fn new(catalogs: Box<dyn Catalogs>) -> Self {
        Self {
            catalogs,
            index: RwLock::default(),
            recent: Mutex::new(VecDeque::with_capacity(CATALOGS_OPEN_MAX)),
            hasher: RandomState::new(),
        }
    }

    /// Puts the rows of a pack on the shelf; more rows of an open one may follow.
    pub fn add(&self, salt: Salt, source: Source, rows: &[CatalogRow]) {
        let mut index = self.index.write().expect("no holder panics");
        let Index { packs, by_salt, .. } = &mut *index;
        let pack = *by_salt.entry(salt).or_insert_with(|| {
            packs.push(Some(Shelved { salt, source, open_rows: Vec::new() }));
            packs.len() as u32 - 1
        });
        let shelved = index.packs[pack as usize].as_mut().expect("by_salt names only packs that are there");
        let first = shelved.open_rows.len() as u32;
        if source == Source::Open {
            shelved.open_rows.extend_from_slice(rows);
        }
        for (row, at) in rows.iter().zip(first..) {
            index.add_row(row, Slot { pack, row: at }, salt, source, &self.hasher);
        }
    }

    /// The open pack `salt` is closed and in the store: its rows need not stay in memory.
    pub fn close(&self, salt: &Salt) {
        let mut index = self.index.write().expect("no holder panics");
        let Some(&pack) = index.by_salt.get(salt) else { return };
        let shelved = index.packs[pack as usize].as_mut().expect("by_salt names only packs that are there");
        shelved.source = Source::Own;
        shelved.open_rows = Vec::new();
    }

    /// Takes a pack off the shelf whose records lie in another one now, or nowhere.
    pub fn remove(&self, salt: &Salt, rows: &[CatalogRow]) {
        let mut index = self.index.write().expect("no holder panics");
        let Some(pack) = index.by_salt.remove(salt) else { return };
        let own = !matches!(index.packs[pack as usize], Some(Shelved { source: Source::Granted { .. }, .. }));
        index.packs[pack as usize] = None;
        for (row, at) in rows.iter().zip(0..) {
            index.remove_row(row, Slot { pack, row: at }, own, &self.hasher);
        }
        self.recent.lock().expect("no holder panics").retain(|(of, _)| of != salt);
    }

    /// Whether the pack is on the shelf.
    pub fn has(&self, salt: &Salt) -> bool {
        self.index.read().expect("no holder panics").by_salt.contains_key(salt)
    }

    /// The record with this id.
    ///
    /// # Errors
    /// If the catalog it is in cannot be read or opened.
    pub fn find(&self, record: &RecordId) -> anyhow::Result<Option<Found>> {
        let index = self.index.read().expect("no holder panics");
        let Some(&slot) = index.records.get(record) else { return Ok(None) };
        drop(index);
        Ok(Some(self.at(slot)?))
    }

    /// The pack a record is in.
    pub fn salt_of(&self, record: &RecordId) -> Option<Salt> {
        let index = self.index.read().expect("no holder panics");
        let slot = index.records.get(record)?;
        index.packs[slot.pack as usize].as_ref().map(|shelved| shelved.salt)
    }

    /// The record with these contents in this folder, if it was put before.
    pub fn unchanged(&self, tag: &[u8; 16]) -> Option<RecordId> {
        self.index.read().expect("no holder panics").tags.get(tag).copied()
    }

    /// Our latest record of several chunks with this name, or one whose name has the same hash.
    pub fn large_of_name(&self, name: &str) -> Option<RecordId> {
        self.index.read().expect("no holder panics").large.get(&self.hasher.hash_one(name)).copied()
    }

    /// The large record of this name cannot be read: it is no longer compared with.
    pub fn forget_large(&self, name: &str) {
        self.index.write().expect("no holder panics").large.remove(&self.hasher.hash_one(name));
    }

    /// The pack with our latest records of a folder.
    pub fn head(&self, folder: &FolderId) -> Option<Salt> {
        self.index.read().expect("no holder panics").heads.get(folder).copied()
    }

    /// Records on the shelf.
    pub fn count(&self) -> u64 {
        self.index.read().expect("no holder panics").records.len() as u64
    }

    /// Our own records in numbers.
    pub fn totals(&self) -> Totals {
        self.index.read().expect("no holder panics").own
    }

    /// Hands the records that match to `each`, pack by pack, until it says false.
    ///
    /// # Errors
    /// If a catalog cannot be read or opened.
    pub fn list(&self, filter: &Filter, mut each: impl FnMut(Found) -> bool) -> anyhow::Result<()> {
        for (slot, whole) in self.candidates(filter) {
            let (shelved, rows) = self.rows(slot.pack)?;
            let Some((salt, source)) = shelved else { continue };
            let range = if whole { 0..rows.len() } else { slot.row as usize..slot.row as usize + 1 };
            for (row, at) in rows[range.clone()].iter().zip(range) {
                let here = Slot { pack: slot.pack, row: at as u32 };
                if !filter.matches(row, &source) || !self.is_current(row, here) {
                    continue;
                }
                if !each(Found { salt, source, row: row.clone() }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where matching rows may be: single rows of the patient, or whole packs.
    fn candidates(&self, filter: &Filter) -> Vec<(Slot, bool)> {
        let index = self.index.read().expect("no holder panics");
        let whole_packs = || (0..index.packs.len() as u32).map(|pack| (Slot { pack, row: 0 }, true)).collect();
        let Some(patient) = &filter.patient else { return whole_packs() };
        let hash = self.hasher.hash_one(patient.as_str());
        let first = (hash, Slot { pack: 0, row: 0 });
        let last = (hash, Slot { pack: u32::MAX, row: u32::MAX });
        index.patients.range(first..=last).map(|&(_, slot)| (slot, false)).collect()
    }

    /// Whether a record is to be read here: while small packs are gathered it lies in two.
    fn is_current(&self, row: &CatalogRow, here: Slot) -> bool {
        let index = self.index.read().expect("no holder panics");
        record_id(row).is_some_and(|record| index.records.get(&record) == Some(&here))
    }

    fn at(&self, slot: Slot) -> anyhow::Result<Found> {
        let (shelved, rows) = self.rows(slot.pack)?;
        let (salt, source) = shelved.ok_or_else(|| anyhow::anyhow!("the record is being moved; ask again"))?;
        Ok(Found { salt, source, row: rows[slot.row as usize].clone() })
    }

    /// The whole catalog of a pack that is closed.
    ///
    /// # Errors
    /// If it cannot be read or opened, as that of an open pack.
    pub fn catalog(&self, salt: &Salt, source: &Source) -> anyhow::Result<v1::Catalog> {
        self.catalogs.catalog(salt, source)
    }

    #[allow(clippy::type_complexity)] // what a pack is, and its rows
    fn rows(&self, pack: u32) -> anyhow::Result<(Option<(Salt, Source)>, Arc<Vec<CatalogRow>>)> {
        let index = self.index.read().expect("no holder panics");
        let Some(shelved) = index.packs.get(pack as usize).and_then(Option::as_ref) else {
            return Ok((None, Arc::default()));
        };
        let (salt, source) = (shelved.salt, shelved.source);
        if source == Source::Open {
            return Ok((Some((salt, source)), Arc::new(shelved.open_rows.clone())));
        }
        drop(index);
        Ok((Some((salt, source)), self.sealed_rows(&salt, &source)?))
    }

    fn sealed_rows(&self, salt: &Salt, source: &Source) -> anyhow::Result<Arc<Vec<CatalogRow>>> {
        let mut recent = self.recent.lock().expect("no holder panics");
        if let Some(at) = recent.iter().position(|(of, _)| of == salt) {
            let entry = recent.remove(at).expect("just found there");
            recent.push_front(entry.clone());
            return Ok(entry.1);
        }
        drop(recent);
        let rows = Arc::new(self.catalog(salt, source)?.rows);
        let mut recent = self.recent.lock().expect("no holder panics");
        recent.truncate(CATALOGS_OPEN_MAX - 1);
        recent.push_front((*salt, rows.clone()));
        Ok(rows)
    }
}

impl Filter {
    fn matches(&self, row: &v1::CatalogRow, source: &Source) -> bool {
        self.patient.as_ref().is_none_or(|patient| *patient == row.patient)
            && self.category.as_ref().is_none_or(|category| *category == row.category)
            && !(self.own_only && matches!(source, Source::Granted { .. }))
    }
}

impl Index {
    fn add_row(&mut self, row: &CatalogRow, slot: Slot, salt: Salt, source: Source, hasher: &RandomState) {
        let (Some(record), Some(folder)) = (record_id(row), folder_id(row)) else { return };
        let before = self.records.insert(record, slot);
        if let Some(before) = before.filter(|before| *before != slot) {
            self.also.entry(record).or_default().push(before);
        }
        self.patients.insert((hasher.hash_one(row.patient.as_str()), slot));
        if matches!(source, Source::Granted { .. }) {
            return;
        }
        if before.is_none() {
            self.own.records += 1;
            self.own.bytes += row.plaintext_len;
        }
        self.heads.insert(folder, salt);
        if let Ok(tag) = row.content_tag.as_ref().try_into() {
            self.tags.insert(tag, record);
        }
        if row.plaintext_len > CHUNK_LEN as u64 {
            self.large.insert(hasher.hash_one(row.name.as_str()), record);
        }
    }

    fn remove_row(&mut self, row: &CatalogRow, slot: Slot, own: bool, hasher: &RandomState) {
        let Some(record) = record_id(row) else { return };
        self.patients.remove(&(hasher.hash_one(row.patient.as_str()), slot));
        let mut others = self.also.remove(&record).unwrap_or_default();
        others.retain(|other| *other != slot);
        let is_current = self.records.get(&record) == Some(&slot);
        let goes = is_current && others.is_empty();
        if goes {
            self.records.remove(&record);
        } else if is_current && let Some(other) = others.pop() {
            self.records.insert(record, other);
        }
        if !others.is_empty() {
            self.also.insert(record, others);
        }
        if own && goes {
            self.own.records -= 1;
            self.own.bytes -= row.plaintext_len;
        }
    }
}

/// The id in a row; none in one that is malformed.
pub fn record_id(row: &CatalogRow) -> Option<RecordId> {
    RecordId::try_from(row.record.as_ref()).ok()
}

/// The folder in a row; none in one that is malformed.
pub fn folder_id(row: &CatalogRow) -> Option<FolderId> {
    FolderId::try_from(row.folder.as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const PACK: Salt = [1; 32];
    const OTHER: Salt = [2; 32];

    struct Fixed(HashMap<Salt, Vec<CatalogRow>>);

    impl Catalogs for Fixed {
        fn catalog(&self, salt: &Salt, _: &Source) -> anyhow::Result<v1::Catalog> {
            let rows = self.0.get(salt).cloned().ok_or_else(|| anyhow::anyhow!("no such pack"))?;
            Ok(v1::Catalog { rows, heads: Vec::new() })
        }
    }

    fn row(record: u8, patient: &str, category: &str) -> CatalogRow {
        CatalogRow {
            record: Bytes::copy_from_slice(&[record; 16]),
            folder: Bytes::copy_from_slice(&[record % 4; 16]),
            patient: patient.into(),
            category: category.into(),
            plaintext_len: 10,
            content_tag: Bytes::copy_from_slice(&[record; 16]),
            ..Default::default()
        }
    }

    fn shelf(sealed: &[(Salt, Vec<CatalogRow>)]) -> Shelf {
        Shelf::new(Box::new(Fixed(sealed.iter().cloned().collect())))
    }

    fn listed(shelf: &Shelf, filter: &Filter) -> Vec<u8> {
        let mut found = Vec::new();
        shelf
            .list(filter, |it| {
                found.push(it.row.record[0]);
                true
            })
            .unwrap();
        found
    }

    #[test]
    fn records_are_found_by_id_by_patient_and_by_category() {
        let rows = vec![row(1, "ann", "summary"), row(2, "bob", "imaging"), row(3, "ann", "imaging")];
        let shelf = shelf(&[(PACK, rows.clone())]);
        shelf.add(PACK, Source::Own, &rows);
        assert_eq!(shelf.find(&RecordId([2; 16])).unwrap().unwrap().row, rows[1]);
        assert!(shelf.find(&RecordId([9; 16])).unwrap().is_none());
        assert_eq!(listed(&shelf, &Filter { patient: Some("ann".into()), ..Default::default() }), [1, 3]);
        assert_eq!(listed(&shelf, &Filter { category: Some("imaging".into()), ..Default::default() }), [2, 3]);
        assert_eq!(shelf.totals(), Totals { records: 3, bytes: 30 });
    }

    #[test]
    fn rows_of_an_open_pack_are_found_before_and_after_it_is_closed() {
        let rows = vec![row(1, "ann", "summary"), row(2, "ann", "summary")];
        let shelf = shelf(&[(PACK, rows.clone())]);
        shelf.add(PACK, Source::Open, &rows[..1]);
        shelf.add(PACK, Source::Open, &rows[1..]);
        assert_eq!(shelf.find(&RecordId([2; 16])).unwrap().unwrap().source, Source::Open);
        shelf.close(&PACK);
        assert_eq!(shelf.find(&RecordId([2; 16])).unwrap().unwrap().source, Source::Own);
        assert_eq!(shelf.head(&FolderId([1; 16])), Some(PACK));
    }

    #[test]
    fn granted_records_are_no_contents_of_ours() {
        let rows = vec![row(1, "ann", "summary")];
        let source = Source::Granted { pack: PackId([7; 32]), author: NodeId([8; 32]) };
        let shelf = shelf(&[(PACK, rows.clone())]);
        shelf.add(PACK, source, &rows);
        assert_eq!(shelf.unchanged(&[1; 16]), None);
        assert_eq!(shelf.totals(), Totals::default());
        assert!(listed(&shelf, &Filter { own_only: true, ..Default::default() }).is_empty());
        assert_eq!(listed(&shelf, &Filter::default()), [1]);
    }

    #[test]
    fn a_record_that_moved_is_found_in_its_new_pack_only() {
        let rows = vec![row(1, "ann", "summary")];
        let shelf = shelf(&[(PACK, rows.clone()), (OTHER, rows.clone())]);
        shelf.add(PACK, Source::Own, &rows);
        shelf.add(OTHER, Source::Own, &rows);
        shelf.remove(&PACK, &rows);
        assert_eq!(shelf.find(&RecordId([1; 16])).unwrap().unwrap().salt, OTHER);
        assert_eq!(listed(&shelf, &Filter { patient: Some("ann".into()), ..Default::default() }), [1]);
        assert_eq!(shelf.totals(), Totals { records: 1, bytes: 10 });
    }

    #[test]
    fn a_record_in_several_packs_is_found_until_the_last_is_gone_whichever_came_first() {
        const THIRD: Salt = [3; 32];
        let rows = vec![row(1, "ann", "summary")];
        let packs = [PACK, OTHER, THIRD];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let shelf = shelf(&packs.map(|pack| (pack, rows.clone())));
            packs.iter().for_each(|pack| shelf.add(*pack, Source::Own, &rows));
            for (gone, pack) in order.iter().enumerate() {
                assert_eq!(listed(&shelf, &Filter::default()), [1], "{gone} of {order:?} are gone");
                assert_eq!(shelf.totals(), Totals { records: 1, bytes: 10 });
                shelf.remove(&packs[*pack], &rows);
            }
            assert!(shelf.find(&RecordId([1; 16])).unwrap().is_none());
            assert_eq!(shelf.totals(), Totals::default());
            assert!(shelf.index.read().unwrap().also.is_empty());
        }
    }
}
