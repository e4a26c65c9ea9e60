//! Which cells are needed, had and stored.

use std::ops::Range;

use bithealth_types::{Code, LeafIndex, ShardIndex};

use super::Need;
use crate::ShardSet;

/// The rows that are needed, cut into runs, in order.
#[derive(Debug)]
pub(super) struct Table {
    code: Code,
    runs: Vec<RowRun>,
    /// Runs that are not stored as needed.
    unstored: usize,
}

/// Some rows next to each other in which the same is needed, at most 64. A leaf of a cell is a bit of a word.
#[derive(Debug)]
struct RowRun {
    first: u32,
    count: u32,
    /// Shards needed here, fewer than k; `None` if any k shards serve.
    needed: Option<ShardSet>,
    /// Leaves of each shard that are verified, stored or not.
    have: Vec<u64>,
    /// Leaves of each shard that are stored.
    stored: Vec<u64>,
    /// What follows from the above, since it is asked again and again: the shards whose cell is had,
    had: ShardSet,
    /// whether they are all that is needed,
    is_had: bool,
    /// and whether that is stored.
    is_stored: bool,
}

impl Table {
    /// Cuts the rows where what is needed changes, and at multiples of `run_leaves`, where proofs are shortest.
    pub(super) fn new(code: Code, leaf_count: u32, need: &Need, run_leaves: u32) -> Self {
        let whole = [(ShardIndex(0), 0..leaf_count)];
        let ranges = match need {
            Need::Whole => &whole[..],
            Need::Ranges(ranges) => ranges,
        };
        for (shard, range) in ranges {
            let inside = shard.0 < code.n() && range.start <= range.end && range.end <= leaf_count;
            assert!(inside, "leaves {range:?} of shard {shard} are not in {leaf_count} rows of a {code} code");
        }
        let grid = (0..leaf_count).step_by(run_leaves as usize).chain([leaf_count]);
        let mut cuts: Vec<_> = ranges.iter().flat_map(|(_, range)| [range.start, range.end]).chain(grid).collect();
        cuts.sort_unstable();
        cuts.dedup();

        let run = |cut: &[u32]| {
            let (first, end) = (cut[0], cut[1]);
            let needed = ranges.iter().filter(|(_, range)| range.start <= first && end <= range.end);
            let needed: ShardSet = needed.map(|(shard, _)| *shard).collect();
            let any = *need == Need::Whole || needed.count() >= code.k();
            let cells = vec![0; usize::from(code.n())];
            let run = RowRun {
                first,
                count: end - first,
                needed: (!any).then_some(needed),
                have: cells.clone(),
                stored: cells,
                had: ShardSet::default(),
                is_had: false,
                is_stored: false,
            };
            (!needed.is_empty()).then_some(run)
        };
        let runs: Vec<_> = cuts.windows(2).filter_map(run).collect();
        Self { code, unstored: runs.len(), runs }
    }

    /// The fewest leaves of a cell that is still to be had.
    pub(super) fn shortest(&self) -> Option<u32> {
        self.runs.iter().filter(|run| !run.is_had).map(|run| run.count).min()
    }

    pub(super) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// The rows of a run.
    pub(super) fn rows(&self, run: usize) -> Range<u32> {
        let run = &self.runs[run];
        run.first..run.first + run.count
    }

    /// Whether these cells of a run are all that is needed there.
    pub(super) fn serves(&self, run: usize, cells: &ShardSet) -> bool {
        self.runs[run].serves(self.code, cells)
    }

    /// The shards needed in a run; `None` if any k shards serve.
    pub(super) fn needed(&self, run: usize) -> Option<ShardSet> {
        self.runs[run].needed
    }

    /// The shards whose cell of this run is had.
    pub(super) fn had(&self, run: usize) -> ShardSet {
        self.runs[run].had
    }

