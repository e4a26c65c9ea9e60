//! `admin recovery-key`, `admin recover`: how those who are left go on when most clinics are gone for good.
//!
//! A recovery travels as a file from the node that proposes it to the holders, who sign it one after the other without a
//! node, and back to a node, which announces it. Its note goes to the witnesses, and comes back cosigned, twice.

mod paper;
mod sign;

use std::path::Path;
use std::time::Duration;

use bithealth_http::api::{KeepOptions, RECOVERY_LEN_MAX, RecoveryInfo, RecoveryStanding};
use bithealth_ledger::{NoteAlgorithm, RecoveryPolicy};
use bithealth_proto::{encode, v1};
use bithealth_types::Digest;
use bytes::Bytes;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use serde_json::json;

use super::args::{RecoverCommand, parse_duration};
use super::cosigned::read_short;
use super::exit::Exit;
use super::failure::Failure;
use super::ledger::read;
use super::note_key::NoteKey;
use super::show::{Show, ago, count, counted, counted_as, plain, print_line, span};
use crate::client::Client;

/// What `submit` takes.
const SUBMITTED: &str = "submit the file that the holders signed with `bithealth admin recover sign`, or what a witness made \
                         of `bithealth admin recover export` with `bithealth ledger cosign`";
/// The name in a holder's key file. What it signs bears the name of the network's recoveries.
const HOLDER: &str = "recovery";

/// A policy as a founder writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    threshold: u32,
    holders: Vec<String>,
    delay: String,
    witnesses: Vec<String>,
    cosignatures: u32,
}

/// Reads who may open a new era.
pub(crate) fn read_policy(path: &Path) -> Result<v1::RecoveryPolicy, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::new(format_args!("{} is no recovery policy: {what}", path.display())).next(
            "write five lines: threshold = 2 / holders = [\"KEY\", \"KEY\"], of `bithealth admin recovery-key` / delay = \
             \"72h\" / witnesses = [\"KEY\"], of `bithealth ledger witness-key` / cosignatures = 1",
        )
    };
    let file: PolicyFile = toml::from_str(&text).map_err(|error| wrong(&error))?;
    let delay: Duration = parse_duration(&file.delay).map_err(|error| wrong(&error))?;
    let key = |text: &String| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map(Bytes::from);
    let keys: Result<Vec<Bytes>, _> = file.holders.iter().map(key).collect();
    let mut keys = keys.map_err(|_| wrong(&"a holder's key is not 64 hexadecimal digits"))?;
    let mut witnesses = file.witnesses;
    keys.sort();
    witnesses.sort();
    let (threshold, cosignatures) = (file.threshold, file.cosignatures);
    let delay_ms = delay.as_millis() as u64;
    let policy = v1::RecoveryPolicy { threshold, keys, delay_ms, witnesses, cosignatures };
    RecoveryPolicy::from_message(&policy).map_err(|error| wrong(&error))?;
    Ok(policy)
}

/// Makes a holder's key.
pub(crate) fn make_key(output: &Path, show: Show) -> Result<Exit, Failure> {
    let key = NoteKey::random(HOLDER, NoteAlgorithm::Ed25519)?;
    key.save(output).map_err(|error| Failure::new(error).next("pass another name with -o"))?;
    let public = Digest(*key.public().public()).to_string();
    show.answer(&json!({ "path": output, "key": public }), |_| public.clone());
    show.note(format_args!(
        "give this line to the founder, for the network's recovery policy; keep {} offline, and to yourself",
        output.display()
    ));
    Ok(Exit::Done)
}

/// Runs `admin recover`.
pub(crate) async fn run(client: &Client, command: RecoverCommand, show: Show) -> Result<Exit, Failure> {
    match command {
        RecoverCommand::Propose { keep, output } => propose(client, keep, &output, show).await,
        RecoverCommand::Sign { recovery, key } => sign::run(&recovery, &key, show),
        RecoverCommand::Submit { file } => submit(client, &file, show).await,
        RecoverCommand::Export { output } => export(client, &output, show).await,
        RecoverCommand::Status => {
            tell(&client.recovery().await?, show);
            Ok(Exit::Done)
        }
    }
}

