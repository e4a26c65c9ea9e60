use proptest::prelude::*;

use super::*;

const HOLDER: NodeId = NodeId([1; 32]);
const OTHER: NodeId = NodeId([2; 32]);
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;

fn auditor() -> Auditor {
    Auditor::new(AuditConfig::default())
}

/// A true answer for 64 MiB.
fn took(ms: u64) -> Answer {
    Answer::True { bytes: 64 * MIB, took: Duration::from_millis(ms), round_trip: Duration::ZERO, sent_per_s: None }
}

/// A true answer over a line that is as fast as a disk.
fn sent_fast(bytes: u64, ms: u64) -> Answer {
    let (took, round_trip) = (Duration::from_millis(ms), Duration::ZERO);
    Answer::True { bytes, took, round_trip, sent_per_s: Some(400 * MIB) }
}

/// An auditor to whom the holder answered an hour apart, and the time of the last answer.
fn after(answers: impl IntoIterator<Item = Answer>) -> (Auditor, Time) {
    let mut auditor = auditor();
    let now = judge_hourly(&mut auditor, Time(0), answers).1;
    (auditor, now)
}

fn judge_hourly(auditor: &mut Auditor, from: Time, answers: impl IntoIterator<Item = Answer>) -> (Vec<Verdict>, Time) {
    judge_each(auditor, from, HOUR, answers)
}

fn judge_daily(auditor: &mut Auditor, from: Time, answers: impl IntoIterator<Item = Answer>) -> (Vec<Verdict>, Time) {
    judge_each(auditor, from, DAY, answers)
}

fn judge_each(
    auditor: &mut Auditor,
    from: Time,
    step: u64,
    answers: impl IntoIterator<Item = Answer>,
) -> (Vec<Verdict>, Time) {
    let mut now = from;
    let mut verdicts = Vec::new();
    for answer in answers {
        now = Time(now.0 + step);
        verdicts.push(auditor.judge(now, HOLDER, answer));
    }
    (verdicts, now)
}

/// At 12 MiB/s 64 MiB take 5.3 s; a disk that gives 200 MB/s is due to answer within 2 s + 4 x 0.3 s.
const FAST: u64 = 320;
const FETCHED: u64 = 5_400;

#[test]
fn who_always_was_fast_and_begins_to_fetch_is_suspected_and_then_condemned() {
    let (mut auditor, now) = after([took(FAST); 8]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound);
    let (verdicts, now) = judge_daily(&mut auditor, now, [took(FETCHED); 4]);
    assert_eq!(verdicts, [Verdict::Late; 4]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound, "what it passed lately makes up for that");
    let (_, now) = judge_daily(&mut auditor, now, [took(FETCHED); 5]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Suspect);
    assert!(auditor.condemned(now).is_empty());
    let (_, now) = judge_daily(&mut auditor, now, [took(FETCHED)]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Condemned);
    assert_eq!(auditor.condemned(now), BTreeSet::from([HOLDER]));
}

#[test]
fn a_bad_day_counts_once_however_often_a_holder_is_audited_on_it() {
    let (auditor, now) = after([took(FAST); 8]);
    for bad in [took(FETCHED), Answer::Evaded] {
        let mut auditor = auditor.clone();
        let (_, later) = judge_hourly(&mut auditor, now, [bad; 24 + EVASIONS_BORNE as usize]);
        let mut holder = auditor.holders[&HOLDER].clone();
        assert!(holder.passed.len() >= CREDITS_MAX - 2, "{bad:?} in a day and eight hours: twice at most");
        holder.passed.clear();
        assert_eq!(holder.trust(later, &auditor.config), Trust::Sound);
        // Nor does it make the holder's pace slower, which would excuse the next one.
        assert!(auditor.bytes_for(&HOLDER) > 16 * MIB);
    }
}

#[test]
fn who_always_was_as_slow_as_a_line_is_never_told_apart_from_one_that_fetches() {
    let (mut auditor, now) = after([took(FETCHED); 100]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound);
    let (verdicts, now) = judge_hourly(&mut auditor, now, [took(FETCHED), took(10 * FETCHED)]);
    assert_eq!(verdicts, [Verdict::Inconclusive; 2]);
    assert_eq!(auditor.audited(now).next().unwrap().passed, None, "and nothing is held in its favour");
}

