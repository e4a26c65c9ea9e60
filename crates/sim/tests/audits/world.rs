//! An auditor that goes round its holders, as the node drives it: the same two cores, and a clock that jumps.

use std::collections::VecDeque;
use std::time::Duration;

use bithealth_exchange::{Audit, AuditEffect, AuditInput, AuditOutcome, AuditSpec};
use bithealth_placement::{Answer, AuditConfig, Auditor, Trust, Verdict};
use bithealth_sim::Random;
use bithealth_types::{LEAF_LEN, NodeId, Time};

use crate::holder::{Committed, Holder};

/// Leaves opened in one audit.
pub(crate) const SAMPLES: u32 = 64;

pub(crate) struct World {
    pub(crate) random: Random,
    now_ms: u64,
    auditor: Auditor,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let auditor = Auditor::new(AuditConfig::default());
        Self { random: Random::new(seed), now_ms: 1_800_000_000_000, auditor }
    }

    /// So many audits of these holders, one after the other: what each showed, and how its holder stood then.
    pub(crate) fn run(&mut self, mut holders: Vec<Holder>, audits: usize) -> Vec<(Verdict, Trust)> {
        let mut shown = Vec::with_capacity(audits);
        let ids: Vec<NodeId> = (0..holders.len()).map(|at| NodeId([at as u8; 32])).collect();
        while shown.len() < audits {
            let Some(id) = self.auditor.next(Time(self.now_ms), ids.iter().copied()) else {
                self.now_ms += 60_000 + self.random.below(3_600_000);
                continue;
            };
            let bytes = self.auditor.bytes_for(&id);
            let outcome = self.audit(&mut holders[id.0[0] as usize], bytes);
            let verdict = self.auditor.judge(
                Time(self.now_ms),
                id,
                answer(&outcome, bytes, holders[id.0[0] as usize].round_trip()),
            );
            shown.push((verdict, self.auditor.trust(Time(self.now_ms), &id)));
            self.now_ms += 60_000;
        }
        shown
    }

    /// One audit from its first question to what came of it. The holder's few leaves stand for `bytes`.
    fn audit(&mut self, holder: &mut Holder, bytes: u64) -> AuditOutcome {
        let spec = AuditSpec {
            nonce: std::array::from_fn(|_| self.random.below(256) as u8),
            draw: std::array::from_fn(|_| self.random.below(256) as u8),
            shards: vec![holder.shard()],
            samples: SAMPLES,
            commit_within: self.auditor.patience(bytes),
            open_within: Duration::from_secs(60),
        };
        let (nonce, began) = (spec.nonce, self.now_ms);
        let (mut audit, mut effects) = (Audit::new(spec), VecDeque::new());
        let (mut wake_at, mut commitment) = (Time(0), None);
        let mut coming: VecDeque<(Time, AuditInput)> = VecDeque::new();
        let at = |now_ms: u64| Time(now_ms - began);
        audit.begin(at(self.now_ms), &mut effects);
        loop {
            while let Some(effect) = effects.pop_front() {
                match effect {
                    AuditEffect::AskCommit => match holder.commit(self.now_ms, &nonce, bytes, &mut self.random) {
                        Committed::After(took, made, lacks) => {
                            let root = made.root();
                            commitment = Some(made);
                            coming.push_back((at(self.now_ms).after(took), AuditInput::Committed { root, lacks }));
                        }
                        Committed::Lost { connected } => {
                            coming.push_back((at(self.now_ms), AuditInput::Lost { connected }));
                        }
                        Committed::Silent => {}
                    },
                    AuditEffect::AskOpen(leaves) => {
                        let made = commitment.as_ref().expect("it has committed");
                        let mut arrives = at(self.now_ms);
                        for leaf in leaves {
                            let (took, opened) = holder.open(made, leaf, &mut self.random);
                            arrives = arrives.after(took);
                            coming.push_back((arrives, opened));
                        }
                    }
                    AuditEffect::WakeAt(time) => wake_at = time,
                    AuditEffect::Ended(outcome) => return outcome,
                }
            }
            let (time, input) = match coming.pop_front() {
                Some((time, input)) if time < wake_at => (time, input),
                _ => (wake_at, AuditInput::Tick),
            };
            self.now_ms = self.now_ms.max(began + time.0);
            audit.handle(time, input, &mut effects);
        }
    }
}

/// As the node tells it to the auditor.
fn answer(outcome: &AuditOutcome, bytes: u64, round_trip: Duration) -> Answer {
    match outcome {
        AuditOutcome::True { lacks, .. } if !lacks.is_empty() => Answer::Lacks,
        AuditOutcome::True { took, opened_bytes, opening_took, .. } => {
            assert!(*opened_bytes >= LEAF_LEN as u64);
            let sent_per_s = opened_bytes * 1000 / (opening_took.as_millis() as u64).max(1);
            Answer::True { bytes, took: *took, round_trip, sent_per_s: Some(sent_per_s) }
        }
        AuditOutcome::False { .. } => Answer::False,
        AuditOutcome::Evaded => Answer::Evaded,
        AuditOutcome::Unreachable => Answer::Unreachable,
    }
}