async fn propose(client: &Client, keep: Vec<String>, output: &Path, show: Show) -> Result<Exit, Failure> {
    let bytes = client.propose_recovery(&KeepOptions { keep: keep.clone() }).await?;
    let signed: v1::SignedRecovery = read(&bytes, "the node's recovery")?;
    let recovery = signed.recovery.clone().unwrap_or_default();
    let members = client.status().await?.members.into_iter().map(|it| (it.member, it.name));
    let names = paper::names(&recovery, &members.collect());
    paper::write(output, &names, &v1::RecoverySubmission { recovery: Some(signed), note: String::new() })?;
    show.answer(&json!({ "path": output, "era": recovery.era, "after": recovery.height }), |_| {
        let after = count(recovery.height);
        format!("{}: after block {after}, {} would go on in era {}", output.display(), keep.join(", "), recovery.era)
    });
    show.note("each holder signs it with `bithealth admin recover sign`; then `submit` announces it");
    Ok(Exit::Done)
}

async fn submit(client: &Client, path: &Path, show: Show) -> Result<Exit, Failure> {
    let submission = read_submission(path)?;
    let info = client.submit_recovery(encode(&submission).into()).await?;
    tell(&info, show);
    if let Some(next) = after_submit(&info) {
        show.note(next);
    }
    Ok(Exit::Done)
}

/// What holders signed, or a witness cosigned.
fn read_submission(path: &Path) -> Result<v1::RecoverySubmission, Failure> {
    let wrong = |failure: Failure| failure.next(SUBMITTED);
    let bytes = read_short(path, RECOVERY_LEN_MAX, "recovery and no note").map_err(wrong)?;
    if bytes.starts_with(b"{") {
        let (submission, _) = paper::read(path)?;
        if submission.note.is_empty() {
            let what = format_args!("{}: no holder signed it yet", path.display()).to_string();
            return Err(Failure::new(what).next("each holder runs `bithealth admin recover sign`"));
        }
        return Ok(submission);
    }
    let no_text = |_| wrong(Failure::new(format_args!("{} is no recovery and no note", path.display())));
    Ok(v1::RecoverySubmission { recovery: None, note: String::from_utf8(bytes).map_err(no_text)? })
}

/// What is due once a node took it.
fn after_submit(info: &RecoveryInfo) -> Option<&'static str> {
    match info.standing {
        RecoveryStanding::Announced if info.cosigned.is_empty() => Some(
            "next: `bithealth admin recover export`, and let the witnesses cosign that with `bithealth ledger cosign`",
        ),
        RecoveryStanding::Announced => {
            Some("next: after the delay `bithealth admin recover export` once more, and let the witnesses cosign that")
        }
        RecoveryStanding::Ready => Some("those who go on decide the first block of the new era by themselves"),
        _ => None,
    }
}

async fn export(client: &Client, path: &Path, show: Show) -> Result<Exit, Failure> {
    let bytes = client.export_recovery().await?;
    let export: v1::RecoveryExport = read(&bytes, "the node's recovery")?;
    std::fs::write(path, &export.submission).map_err(|error| Failure::file(path, error))?;
    show.answer(&json!({ "path": path, "keys": export.keys }), |_| {
        format!("{}: signed with\n{}", path.display(), export.keys.join("\n"))
    });
    show.note(
        "a witness cosigns it with `bithealth ledger cosign`, now and again after the delay, and knows the network's \
         recoveries by such a key (--log); `recover submit` takes what comes back",
    );
    Ok(Exit::Done)
}

fn tell(info: &RecoveryInfo, show: Show) {
    let now_ms = super::show::now_ms();
    show.answer(info, |info| match (info.possible, words(info, now_ms)) {
        (false, _) => "nobody may recover this network: it was founded without a recovery policy".to_owned(),
        (true, None) => {
            let holders = counted(info.threshold.into(), "holder");
            let witnesses = counted_as(info.cosignatures.into(), "witness", "witnesses");
            let delay = span(info.delay_s);
            format!("era {}; none is announced: it takes {holders}, and {witnesses} twice, {delay} apart", info.era)
        }
        (true, Some(words)) => words,
    });
    if !show.json && info.standing == RecoveryStanding::Announced {
        info.cosigned.iter().for_each(|(name, first, last)| {
            print_line(&format!("  {} cosigned {}, last {}", plain(name), ago(*first, now_ms), ago(*last, now_ms)));
        });
    }
}