#[test]
fn a_line_that_was_seen_to_be_fast_tells_nothing_any_more() {
    let (mut auditor, now) = after([took(FAST); 8]);
    let fast_line = sent_fast(64 * MIB, FAST);
    let (verdicts, _) = judge_hourly(&mut auditor, now, [fast_line, took(FETCHED), took(FAST)]);
    assert_eq!(verdicts, [Verdict::Kept, Verdict::Inconclusive, Verdict::Inconclusive]);
}

#[test]
fn an_answer_is_early_up_to_what_its_disk_is_due_and_late_from_when_fetching_is_done() {
    let (due, fetched) = (2_000 + 4 * FAST, 64_000 / 12);
    let rest = |ms| judge_hourly(&mut after([took(FAST); 8]).0, Time(9 * HOUR), [took(ms)]).0;
    assert_eq!(rest(due), [Verdict::Kept]);
    assert_eq!(rest(due + 1), [Verdict::Inconclusive], "slower than it was, faster than a line");
    assert_eq!(rest(fetched - 1), [Verdict::Inconclusive]);
    assert_eq!(rest(fetched), [Verdict::Late]);
}

#[test]
fn a_holder_that_is_far_away_has_no_slower_disk() {
    let round_trip = Duration::from_millis(400);
    let bytes = 16 * MIB;
    let far = Answer::True { bytes, took: round_trip + Duration::from_millis(80), round_trip, sent_per_s: None };
    let (auditor, _) = after([far; 8]);
    assert!(auditor.bytes_for(&HOLDER) > 16 * MIB, "200 MiB/s");
    let near = Answer::True {
        bytes,
        took: round_trip + Duration::from_millis(80),
        round_trip: Duration::ZERO,
        sent_per_s: None,
    };
    let (auditor, _) = after([near; 8]);
    assert_eq!(auditor.bytes_for(&HOLDER), 16 * MIB, "33 MiB/s, which a line may bring");
}

#[test]
fn a_lie_is_suspected_and_the_second_one_condemned() {
    let (mut auditor, now) = after([took(FAST), Answer::False]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Suspect);
    let (_, now) = judge_hourly(&mut auditor, now, [Answer::False]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Condemned);
}

#[test]
fn who_says_what_it_lacks_has_half_a_day_to_repair_it() {
    let (mut auditor, now) = after([Answer::Lacks; 12]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Suspect, "six hours apart: twice");
    let mut repaired = auditor.clone();
    let (_, later) = judge_hourly(&mut repaired, now, [took(FAST); 4]);
    assert_eq!(repaired.trust(later, &HOLDER), Trust::Sound);
    let (_, now) = judge_hourly(&mut auditor, now, [Answer::Lacks]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Condemned);
}

#[test]
fn who_never_answers_though_it_is_there_is_condemned_in_the_end_and_one_that_is_away_never() {
    let (mut auditor, now) = after([Answer::Evaded; EVASIONS_BORNE as usize]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound);
    let mut answers = auditor.clone();
    let (_, later) = judge_hourly(&mut answers, now, [took(FETCHED), Answer::Evaded]);
    assert_eq!(answers.trust(later, &HOLDER), Trust::Sound, "an answer ends the row");
    let (verdicts, now) = judge_daily(&mut auditor, now, [Answer::Evaded; 6]);
    assert_eq!(verdicts, [Verdict::Evades; 6]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Condemned);

    let (auditor, now) = after([Answer::Unreachable; 1000]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound);
}

