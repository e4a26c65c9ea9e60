//! A disk in memory that fails as real ones do, from a seed.
//!
//! It keeps apart what a reader sees now (the page cache) and what a power loss leaves. Between two syncs of a file any
//! of its written pages may reach the plate, in any order, whole or torn; a name is durable once its folder was synced.

mod world;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::world::{Change, Content, Naming, World};
use super::{Disk, DiskFile, LockError, Open};

/// How often each operation fails, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write that writes nothing and fails.
    pub write_error: u32,
    /// A write that writes some of its bytes and fails.
    pub short_write: u32,
    /// A sync that fails; what was written since the last one is kept in part, and later syncs do not bring it back.
    pub sync_error: u32,
    /// Of the syncs that fail, those after which the page cache is dropped too: readers see what is on the plate.
    pub sync_error_forgets: u32,
    /// A read that fails.
    pub read_error: u32,
    /// A truncation that fails.
    pub truncate_error: u32,
}
/// A disk in memory, seeded. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    world: Arc<Mutex<World>>,
    boot: u64,
}
struct FaultyFile {
    world: Arc<Mutex<World>>,
    boot: u64,
    id: u64,
}

struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl FaultyDisk {
    /// An empty disk without faults or bounds.
    pub fn new(seed: u64) -> Self {
        let world = World {
            random: seed,
            faults: Faults::default(),
            capacity: u64::MAX,
            boot: 0,
            next_id: 0,
            contents: HashMap::new(),
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            renaming: Vec::new(),
            locks: BTreeMap::new(),
        };
        Self { world: Arc::new(Mutex::new(world)), boot: 0 }
    }

    /// From now on operations fail as often as `faults` says.
    pub fn set_faults(&self, faults: Faults) {
        self.lock_world().faults = faults;
    }

    /// From now on all files together have at most `capacity` bytes.
    pub fn set_capacity(&self, capacity: u64) {
        self.lock_world().capacity = capacity;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.lock_world().used()
    }

    /// The power goes: some of what was not synced is lost. Everything opened before fails from now on; go on with the
    /// disk this returns.
    pub fn crash(&self) -> Self {
        self.restart(World::lose_unsynced)
    }

    /// The process is killed: what it wrote stays, its handles and locks do not. Go on with the disk this returns.
    pub fn kill(&self) -> Self {
        self.restart(|_| ())
    }

    /// Paths of all files and their lengths.
    pub fn paths(&self) -> Vec<(PathBuf, u64)> {
        let world = self.lock_world();
        world.names.iter().map(|(path, id)| (path.clone(), world.contents[id].now.len() as u64)).collect()
    }

    /// Turns over one bit of a stored file; `bit` counts from its first byte's lowest bit.
    pub fn flip(&self, path: &Path, bit: u64) {
        let mut world = self.lock_world();
        let id = world.names[path];
        let content = world.contents.get_mut(&id).expect("every name has a content");
        for bytes in [&mut content.now, &mut content.kept] {
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn restart(&self, happens: impl FnOnce(&mut World)) -> Self {
        let mut world = self.lock_world();
        happens(&mut world);
        world.boot += 1;
        world.locks.clear();
        Self { world: self.world.clone(), boot: world.boot }
    }

    fn lock_world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn running(&self) -> io::Result<MutexGuard<'_, World>> {
        running(&self.world, self.boot)
    }
}

fn running(world: &Mutex<World>, boot: u64) -> io::Result<MutexGuard<'_, World>> {
    let world = world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if world.boot == boot { Ok(world) } else { Err(eio("the power was lost")) }
}

fn eio(what: &str) -> io::Error {
    io::Error::other(format!("input/output error: {what}"))
}
impl Disk for FaultyDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.running().map(drop)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.running()?;
        let id = match (world.names.get(path).copied(), how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(id), _) => id,
            (None, Open::Read | Open::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::New) => {
                world.next_id += 1;
                let id = world.next_id;
                world.contents.insert(id, Content::default());
                world.names.insert(path.to_path_buf(), id);
                world.renaming.push(Naming::Add(path.to_path_buf(), id));
                id
            }
        };
        Ok(Arc::new(FaultyFile { world: self.world.clone(), boot: self.boot, id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.running()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let naming = Naming::Rename(from.to_path_buf(), to.to_path_buf());
        naming.apply(&mut world.names);
        world.renaming.push(naming);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.running()?;
        if world.names.remove(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.renaming.push(Naming::Remove(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.running()?;
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.running()?;
        let rate = world.faults.sync_error;
        if world.happens(rate) {
            return Err(eio("sync of a folder"));
        }
        let (here, elsewhere) = std::mem::take(&mut world.renaming).into_iter().partition(|naming| naming.is_in(dir));
        world.renaming = elsewhere;
        let here: Vec<Naming> = here;
        here.iter().for_each(|naming| naming.apply(&mut world.kept_names));
        Ok(())
    }

    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        let world = self.running()?;
        Ok(world.capacity.saturating_sub(world.used()))
    }

    fn lock(&self, path: &Path, pid: u32) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut world = self.running()?;
        if let Some(pid) = world.locks.get(path) {
            return Err(LockError::Held { pid: Some(*pid) });
        }
        world.locks.insert(path.to_path_buf(), pid);
        Ok(Box::new(FaultyLock { disk: self.clone(), path: path.to_path_buf() }))
    }
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        if let Ok(mut world) = self.disk.running() {
            world.locks.remove(&self.path);
        }
    }
}

impl FaultyFile {
    fn running(&self) -> io::Result<MutexGuard<'_, World>> {
        running(&self.world, self.boot)
    }
}

impl DiskFile for FaultyFile {
    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.running()?.content(self.id).now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.running()?;
        let rate = world.faults.read_error;
        if world.happens(rate) {
            return Err(eio("read"));
        }
        let now = &world.content(self.id).now;
        let start = (offset as usize).min(now.len());
        let len = buffer.len().min(now.len() - start);
        buffer[..len].copy_from_slice(&now[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut world = self.running()?;
        let mut bytes = parts.concat();
        let mut outcome = Ok(());
        let Faults { write_error, short_write, .. } = world.faults;
        if world.happens(write_error) {
            return Err(eio("write"));
        }
        if world.happens(short_write) {
            let len = world.below(bytes.len() as u64) as usize;
            bytes.truncate(len);
            outcome = Err(eio("short write"));
        }
        let free = world.capacity.saturating_sub(world.used());
        let room = (world.content(self.id).now.len() as u64 + free).saturating_sub(offset);
        if bytes.len() as u64 > room {
            bytes.truncate(room as usize);
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        let content = world.content(self.id);
        let change = Change::Write { at: offset, bytes };
        change.apply(&mut content.now);
        content.pending.push(change);
        outcome
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut world = self.running()?;
        let rate = world.faults.truncate_error;
        if world.happens(rate) {
            return Err(eio("truncate"));
        }
        let content = world.content(self.id);
        Change::Cut(len).apply(&mut content.now);
        content.pending.push(Change::Cut(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.running()?;
        let Faults { sync_error, sync_error_forgets, .. } = world.faults;
        let fails = world.happens(sync_error);
        let forgets = fails && world.happens(sync_error_forgets);
        let mut pending = std::mem::take(&mut world.content(self.id).pending);
        if fails {
            pending = world.some_of(pending);
        }
        let content = world.content(self.id);
        pending.iter().for_each(|change| change.apply(&mut content.kept));
        if forgets {
            content.now = content.kept.clone();
        }
        if fails { Err(eio("sync")) } else { Ok(()) }
    }
}
