//! Keeps sealed content and the ledger on disk.
//!
//! What is written goes to append-only segment files whose every byte is under a checksum; [`Store::sync`] makes it
//! durable, and many threads share one `fdatasync`. An index (sled) says where the newest record of each key lies. It
//! holds nothing that a scan of the segments would not bring back, and is trusted only with the digest that a clean
//! close left behind.
//!
//! ```text
//! <dir>/lock                     held while the store is open; the process id
//! <dir>/format                   version and salt of the store
//! <dir>/clean                    written by a clean close, removed by the next open
//! <dir>/synced                   how much of the last segment is known to be durable
//! <dir>/segments/0000000001.seg  records, one after the other
//! <dir>/index/1/                 sled
//! <dir>/wal                      what the consensus engine took in at this height, and its safety state
//! <dir>/safety                   the other copy of the safety state
//! ```
//!
//! The last two are a [`Wal`]'s, which is opened apart from the store.
//!
//! # What holds after a crash
//! - A record whose `sync` returned `Ok` is there, and so is every record appended before it.
//! - A record that was only `put` may be there or not, but never in part.
//! - A write that failed is rolled back; it may reappear whole after a power loss, as any write that was not synced.
//! - After a failed `fsync` nobody can tell what reached the disk, and a second one would say "fine" about pages that
//!   the kernel has already given up. So no `fsync` is tried twice: that `sync` fails, the segment is not written to
//!   again, and what followed its last good sync is read back, verified, and written anew to the next segment, whose
//!   head says how much of the one before counts. Only there can it become durable and be acknowledged. If it cannot be
//!   read back, the store refuses to write or to acknowledge anything until it is opened again.
//! - Bytes that cannot be verified are never returned and never deleted, but for a tail behind the last good record
//!   that no sync is known to have covered.

mod config;
mod disk;
mod error;
mod files;
mod index;
mod item;
mod marks;
mod record;
mod segment;
mod store;
mod wal;
mod walk;

pub use config::{Config, SEGMENT_LEN_MAX, SEGMENT_LEN_MIN};
pub use disk::bulk;
#[cfg(any(test, feature = "faulty"))]
pub use disk::faulty::{Faults, FaultyDisk};
pub use disk::os::OsDisk;
pub use disk::{Disk, DiskFile, LockError, Open};
pub use error::{OpenError, ReadError, WalError, WriteError};
pub use item::{BODY_LEN_MAX, Damage, Item, KEY_LEN_MAX, Kind, META_LEN_MAX, Part, Position, Usage};
pub use record::BLOCK_LEN;
pub use store::Store;
pub use store::compact::Compacted;
pub use store::open::{DAMAGE_REPORTED_MAX, Opening, Rebuilt, Torn, is_in_use};
pub use store::read::Keys;
pub use store::scrub::{Scrub, Scrubbed};
pub use wal::{FRAME_LEN_MAX, Recovered, SAFETY_LEN_MAX, WAL_LEN_MAX, Wal};
