//! Holders: what they have, how fast they are, and how they cheat.

use std::time::Duration;

use bithealth_exchange::{AuditInput, AuditedShard, Commitment};
use bithealth_merkle::{LeafTree, leaf_hash};
use bithealth_sim::Random;
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, PackId, ShardIndex};
use bytes::Bytes;

const HOUR_MS: u64 = 3_600_000;
const MIB: u64 = 1 << 20;

/// How a holder cheats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cheat {
    /// It has all it should.
    None,
    /// It lacks so many leaves of a hundred, says nothing of it, and commits to something else.
    LacksPercent(u32),
    /// It has the hashes of all leaves, and fetches those that are drawn.
    KeepsHashes,
    /// After so many audits it has nothing, and fetches all it is asked for over a line of so many bytes each second.
    FetchesAfter {
        /// Audits.
        audits: usize,
        /// Bytes each second.
        line: u64,
    },
    /// It is there, and answers nothing.
    NeverAnswers,
}

/// A node that should have one shard.
pub(crate) struct Holder {
    pub(crate) cheat: Cheat,
    leaves: Vec<Vec<u8>>,
    tree: LeafTree,
    /// Bytes each second that its disk gives on a usual day.
    disk: u64,
    round_trip_ms: u64,
    /// Bytes each second at which it sends.
    sends: u64,
    /// Until when it has something else to do, and how much slower that makes its disk.
    busy_until_ms: u64,
    busy_times: u64,
    /// Of a thousand audits so many end with the connection, or without an answer though it stands.
    lost_per_mille: u64,
    silent_per_mille: u64,
    /// What it lost, and until when it has not noticed or repaired it.
    damaged_until_ms: u64,
    pub(crate) audited: usize,
}

/// What a holder does with the first question.
pub(crate) enum Committed {
    After(Duration, Commitment, Vec<usize>),
    Lost { connected: bool },
    Silent,
}

impl Holder {
    /// An honest one: its disk gives 5 MB to 2 GB each second, its line is bad or good, and it has its bad days.
    pub(crate) fn honest(random: &mut Random) -> Self {
        Self {
            disk: (5 * MIB) << random.below(9),
            lost_per_mille: random.below(200),
            silent_per_mille: random.below(50),
            ..Self::new(random, 2, Cheat::None)
        }
    }

    /// One that cheats, with a disk that is fast where it has one, and a line that loses little.
    pub(crate) fn cheat(random: &mut Random, cheat: Cheat) -> Self {
        let leaves = if matches!(cheat, Cheat::LacksPercent(_)) { 200 } else { 2 };
        Self { disk: 400 * MIB, lost_per_mille: 20, silent_per_mille: 10, ..Self::new(random, leaves, cheat) }
    }

    fn new(random: &mut Random, leaf_count: usize, cheat: Cheat) -> Self {
        let leaves: Vec<Vec<u8>> = (0..leaf_count).map(|_| vec![random.below(256) as u8; LEAF_LEN]).collect();
        Self {
            cheat,
            tree: LeafTree::from_hashes(leaves.iter().map(|leaf| leaf_hash(leaf)).collect()),
            leaves,
            disk: 0,
            round_trip_ms: 1 + random.below(400),
            sends: MIB << random.below(3), // up to 4 MB/s, less than the line that is due of anybody
            busy_until_ms: 0,
            busy_times: 1,
            lost_per_mille: 0,
            silent_per_mille: 0,
            damaged_until_ms: 0,
            audited: 0,
        }
    }

    pub(crate) fn shard(&self) -> AuditedShard {
        AuditedShard {
            pack: PackId([3; 32]),
            shard: ShardIndex(0),
            root: self.tree.root(),
            leaf_count: self.leaves.len() as u32,
        }
    }

    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trip_ms)
    }

    /// Commits to what it has, where the shard stands for `bytes` on the disk.
    pub(crate) fn commit(&mut self, now_ms: u64, nonce: &[u8; 32], bytes: u64, random: &mut Random) -> Committed {
        self.audited += 1;
        if self.cheat == Cheat::NeverAnswers {
            return Committed::Silent;
        }
        match random.below(1000) {
            drawn if drawn < self.lost_per_mille => return Committed::Lost { connected: random.chance(300) },
            drawn if drawn < self.lost_per_mille + self.silent_per_mille => return Committed::Silent,
            _ => {}
        }
        if self.cheat == Cheat::None && self.is_damaged(now_ms, random) {
            return Committed::After(Duration::from_millis(self.round_trip_ms), Commitment::new(vec![]), vec![0]);
        }
        let took = Duration::from_millis(self.round_trip_ms + self.reading_ms(now_ms, bytes, random));
        let bound = self.leaves.iter().zip(self.tree.hashes()).enumerate().map(|(at, (leaf, hash))| match self.cheat {
            Cheat::LacksPercent(_) if self.lacks(at) => Commitment::leaf(nonce, b"something else"),
            Cheat::KeepsHashes => Commitment::leaf(nonce, hash.as_bytes()),
            _ => Commitment::leaf(nonce, leaf),
        });
        Committed::After(took, Commitment::new(bound.collect()), vec![])
    }

    /// Opens a leaf, and how long that took.
    pub(crate) fn open(&self, commitment: &Commitment, leaf: u32, random: &mut Random) -> (Duration, AuditInput) {
        let took = self.round_trip_ms + LEAF_LEN as u64 * 1000 / self.sends + random.below(10);
        let bound: Vec<Digest> = commitment.prove(leaf).expect("a leaf it committed to is drawn");
        let data = Bytes::copy_from_slice(&self.leaves[leaf as usize]);
        let proof = self.tree.prove_run(LeafIndex(leaf), 1).expect("a leaf of the shard");
        (Duration::from_millis(took), AuditInput::Opened { leaf, data, bound, proof })
    }

    /// Every so many-th leaf.
    fn lacks(&self, at: usize) -> bool {
        matches!(self.cheat, Cheat::LacksPercent(percent) if at % 100 < percent as usize)
    }

    /// A disk loses something once in a while; its node learns of that by the audit, and repairs it in an hour or two.
    fn is_damaged(&mut self, now_ms: u64, random: &mut Random) -> bool {
        if now_ms >= self.damaged_until_ms && random.chance(3) {
            self.damaged_until_ms = now_ms + random.below(HOUR_MS);
        }
        now_ms < self.damaged_until_ms
    }

    fn reading_ms(&mut self, now_ms: u64, bytes: u64, random: &mut Random) -> u64 {
        if let Cheat::FetchesAfter { audits, line } = self.cheat
            && self.audited > audits
        {
            return bytes * 1000 / line + random.below(200);
        }
        // A restore, a backup, a disk that is rebuilt: for up to two days it gives a part of what it can.
        if now_ms >= self.busy_until_ms {
            self.busy_times = 1;
            if self.cheat == Cheat::None && random.chance(5) {
                self.busy_until_ms = now_ms + random.below(48 * HOUR_MS);
                self.busy_times = 2 + random.below(30);
            }
        }
        // Usually it needs between as long and twice as long; one time in fifty up to thirty times.
        let jitter = if random.chance(20) { 1000 + random.below(30_000) } else { 1000 + random.below(1000) };
        bytes * self.busy_times / (self.disk / 1000).max(1) * jitter / 1000 + random.below(100)
    }
}
