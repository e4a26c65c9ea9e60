//! `ledger`: the history checked from its beginning, and proofs that leave the network.

use std::path::Path;

use bithealth_http::api::{EntryAt, ProofOf};
use bithealth_ledger::{Proven, check_proof};
use bithealth_proto::{Limited, decode, v1, v1::entry::Operation};
use bithealth_types::{Digest, Height, Sequence};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::LedgerCommand;
use super::exit::Exit;
use super::failure::Failure;
use super::notarise::{contents_digest, file_digest};
use super::show::{Show, count, counted_as};
use super::{cosigned, history, witness};
use crate::client::Client;

/// A file longer than this is none of ours.
const FILE_LEN_MAX: u64 = 16 << 20;

/// A genesis or a proof as a file: what it is in words for people, and the canonical bytes that count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Paper {
    /// `bithealth genesis 1`, `bithealth proof 1`, `bithealth receipt 1`.
    pub(crate) format: String,
    /// For people: nothing depends on it.
    #[serde(default)]
    pub(crate) says: serde_json::Value,
    /// The canonical bytes, as base64.
    pub(crate) bytes: String,
}

pub(crate) const GENESIS: &str = "bithealth genesis 1";
pub(crate) const EVIDENCE: &str = "bithealth evidence 1";
pub(crate) const PROOF: &str = "bithealth proof 1";

/// Runs `ledger`.
pub(crate) async fn run(client: &Client, command: LedgerCommand, show: Show) -> Result<Exit, Failure> {
    match command {
        LedgerCommand::Genesis { output } => genesis(client, &output, show).await,
        LedgerCommand::Headers { output } => history::export(client, &output, show).await,
        LedgerCommand::Verify { genesis, headers } => {
            history::verify(client, genesis.as_deref(), headers.as_deref(), show).await
        }
        LedgerCommand::Prove { what, output } => prove(client, &what, &output, show).await,
        LedgerCommand::Evidence { output } => evidence(client, &output, show).await,
        LedgerCommand::Check { proof, genesis, file, headers } => {
            let named = genesis.display().to_string();
            let genesis: v1::Genesis = read(&read_paper(&genesis, GENESIS)?, &named)?;
            if paper_format(&proof)? == EVIDENCE {
                return history::check(&proof, &genesis, headers.as_deref(), show).await;
            }
            check(&proof, &genesis, file.as_deref(), show)
        }
        LedgerCommand::Checkpoint { output, since } => cosigned::checkpoint(client, &output, Height(since), show).await,
        LedgerCommand::WitnessKey { output, name } => witness::make_key(&output, &name, show),
        LedgerCommand::Cosign(args) => witness::cosign(args, show),
        LedgerCommand::Cosigned { checkpoint, witness } => {
            cosigned::hand_over(client, &checkpoint, &witness, show).await
        }
        LedgerCommand::Witnesses => cosigned::witnesses(client, show).await,
    }
}

async fn genesis(client: &Client, output: &Path, show: Show) -> Result<Exit, Failure> {
    let bytes = client.genesis().await?;
    let genesis: v1::Genesis = read(&bytes, "the node's genesis")?;
    let says = json!({ "network": genesis.name, "digest": genesis.id(), "founded_ms": genesis.time_ms });
    write_paper(output, GENESIS, &says, &bytes)?;
    show.answer(&json!({ "path": output, "digest": genesis.id() }), |_| {
        format!("{}: the genesis of {}, {}", output.display(), genesis.name, genesis.id())
    });
    Ok(Exit::Done)
}

/// What was shown against others, to hand to anybody: each piece convinces by itself.
async fn evidence(client: &Client, output: &Path, show: Show) -> Result<Exit, Failure> {
    let bytes = client.evidence().await?;
    let set: v1::EvidenceSet = read(&bytes, "the node's evidence")?;
    let (count, forked) = (set.evidence.len(), set.fork.is_some());
    write_paper(output, EVIDENCE, &json!({ "evidence": count, "forked": forked }), &bytes)?;
    show.answer(&json!({ "path": output, "evidence": count, "forked": forked }), |_| {
        let fork = if forked { ", and the history forked: both headers are in it" } else { "" };
        format!("{}: evidence against {}{fork}", output.display(), counted_as(count as u64, "signer", "signers"))
    });
    Ok(Exit::Done)
}

