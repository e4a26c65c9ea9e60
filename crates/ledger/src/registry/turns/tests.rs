use bithealth_proto::v1::{self, entry::Operation};
use bithealth_types::{Height, MemberId, ValidatorId};

use super::*;
use crate::fixture::*;

/// What follows if every open proposal is counted, and every admission tried, at every place in the order.
fn everything_everywhere(registry: &Registry, covered: &Covered<'_>, recovered: Option<&Recovered>) -> View {
    let mut view = View::default();
    let all: BTreeSet<Digest> = registry.votes.keys().copied().collect();
    let turns = registry.turns(covered, recovered);
    let mut admissions: Vec<Reached<'_>> = turns.values().flat_map(|turn| turn.admissions.iter().copied()).collect();
    admissions.sort_by_key(|(rank, item)| (*rank, item.member.record));
    for (at, turn) in &turns {
        turn.recovered.into_iter().for_each(|recovered| view.recover(recovered));
        for (id, change) in registry.count(covered, *at, &all, &view) {
            view.passed.insert(id, since(*at));
            view.change(change, *at);
        }
        let reached = admissions.iter().take_while(|((height, _), _)| height <= at);
        for (_, item) in reached {
            view.admit(item, since(*at));
        }
    }
    view
}

fn assert_same(registry: &Registry, covered: &Covered<'_>, recovered: Option<&Recovered>, what: &str) {
    let mut view = View::default();
    registry.view_members(covered, recovered, &mut view);
    assert_eq!(view, everything_everywhere(registry, covered, recovered), "{what}");
    assert_eq!(view.voters, view.present().filter(|member| member.votes).count(), "{what}");
}

/// Draws of a seed.
struct Draws(u64);

impl Draws {
    /// splitmix64, by Steele, Lea and Flood.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Organisations 1 to 4 are there; 5 to 7 may come.
fn change(draws: &mut Draws, time_ms: u64) -> v1::Proposal {
    let org = 1 + draws.below(7) as u8;
    let change = match draws.below(8) {
        0 => Change::Remove(bytes(public(org))),
        1 | 2 => Change::Voting(v1::Voting { member: bytes(public(org)), votes: draws.below(3) > 0 }),
        3 => Change::Keys(keys_of(org, 90 + draws.below(4) as u8)),
        4 => Change::Defaults(v1::Defaults { survive_regions: 1, survive_nodes: 1 }),
        _ => {
            let (issuer, org) = (1 + draws.below(4) as u8, 5 + draws.below(3) as u8);
            return propose_invite(issuer, 200 + org, org, &format!("clinic {}", org % 6));
        }
    };
    v1::Proposal { time_ms, change: Some(change) }
}

fn something(draws: &mut Draws, known: &mut Vec<v1::Proposal>) -> Operation {
    match draws.below(10) {
        0 | 1 => {
            known.push(change(draws, NOW + known.len() as u64));
            Operation::Propose(known[known.len() - 1].clone())
        }
        2 => {
            let (issuer, org) = (1 + draws.below(4) as u8, 5 + draws.below(3) as u8);
            admit(issuer, 200 + org, org, &format!("clinic {}", org % 6))
        }
        3 => {
            let org = 1 + draws.below(7) as u8;
            Operation::AddNode(certificate_of(org, node_of(org), 1 + draws.below(3)))
        }
        _ => approve(draws.one(&known[known.len().saturating_sub(4)..])),
    }
}

#[test]
fn counting_only_what_may_have_changed_comes_to_the_same_as_counting_everything_everywhere() {
    let first: u64 = std::env::var("BITHEALTH_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (mut passed, mut came) = (0, 0);
    for seed in first..first + 12 {
        let mut draws = Draws(seed);
        let (mut state, authors) = network(4);
        let mut authors: Vec<(u8, Author)> =
            (1..).zip(authors).chain((5..=7).map(|org| (org, Author::of(org)))).collect();
        let mut known = vec![change(&mut draws, NOW)];
        for step in 0..120 {
            let operation = something(&mut draws, &mut known);
            // Nobody takes the entries of a node that nobody ever certified, nor of one whose log has ended.
            authors.sort_by_key(|(org, _)| (!state.registry().mentions_node(&node(*org)), *org));
            let there = authors.iter().filter(|(org, _)| state.registry().mentions_node(&node(*org))).count();
            let author = &mut authors[draws.below(there as u64) as usize].1;
            let mut next = author.clone();
            if let Ok(checked) = state.check(&next.write(operation)) {
                state.apply(checked);
                *author = next;
            }
            let what = format!("seed {seed}, step {step}");
            assert_same(state.registry(), &Covered::OrNot, None, &what);
            let lens = state.lens_after(&BTreeMap::new());
            assert_same(state.registry(), &Covered::By(state.height(), &lens), None, &what);
            let validators =
                BTreeMap::from([(member(2), ValidatorId([2; 32])), (MemberId([3; 32]), ValidatorId([3; 32]))]);
            let recovered = Recovered { height: Height(state.height().0 / 2), time_ms: NOW, validators };
            assert_same(state.registry(), &Covered::OrNot, Some(&recovered), &what);
            if draws.below(4) == 0 && state.is_open() {
                finalise(&mut state);
            }
        }
        let view = state.registry().view(&Covered::OrNot);
        (passed, came) = (passed + view.passed.len(), came + view.members.len() - 4);
    }
    assert!(passed > 24 && came > 3, "{passed} passed, {came} came: too little happens for this to show anything");
}