    /// The leaves a cell still lacks, without those had at its ends; `None` if it lacks none.
    pub(super) fn lacking(&self, run: usize, shard: ShardIndex) -> Option<(LeafIndex, u32)> {
        let run = &self.runs[run];
        let lacking = run.mask() & !run.have[usize::from(shard.0)];
        (lacking != 0).then(|| {
            let (from, last) = (lacking.trailing_zeros(), lacking.ilog2());
            (LeafIndex(run.first + from), last + 1 - from)
        })
    }

    /// These leaves are verified; the runs they lie in.
    pub(super) fn have(&mut self, shard: ShardIndex, leaves: Range<u32>) -> Range<usize> {
        let touched = self.mark(shard, leaves, |run| &mut run.have);
        for run in &mut self.runs[touched.clone()] {
            run.had = run.full(&run.have);
            run.is_had = run.serves(self.code, &run.had);
        }
        touched
    }

    /// These leaves are stored.
    pub(super) fn stored(&mut self, shard: ShardIndex, leaves: Range<u32>) {
        let touched = self.mark(shard, leaves, |run| &mut run.stored);
        for run in self.runs[touched].iter_mut().filter(|run| !run.is_stored) {
            run.is_stored = run.serves(self.code, &run.full(&run.stored));
            self.unstored -= usize::from(run.is_stored);
        }
    }

    /// What lies outside of the need, or of the pack, is of no interest.
    fn mark(
        &mut self,
        shard: ShardIndex,
        leaves: Range<u32>,
        cells: impl Fn(&mut RowRun) -> &mut Vec<u64>,
    ) -> Range<usize> {
        if shard.0 >= self.code.n() || leaves.is_empty() {
            return 0..0;
        }
        let from = self.runs.partition_point(|run| run.first + run.count <= leaves.start);
        let to = self.runs.partition_point(|run| run.first < leaves.end).max(from);
        for run in &mut self.runs[from..to] {
            let start = leaves.start.max(run.first) - run.first;
            let end = leaves.end.min(run.first + run.count) - run.first;
            cells(run)[usize::from(shard.0)] |= ones(end - start) << start;
        }
        from..to
    }

    /// Whether nothing more is wanted of this cell: it is had, or its run can do without.
    pub(super) fn is_settled(&self, run: usize, shard: ShardIndex) -> bool {
        self.runs[run].is_had || self.runs[run].had.contains(shard)
    }

    /// Whether a run needs no more cells.
    pub(super) fn is_had(&self, run: usize) -> bool {
        self.runs[run].is_had
    }

    /// Whether all that is needed is stored.
    pub(super) fn is_stored(&self) -> bool {
        self.unstored == 0
    }

    /// Rows that cannot be had, and most shards that one of them lacks, if `may_have(run, shard)` says what can.
    pub(super) fn starved(&self, may_have: impl Fn(usize, ShardIndex) -> bool) -> Option<(u32, u16)> {
        let mut starved: Option<(u32, u16)> = None;
        for (index, run) in self.runs.iter().enumerate() {
            let reach = (0..self.code.n()).map(ShardIndex);
            let reach = reach.filter(|shard| run.had.contains(*shard) || may_have(index, *shard));
            let reach: ShardSet = reach.collect();
            if !run.serves(self.code, &reach) {
                let (rows, due) = starved.unwrap_or_default();
                starved = Some((rows + run.count, due.max(self.code.k() - reach.count())));
            }
        }
        starved
    }

    pub(super) fn leaves_needed(&self) -> u64 {
        self.runs.iter().map(|run| run.leaves_needed(self.code)).sum()
    }

    pub(super) fn leaves_stored(&self) -> u64 {
        let stored = |run: &RowRun| match run.is_stored {
            true => run.leaves_needed(self.code),
            false => run.leaves_stored().min(run.leaves_needed(self.code)),
        };
        self.runs.iter().map(stored).sum()
    }
}

impl RowRun {
    fn mask(&self) -> u64 {
        ones(self.count)
    }

    /// The shards that have every leaf of the run among `cells`.
    fn full(&self, cells: &[u64]) -> ShardSet {
        let full = cells.iter().enumerate().filter(|(_, leaves)| **leaves == self.mask());
        full.map(|(shard, _)| ShardIndex(shard as u16)).collect()
    }