/// How a recovery stands, while there is something to say.
pub(crate) fn words(info: &RecoveryInfo, now_ms: u64) -> Option<String> {
    let (era, names) = (info.opens.unwrap_or(0), info.goes_on.join(", "));
    let delay_ms = info.delay_s.saturating_mul(1000);
    Some(match info.standing {
        RecoveryStanding::None => return None,
        RecoveryStanding::Announced => {
            let first = info.cosigned.iter().map(|(_, first, _)| first.saturating_add(delay_ms)).min();
            let due = match first {
                None => format!("{} must cosign it", counted_as(info.cosignatures.into(), "witness", "witnesses")),
                Some(at) if at > now_ms => format!("to be cosigned again in {}", span((at - now_ms) / 1000 + 1)),
                Some(_) => "to be cosigned again now".to_owned(),
            };
            format!("era {era} is announced, with {names}; nothing is decided until then; {due}")
        }
        RecoveryStanding::Ready => format!("era {era} begins with the next block, with {names}"),
        RecoveryStanding::Opened => format!("era {era} began with {names}, after block {}", after(info)),
        RecoveryStanding::Void => {
            format!("void: it went on from block {}, after which the era before decided another", after(info))
        }
        RecoveryStanding::Conflict => {
            "two recoveries that exclude each other are announced: nothing is decided here, the members must meet"
                .into()
        }
    })
}

fn after(info: &RecoveryInfo) -> String {
    count(info.after.map_or(0, |height| height.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_types::Height;

    fn key(path: &Path) -> String {
        make_key(path, Show { json: true, person: false }).unwrap();
        let (key, _lock) = NoteKey::load(path, NoteAlgorithm::Ed25519).unwrap();
        Digest(*key.public().public()).to_string()
    }

    fn policy_of(text: &str) -> Result<v1::RecoveryPolicy, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        read_policy(&path)
    }

    #[test]
    fn a_policy_is_read_in_any_order_and_a_false_one_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<String> = (0..3).map(|at| key(&folder.path().join(at.to_string()))).collect();
        let witness = NoteKey::random("w.example", NoteAlgorithm::CosignatureV1).unwrap().public().to_string();
        let file = |threshold: u32, delay: &str| {
            format!(
                "threshold = {threshold}\nholders = {keys:?}\ndelay = {delay:?}\nwitnesses = [{witness:?}]\ncosignatures = 1"
            )
        };
        let policy = policy_of(&file(2, "72h")).unwrap();
        assert_eq!((policy.threshold, policy.delay_ms, policy.keys.len()), (2, 72 * 3_600_000, 3));
        assert!(policy.keys.is_sorted());
        assert!(policy_of(&file(4, "72h")).unwrap_err().what.contains("4 of 3 holders"));
        assert!(policy_of(&file(2, "0s")).unwrap_err().what.contains("delay"));
        assert!(policy_of(&(file(2, "1h") + "\nkeys = 1")).unwrap_err().what.contains("keys"));
    }

    #[test]
    fn what_cannot_be_submitted_names_what_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let failure = read_submission(&path).unwrap_err();
            (failure.what, failure.next.expect("there is something to do"))
        };
        let long = refused(&vec![b'x'; RECOVERY_LEN_MAX + 1]);
        assert!(long.0.contains("no recovery and no note") && long.1.contains("recover sign"), "{long:?}");
        assert!(refused(b"\xff").1.contains("recover export"));
        assert!(refused(b"{").1.contains("recover propose"));
        assert!(
            refused(b"{\"format\":\"bithealth proof 1\",\"says\":{},\"bytes\":\"\"}").1.contains("recover propose")
        );
        let unsigned = v1::RecoverySubmission { recovery: Some(v1::SignedRecovery::default()), note: String::new() };
        paper::write(&path, &paper::Names::new(), &unsigned).unwrap();
        let unsigned = read_submission(&path).unwrap_err();
        assert!(unsigned.next.unwrap().contains("recover sign"), "{}", unsigned.what);
    }

    #[test]
    fn how_it_stands_is_said_with_what_is_due() {
        let info = RecoveryInfo {
            possible: true,
            cosignatures: 1,
            delay_s: 3600,
            standing: RecoveryStanding::Announced,
            opens: Some(1),
            after: Some(Height(70)),
            goes_on: vec!["Anna".into(), "Bruck".into()],
            ..RecoveryInfo::default()
        };
        let said = words(&info, 0).unwrap();
        assert!(said.contains("era 1 is announced, with Anna, Bruck") && said.contains("1 witness must"), "{said}");
        assert!(after_submit(&info).unwrap().contains("recover export`, and"));
        let once = RecoveryInfo { cosigned: vec![("w".into(), 1000, 1000)], ..info.clone() };
        assert!(after_submit(&once).unwrap().contains("after the delay"));
        assert!(words(&once, 1000).unwrap().contains("again in 1 h"), "{:?}", words(&once, 1000));
        assert!(words(&once, 4_000_000).unwrap().contains("again now"));
        let void = RecoveryInfo { standing: RecoveryStanding::Void, ..info };
        assert!(words(&void, 0).unwrap().contains("block 70"));
    }
}