#[test]
fn what_was_wrong_is_made_up_for_by_true_answers_and_what_was_late_only_by_early_ones() {
    let (mut liar, now) = after([Answer::False; 2]);
    let (_, now) = judge_hourly(&mut liar, now, [took(FETCHED); 5]);
    assert_eq!(liar.trust(now, &HOLDER), Trust::Suspect);
    let (_, now) = judge_hourly(&mut liar, now, [took(FETCHED); 1]);
    assert_eq!(liar.trust(now, &HOLDER), Trust::Sound);

    let (mut slow, now) = after([took(FAST); 8]);
    let (_, now) = judge_daily(&mut slow, now, [took(FETCHED); 10]);
    assert_eq!(slow.trust(now, &HOLDER), Trust::Condemned);
    let mut overlapping = slow.clone();
    let fast_line = sent_fast(MIB, 9_000);
    let (verdicts, later) =
        judge_hourly(&mut overlapping, now, [fast_line, fast_line, fast_line, fast_line, fast_line]);
    assert_eq!(verdicts[1..], [Verdict::Inconclusive; 4]);
    assert_eq!(overlapping.trust(later, &HOLDER), Trust::Condemned);
    let (_, now) = judge_hourly(&mut slow, now, [took(FAST); 5]);
    assert_eq!(slow.trust(now, &HOLDER), Trust::Sound);
}

#[test]
fn what_speaks_against_a_holder_and_what_speaks_for_it_expire() {
    let (auditor, now) = after([Answer::False; 2]);
    assert_eq!(auditor.trust(Time(now.0 + 14 * DAY), &HOLDER), Trust::Condemned);
    assert_eq!(auditor.trust(Time(now.0 + 16 * DAY), &HOLDER), Trust::Suspect);
    assert_eq!(auditor.trust(Time(now.0 + 18 * DAY), &HOLDER), Trust::Sound);

    let (mut auditor, now) = after([took(FAST); 8]);
    let (_, now) = judge_hourly(&mut auditor, Time(now.0 + 31 * DAY), [took(FETCHED)]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Suspect, "it passed too long ago");
}

#[test]
fn who_was_condemned_before_a_restart_still_is() {
    let mut auditor = auditor();
    auditor.remember_condemned(Time(HOUR), HOLDER);
    assert_eq!(auditor.trust(Time(HOUR), &HOLDER), Trust::Condemned);
    let (_, now) = judge_hourly(&mut auditor, Time(HOUR), [took(FAST); 4]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound);
}

#[test]
fn a_bad_holder_comes_back_after_as_many_good_audits_however_bad_it_was() {
    let (mut auditor, now) = after([Answer::False; 50]);
    let (_, now) = judge_hourly(&mut auditor, now, [took(FAST); 8]);
    assert_eq!(auditor.trust(now, &HOLDER), Trust::Sound);
}

#[test]
fn suspects_are_asked_first_then_who_was_not_for_longest_and_nobody_twice_in_a_row() {
    let mut auditor = auditor();
    let both = [HOLDER, OTHER];
    let next = |auditor: &Auditor, ms| auditor.next(Time(ms), both);
    assert_eq!(next(&auditor, 0), Some(HOLDER));
    auditor.judge(Time(0), HOLDER, took(FAST));
    assert_eq!(next(&auditor, 1), Some(OTHER));
    auditor.judge(Time(1), OTHER, Answer::False);
    assert_eq!(next(&auditor, HOUR / 2 - 1), None, "too soon for either");
    assert_eq!(next(&auditor, HOUR / 2), Some(HOLDER));
    assert_eq!(next(&auditor, HOUR / 2 + 1), Some(OTHER), "a suspect");
    auditor.retain(&BTreeSet::from([HOLDER]));
    assert_eq!(auditor.trust(Time(2), &OTHER), Trust::Sound, "forgotten");
}

#[test]
fn a_set_is_as_long_as_it_takes_to_tell_a_disk_from_a_line() {
    let (auditor, _) = after([took(FAST); 8]);
    let bytes = auditor.bytes_for(&HOLDER);
    assert!((16 * MIB..=64 * MIB).contains(&bytes), "{bytes}");
    let disk = pace::disk_time(bytes, 200 * MIB);
    assert!(disk < pace::line_time(bytes, 12 * MIB), "{bytes} bytes do not tell");
    assert_eq!(auditor.bytes_for(&OTHER), 16 * MIB, "nothing is known of it");
    let (slow, _) = after([took(FETCHED); 8]);
    assert_eq!(slow.bytes_for(&HOLDER), 16 * MIB, "more would tell no more");
}