async fn prove(client: &Client, what: &str, output: &Path, show: Show) -> Result<Exit, Failure> {
    let bytes = match proof_of(what) {
        Some(what) => client.prove(&what).await?,
        None if Path::new(what).exists() => {
            return super::notarise::finish(client, Path::new(what), output, show).await;
        }
        None => {
            return Err(Failure::new(format_args!(
                "{what} is not the id of a record (32 hexadecimal digits), an entry (NODE:POSITION), a commitment (64 \
                 digits), or a file"
            ))
            .next("`bithealth ls` shows the ids of records; `notarise` told the commitment and wrote the file"));
        }
    };
    save_proof(output, &read::<v1::Proof>(&bytes, "the proof")?, show)
}

/// A record, an entry or a commitment; none: the name of a file.
fn proof_of(what: &str) -> Option<ProofOf> {
    if let Ok(record) = what.parse() {
        return Some(ProofOf::Record(record));
    }
    if let Ok(commitment) = what.parse::<Digest>() {
        return Some(ProofOf::Commitment(commitment));
    }
    let (author, sequence) = what.split_once(':')?;
    Some(ProofOf::Entry(EntryAt { author: author.parse().ok()?, sequence: Sequence(sequence.parse().ok()?) }))
}

/// Writes a proof, with what it says in words.
pub(crate) fn save_proof(output: &Path, proof: &v1::Proof, show: Show) -> Result<Exit, Failure> {
    let head = proof.head.as_ref().and_then(|it| it.header.as_ref()).map_or(0, |header| header.height);
    let says =
        json!({ "height": head, "sequence": proof.index, "check": "bithealth ledger check THIS --genesis FILE" });
    let bytes = bithealth_proto::encode(proof);
    write_paper(output, PROOF, &says, &bytes)?;
    let told = json!({ "path": output, "height": head, "bytes": bytes.len() });
    show.answer(&told, |_| format!("{}: proven by the block at height {}", output.display(), count(head)));
    Ok(Exit::Done)
}

fn check(proof: &Path, genesis: &v1::Genesis, file: Option<&Path>, show: Show) -> Result<Exit, Failure> {
    let message: v1::Proof = read(&read_paper(proof, PROOF)?, &proof.display().to_string())?;
    let proven = check_proof(genesis, &message).map_err(|error| {
        Failure::new(format_args!("{} proves nothing: {error}", proof.display()))
            .next("ask whoever gave it to you for the proof again, and make sure the genesis is of the same network")
    })?;
    if let Some(file) = file {
        let (want, got) = match (proven.file, proven.record) {
            (Some(digest), _) => (digest, file_digest(file)?),
            (None, Some(record)) => (record.plaintext_digest, contents_digest(file)?),
            (None, None) => {
                return Err(Failure::new(format_args!("{} is sound, and about no file", proof.display()))
                    .next("check it without `--file`"));
            }
        };
        if want != got {
            let (file, proof) = (file.display(), proof.display());
            let other = format_args!("{file} is not the file that {proof} is about: it was changed, or is another one");
            return Err(Failure::new(other).next("the proof itself is sound: look for the file as it was then"));
        }
    }
    show.answer(&told(&proven, file), |_| words(&proven, file));
    Ok(Exit::Done)
}

fn told(proven: &Proven, file: Option<&Path>) -> serde_json::Value {
    json!({
        "proven": true, "what": what(proven), "height": proven.height, "time_ms": proven.time_ms,
        "uncertainty_ms": proven.uncertainty_ms, "author": proven.author, "sequence": proven.sequence,
        "entry": proven.entry_digest, "votes": proven.votes, "validators": proven.validators, "file": file,
        "record": proven.record.map(|it| it.record), "contents": proven.record.map(|it| it.plaintext_digest),
    })
}

fn words(proven: &Proven, file: Option<&Path>) -> String {
    let time = format!("{}, within {} s", date(proven.time_ms), proven.uncertainty_ms / 1000);
    let mut text = format!(
        "proven: {}, entry {} of node {}\nby:     the block at height {}, signed by {} of {} validators, at {time}\n",
        what(proven),
        proven.sequence,
        proven.author,
        count(proven.height.0),
        proven.votes,
        proven.validators
    );
    if let Some(record) = proven.record {
        text += &format!("record: {}, contents {}\n", record.record, record.plaintext_digest);
    }
    if let Some(file) = file {
        let which = if proven.record.is_some() { "has the contents of the record" } else { "is the one notarised" };
        text += &format!("file:   {} {which}, unchanged\n", file.display());
    }
    text
}