    /// Whether these cells are all that is needed.
    fn serves(&self, code: Code, cells: &ShardSet) -> bool {
        cells.count() >= code.k() || self.needed.is_some_and(|needed| cells.includes(&needed))
    }

    fn leaves_needed(&self, code: Code) -> u64 {
        let shards = self.needed.map_or(code.k(), |needed| needed.count());
        u64::from(shards) * u64::from(self.count)
    }

    fn leaves_stored(&self) -> u64 {
        self.stored.iter().map(|leaves| u64::from(leaves.count_ones())).sum()
    }
}

/// The lowest `count` bits.
fn ones(count: u32) -> u64 {
    u64::MAX >> (u64::BITS - count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        Code::new(4, 9).unwrap()
    }

    fn ranges(ranges: &[(u16, Range<u32>)]) -> Need {
        Need::Ranges(ranges.iter().map(|(shard, range)| (ShardIndex(*shard), range.clone())).collect())
    }

    fn cuts(table: &Table) -> Vec<Range<u32>> {
        table.runs.iter().map(|run| run.first..run.first + run.count).collect()
    }

    #[test]
    fn rows_are_cut_at_multiples_of_the_run_and_where_the_need_changes() {
        let whole = Table::new(code(), 130, &Need::Whole, 64);
        assert_eq!(cuts(&whole), [0..64, 64..128, 128..130]);
        let some = Table::new(code(), 130, &ranges(&[(0, 10..20), (2, 15..70)]), 64);
        assert_eq!(cuts(&some), [10..15, 15..20, 20..64, 64..70]);
        assert_eq!(some.needed(1), Some([ShardIndex(0), ShardIndex(2)].into_iter().collect()));
        assert_eq!(some.leaves_needed(), 10 + 55);
    }

    #[test]
    fn a_need_for_k_cells_of_a_row_takes_any_k() {
        let all = Table::new(code(), 10, &ranges(&[(0, 0..10), (1, 0..10), (2, 0..10), (3, 0..10)]), 64);
        assert_eq!(all.needed(0), None);
        let copies = Table::new(Code::new(1, 3).unwrap(), 10, &ranges(&[(0, 4..6)]), 64);
        assert_eq!((copies.needed(0), copies.run_count()), (None, 1));
    }

    #[test]
    fn a_cell_lacks_what_lies_between_the_leaves_held() {
        let mut table = Table::new(code(), 64, &Need::Whole, 64);
        assert_eq!(table.lacking(0, ShardIndex(5)), Some((LeafIndex(0), 64)));
        table.have(ShardIndex(5), 0..3);
        table.have(ShardIndex(5), 60..900);
        table.have(ShardIndex(5), 10..11);
        assert_eq!(table.lacking(0, ShardIndex(5)), Some((LeafIndex(3), 57)));
        table.have(ShardIndex(5), 3..60);
        assert_eq!(table.lacking(0, ShardIndex(5)), None);
        table.have(ShardIndex(9), 0..64); // no such shard
    }

    #[test]
    fn needed_cells_or_any_k_serve() {
        let mut table = Table::new(code(), 8, &ranges(&[(1, 0..8)]), 64);
        for shard in [0, 3, 7] {
            table.stored(ShardIndex(shard), 0..8);
        }
        assert!(!table.is_stored());
        table.stored(ShardIndex(8), 0..8);
        assert!(table.is_stored());
        let mut table = Table::new(code(), 8, &ranges(&[(1, 0..8)]), 64);
        table.stored(ShardIndex(1), 0..8);
        assert!(table.is_stored());
    }

    #[test]
    #[should_panic(expected = "leaves 0..9 of shard 0 are not in 8 rows of a 4-of-9 code")]
    fn a_need_behind_the_last_row_is_our_own_mistake() {
        Table::new(code(), 8, &ranges(&[(0, 0..9)]), 64);
    }
}
