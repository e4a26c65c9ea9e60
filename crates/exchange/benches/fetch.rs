//! What the core of a fetch takes for a pack of 16 MiB: all decisions, none of the hashing that the shell does beside it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bithealth_exchange::{Checked, Config, Effect, Fetch, Input, Need, Pipes, ShardSet, Spec, Want};
use bithealth_merkle::LeafTree;
use bithealth_types::{Code, LEAF_LEN, NodeId, PackId, ShardIndex, Time};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const PACK_LEN: usize = 16 << 20;
const HERE: NodeId = NodeId([200; 32]);
/// What the providers answer in one millisecond, together.
const ANSWERS_PER_MS: u64 = 1;

/// A pack whose shards are all alike: what is in them decides nothing.
struct Pack {
    code: Code,
    shard: Bytes,
    tree: LeafTree,
}

impl Pack {
    fn new(k: u16, n: u16) -> Self {
        let code = Code::new(k.into(), n.into()).expect("a code");
        let shard = vec![7; code.shard_len(PACK_LEN as u64) as usize];
        Self { code, tree: LeafTree::from_shard(&shard), shard: shard.into() }
    }

    fn spec(&self) -> Spec {
        let leaf_count = self.code.leaf_count(PACK_LEN as u64);
        let data = (0..self.code.k()).map(|shard| (ShardIndex(shard), 0..leaf_count));
        Spec {
            pack: PackId([7; 32]),
            code: self.code,
            leaf_count,
            roots: vec![self.tree.root(); usize::from(self.code.n())],
            need: Need::Ranges(data.collect()),
            here: HERE,
            config: Config::default(),
        }
    }

    fn checked(&self, want: Want) -> Checked {
        let start = want.first.0 as usize * LEAF_LEN;
        let data = self.shard.slice(start..start + want.len() as usize);
        let proof = self.tree.prove_run(want.first, want.count).expect("leaves of the shard");
        Checked::new(want, &self.tree.root(), self.tree.hashes().len() as u32, data, proof)
    }

    /// Each shard has its provider, and each answers in the order in which it was asked. The time inside the core.
    fn fetch(&self, pipes: &mut Pipes) -> Duration {
        let mut fetch = Fetch::new(self.spec(), 1);
        let mut inputs: VecDeque<Input> = (0..self.code.n())
            .map(|shard| Input::Provider {
                peer: NodeId([shard as u8; 32]),
                shards: [ShardIndex(shard)].into_iter().collect::<ShardSet>(),
            })
            .collect();
        let (mut spent, mut answers) = (Duration::ZERO, 0);
        let (mut asked, mut effects) = (VecDeque::new(), VecDeque::new());
        loop {
            let input = inputs.pop_front().unwrap_or_else(|| {
                answers += 1;
                let (from, want) = asked.pop_front().expect("something is asked until the end");
                Input::Leaves { from, leaves: self.checked(want) }
            });
            let now = Time(answers / ANSWERS_PER_MS);
            let began = Instant::now();
            fetch.handle(now, input, pipes, &mut effects);
            spent += began.elapsed();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, ask } => asked.push_back((to, ask)),
                    Effect::Store { shard, first, .. } => {
                        inputs.push_back(Input::Stored { shard, first, result: Ok(()) });
                    }
                    Effect::Finished => return spent,
                    _ => {}
                }
            }
        }
    }
}

fn fetches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch_16_mib");
    group.sample_size(20);
    for (k, n) in [(1, 1), (3, 7), (16, 24)] {
        let (pack, mut pipes) = (Pack::new(k, n), Pipes::default());
        group.bench_function(BenchmarkId::from_parameter(format!("{k}_of_{n}")), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| pack.fetch(&mut pipes)).sum());
        });
    }
}

criterion_group!(benches, fetches);
criterion_main!(benches);