/// RFC 3339, to the second; seconds since 1970 where no calendar reaches.
fn date(time_ms: u64) -> String {
    let time_s = time_ms / 1000;
    let date = i64::try_from(time_s).ok().and_then(|time_s| UtcDateTime::from_unix_timestamp(time_s).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{time_s} s since 1970"))
}

fn what(proven: &Proven) -> &'static str {
    match proven.entry.operation {
        _ if proven.record.is_some() => "a record was in a pack that was committed",
        Some(Operation::Notarise(_)) => "a file was notarised",
        Some(Operation::Accuse(_)) => "evidence was shown that somebody signed two things that exclude each other",
        Some(Operation::Propose(_)) => "a change was proposed to the members",
        Some(Operation::Approve(_)) => "a proposal was approved",
        Some(Operation::CommitPack(_)) => "a pack of records was committed",
        Some(Operation::RetirePack(_)) => "a pack was gathered into another",
        Some(Operation::PlaceShard(_)) => "a shard was placed",
        Some(Operation::Admit(_)) => "an organisation was admitted",
        Some(Operation::AddNode(_)) => "a node was certified",
        Some(Operation::RetireNode(_)) => "a node was retired",
        Some(Operation::Condemn(_)) => "a node that did not show that it has what it should was condemned",
        Some(Operation::Absolve(_)) => "a node was condemned no more",
        None => "an entry of a kind this version does not know was written",
    }
}

pub(crate) fn read<M: Limited>(bytes: &[u8], what: &str) -> Result<M, Failure> {
    decode(bytes).map_err(|error| Failure::new(format_args!("{what}: {error}")))
}

pub(crate) fn write_paper(path: &Path, format: &str, says: &serde_json::Value, bytes: &[u8]) -> Result<(), Failure> {
    let paper = Paper { format: format.to_owned(), says: says.clone(), bytes: BASE64.encode(bytes) };
    let text = serde_json::to_string_pretty(&paper).expect("texts and numbers become JSON") + "\n";
    std::fs::write(path, text).map_err(|error| Failure::file(path, error))
}

/// The canonical bytes in a file of this format.
pub(crate) fn read_paper(path: &Path, format: &str) -> Result<Vec<u8>, Failure> {
    read_whole_paper(path, format).map(|(bytes, _)| bytes)
}

/// The same, with what it says to people.
pub(crate) fn read_whole_paper(path: &Path, format: &str) -> Result<(Vec<u8>, serde_json::Value), Failure> {
    let paper = paper(path)?;
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::new(format_args!("{}: {what}", path.display())).next("ask whoever gave it to you for it again")
    };
    if paper.format != format {
        let other = format_args!("it is a \"{}\", a \"{format}\" is due", paper.format).to_string();
        return Err(wrong(&other).next("pass the file that the command's help names"));
    }
    Ok((BASE64.decode(paper.bytes.as_bytes()).map_err(|error| wrong(&error))?, paper.says))
}

/// What a file says that it is.
fn paper_format(path: &Path) -> Result<String, Failure> {
    paper(path).map(|paper| paper.format)
}

fn paper(path: &Path) -> Result<Paper, Failure> {
    let file = |error| Failure::file(path, error);
    let len = std::fs::metadata(path).map_err(file)?.len();
    let wrong = |what: &dyn std::fmt::Display| Failure::new(format_args!("{}: {what}", path.display()));
    if len > FILE_LEN_MAX {
        return Err(wrong(&"too long to be one of ours"));
    }
    let text = std::fs::read_to_string(path).map_err(file)?;
    serde_json::from_str(&text).map_err(|error| wrong(&error).next("pass a file that `bithealth ledger` wrote"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_as_far_as_the_calendar_reaches() {
        assert_eq!(date(1_795_465_424_999), "2026-11-23T20:23:44Z");
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(u64::MAX), "18446744073709551 s since 1970");
    }

    #[test]
    fn what_to_prove_is_told_by_its_form() {
        assert!(matches!(proof_of(&"ab".repeat(16)), Some(ProofOf::Record(_))));
        assert!(matches!(proof_of(&"ab".repeat(32)), Some(ProofOf::Commitment(_))));
        assert!(matches!(proof_of(&format!("{}:7", "ab".repeat(32))), Some(ProofOf::Entry(_))));
        assert!(proof_of("x-ray.proof.json").is_none());
    }

    #[test]
    fn a_paper_reads_back_and_another_format_or_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.json");
        write_paper(&path, PROOF, &json!({}), b"bytes").unwrap();
        assert_eq!(read_paper(&path, PROOF).unwrap(), b"bytes");
        let error = read_paper(&path, GENESIS).unwrap_err();
        assert!(error.what.contains("\"bithealth genesis 1\" is due"), "{}", error.what);
        std::fs::write(&path, "{").unwrap();
        assert!(read_paper(&path, PROOF).unwrap_err().what.contains("paper.json"));
        assert!(read_paper(&folder.path().join("absent"), PROOF).unwrap_err().what.contains("absent"));
    }
}