#[test]
fn a_disk_that_is_overrun_is_waited_for() {
    let minutes = |bytes| auditor().patience(bytes).as_secs() / 60;
    assert_eq!((minutes(16 * MIB), minutes(64 * MIB)), (5, 18));
}

/// One that was started anew with what the other kept.
fn restarted(auditor: &Auditor, now: Time) -> Auditor {
    let mut anew = self::auditor();
    for holder in [HOLDER, OTHER] {
        auditor.kept(&holder).into_iter().for_each(|kept| anew.recall(now, holder, kept));
    }
    anew
}

#[test]
fn suspicion_credit_and_condemnation_outlive_a_restart() {
    let (auditor, now) = after([took(FAST); 8]);
    let mut anew = restarted(&auditor, now);
    let (verdicts, now) = judge_daily(&mut anew, now, [took(FETCHED); 4]);
    assert_eq!(verdicts, [Verdict::Late; 4], "how fast its disk is was not forgotten");
    assert_eq!(anew.trust(now, &HOLDER), Trust::Sound, "nor what it passed");
    let (mut suspicious, now) = after([Answer::False]);
    assert_eq!(restarted(&suspicious, now).trust(now, &HOLDER), Trust::Suspect);
    assert_eq!(suspicious.judge(Time(now.0 + HOUR), HOLDER, Answer::False), Verdict::False);
    let later = Time(now.0 + HOUR);
    assert_eq!(restarted(&suspicious, later).condemned(later), BTreeSet::from([HOLDER]));
}

#[test]
fn what_was_kept_from_ahead_of_the_clock_counts_as_of_now() {
    let (auditor, ahead) = after([Answer::Lacks]);
    let now = Time(HOUR / 2);
    let anew = restarted(&auditor, now);
    assert_eq!(auditor.next(now, [HOLDER]), None, "as if it had been audited just now, until that time comes");
    assert_eq!(anew.kept(&HOLDER).unwrap().last, Some((now, Verdict::Lacks)));
    let forgotten = Time(now.0 + 6 * DAY);
    assert_eq!(anew.trust(forgotten, &HOLDER), Trust::Sound);
    assert_eq!(anew.next(Time(now.0 + HOUR), [HOLDER]), Some(HOLDER));
    assert!(ahead > now);
}

#[test]
fn more_than_an_auditor_keeps_is_not_recalled() {
    let mut anew = auditor();
    let kept = Kept {
        wrong: 1000 * AuditConfig::default().forget,
        passed: (0..2 * CREDITS_MAX as u64).map(Time).collect(),
        rates: vec![7; 1000],
        ..Kept::default()
    };
    anew.recall(Time(100), HOLDER, kept);
    let kept = anew.kept(&HOLDER).unwrap();
    assert_eq!(kept.wrong, WEIGHT_MAX * AuditConfig::default().forget);
    assert_eq!(kept.passed, (CREDITS_MAX as u64..2 * CREDITS_MAX as u64).map(Time).collect::<Vec<_>>());
    assert_eq!(kept.rates.len(), 32);
}

proptest! {
    /// However often it is started anew, an auditor says the same of the same answers.
    #[test]
    fn an_auditor_that_is_started_anew_goes_on_as_if_it_was_not(
        answers in prop::collection::vec((0..6_u8, 1..2 * DAY, any::<bool>()), 1..60),
    ) {
        let (mut through, mut anew, mut now) = (auditor(), auditor(), Time(0));
        for (answer, step, restart) in answers {
            now = Time(now.0 + step);
            if restart {
                anew = restarted(&anew, now);
            }
            let answer = match answer {
                0 => took(FAST),
                1 => took(FETCHED),
                2 => Answer::Lacks,
                3 => Answer::False,
                4 => Answer::Evaded,
                _ => Answer::Unreachable,
            };
            prop_assert_eq!(through.judge(now, HOLDER, answer), anew.judge(now, HOLDER, answer));
            prop_assert_eq!(through.kept(&HOLDER), anew.kept(&HOLDER));
            prop_assert_eq!(through.trust(now, &HOLDER), anew.trust(now, &HOLDER));
        }
    }
}
