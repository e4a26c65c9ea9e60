//! The history by its headers alone: followed from the genesis on, from a node or from a file, and what was shown against
//! those who signed two things.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use bithealth_http::api::HeaderRange;
use bithealth_ledger::{Accused, Light, check_evidence};
use bithealth_proto::{Limited, v1};
use bithealth_types::{GenesisId, Height};
use bytes::{Buf, Bytes};
use serde_json::json;

use super::exit::Exit;
use super::failure::Failure;
use super::ledger::{EVIDENCE, GENESIS, read, read_paper};
use super::show::{Show, count, counted_as};
use crate::client::Client;

/// Bytes in front of each header, in an answer as in a file: its length, big endian.
const FRAME_HEAD_LEN: usize = 4;

/// Where headers come from, one after the other.
enum Headers<'a> {
    Node { client: &'a Client, next: Height, batch: Bytes },
    File { name: String, file: BufReader<File> },
}

impl<'a> Headers<'a> {
    fn of_node(client: &'a Client) -> Self {
        Self::Node { client, next: Height(1), batch: Bytes::new() }
    }

    fn of_file(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::file(path, error))?;
        Ok(Self::File { name: path.display().to_string(), file: BufReader::new(file) })
    }

    /// The next one; `None` behind the last.
    async fn next(&mut self) -> Result<Option<v1::SignedHeader>, Failure> {
        let frame = match self {
            Self::Node { client, next, batch } => {
                if batch.is_empty() {
                    *batch = client.headers(HeaderRange { from: *next }).await?;
                }
                if batch.is_empty() {
                    return Ok(None);
                }
                next.0 += 1;
                take_frame(batch).ok_or_else(|| Failure::new("the node's answer is cut short"))?
            }
            Self::File { name, file } => match read_frame(file) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Err(Failure::new(format_args!("{name}: {error}"))),
            },
        };
        read(&frame, "a header").map(Some)
    }
}

fn take_frame(batch: &mut Bytes) -> Option<Bytes> {
    let len = u32::from_be_bytes(*batch.first_chunk::<FRAME_HEAD_LEN>()?) as usize;
    batch.advance(FRAME_HEAD_LEN);
    (len <= batch.len()).then(|| batch.split_to(len))
}

fn read_frame(file: &mut impl Read) -> std::io::Result<Option<Bytes>> {
    let mut head = [0; FRAME_HEAD_LEN];
    match file.read(&mut head)? {
        0 => return Ok(None),
        got => file.read_exact(&mut head[got..])?,
    }
    let len = u32::from_be_bytes(head) as usize;
    if len > v1::SignedHeader::LEN_MAX {
        let what = format!("a header of {len} bytes, at most {} are due", v1::SignedHeader::LEN_MAX);
        return Err(std::io::Error::other(what));
    }
    let mut frame = vec![0; len];
    file.read_exact(&mut frame)?;
    Ok(Some(frame.into()))
}

/// `ledger headers`: all headers with their certificates, for who has no node.
pub(crate) async fn export(client: &Client, output: &Path, show: Show) -> Result<Exit, Failure> {
    let failed = |error| Failure::file(output, error);
    let mut file = BufWriter::new(File::create(output).map_err(failed)?);
    let (mut next, mut bytes) = (Height(1), 0);
    loop {
        let mut batch = client.headers(HeaderRange { from: next }).await?;
        if batch.is_empty() {
            break;
        }
        file.write_all(&batch).map_err(failed)?;
        bytes += batch.len();
        while take_frame(&mut batch).is_some() {
            next.0 += 1;
        }
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
    let headers = next.0 - 1;
    show.answer(&json!({ "path": output, "headers": headers, "bytes": bytes }), |_| {
        let path = output.display();
        let headers = counted_as(headers, "header", "headers");
        format!("{path}: {headers}; anybody checks them: `bithealth ledger verify --headers {path} --genesis GENESIS`")
    });
    Ok(Exit::Done)
}

/// `ledger verify`: from a node, or from a file of headers with no node at all.
pub(crate) async fn verify(
    client: &Client,
    genesis: Option<&Path>,
    headers: Option<&Path>,
    show: Show,
) -> Result<Exit, Failure> {
    let genesis: v1::Genesis = match genesis {
        Some(path) => read(&read_paper(path, GENESIS)?, &path.display().to_string())?,
        None if headers.is_some() => {
            let what = Failure::usage("a file of headers is checked against a genesis that was kept elsewhere");
            return Err(what.next("pass --genesis FILE"));
        }
        None => read(&client.genesis().await?, "the node's genesis")?,
    };
    let mut headers = match headers {
        Some(path) => Headers::of_file(path)?,
        None => Headers::of_node(client),
    };
    let mut light = Light::new(&genesis).map_err(Failure::new)?;
    let mut votes = 0;
    while let Some(header) = headers.next().await? {
        advance(&mut light, &header)?;
        let signers = header.certificate.as_ref().map(|it| it.signers.clone()).unwrap_or_default();
        votes += u64::from(signers.iter().map(|byte| byte.count_ones()).sum::<u32>());
    }
    let told = json!({
        "height": light.height(), "digest": light.digest(), "votes": votes,
        "validators": light.validators().count(), "genesis": genesis.id(),
    });
    show.answer(&told, |_| {
        let blocks = counted_as(light.height().0, "block", "blocks");
        format!("{blocks} and {} votes are sound, from genesis {} to {}", count(votes), genesis.id(), light.digest())
    });
    Ok(Exit::Done)
}

fn advance(light: &mut Light, header: &v1::SignedHeader) -> Result<(), Failure> {
    let at = light.height().0 + 1;
    light.advance(header).map_err(|error| {
        Failure::new(format_args!("the history is false at height {at}: {error}"))
            .next("compare with another member's node, and tell the members: somebody shows a false history")
    })
}

/// `ledger check` of evidence: each piece convicts somebody by itself; a fork is shown against the headers before it.
pub(crate) async fn check(
    evidence: &Path,
    genesis: &v1::Genesis,
    headers: Option<&Path>,
    show: Show,
) -> Result<Exit, Failure> {
    let name = evidence.display();
    let set: v1::EvidenceSet = read(&read_paper(evidence, EVIDENCE)?, &name.to_string())?;
    let nothing = |error: &dyn std::fmt::Display| {
        Failure::new(format_args!("{name} convicts nobody: {error}"))
            .next("make sure the genesis is of the same network, and ask whoever gave it to you for the evidence again")
    };
    let id = genesis.id();
    let convicted = set.evidence.iter().map(|piece| check_evidence(&id, piece)).collect::<Result<Vec<_>, _>>();
    let convicted = convicted.map_err(|error| nothing(&error))?;
    let forked_at = match &set.fork {
        None => None,
        Some(fork) => Some(check_fork(fork, genesis, headers).await?),
    };
    if convicted.is_empty() && forked_at.is_none() {
        return Err(nothing(&"it is empty"));
    }
    let told = json!({ "convicted": convicted.iter().map(signer).collect::<Vec<_>>(), "forked_at": forked_at });
    show.answer(&told, |_| words(&convicted, forked_at, &id));
    Ok(Exit::Done)
}

fn signer(accused: &Accused) -> String {
    match accused {
        Accused::Author(node) => format!("node {node}"),
        Accused::Validator(key) => format!("validator {key}"),
    }
}

fn words(convicted: &[Accused], forked_at: Option<Height>, genesis: &GenesisId) -> String {
    let line = |accused: &Accused| match accused {
        Accused::Author(_) => format!("convicted: {} wrote two entries at one position\n", signer(accused)),
        Accused::Validator(_) => format!("convicted: {} cast two votes in one step of a round\n", signer(accused)),
    };
    let mut text: String = convicted.iter().map(line).collect();
    if let Some(height) = forked_at {
        text += &format!("forked:    two blocks of height {} were made final\n", count(height.0));
    }
    text + &format!("network:   {genesis}\n")
}

/// Both headers of a fork follow the same history, and differ.
async fn check_fork(fork: &v1::Fork, genesis: &v1::Genesis, headers: Option<&Path>) -> Result<Height, Failure> {
    let height = |signed: &Option<v1::SignedHeader>| signed.as_ref()?.header.as_ref().map(|header| header.height);
    let at = height(&fork.first).unwrap_or_default();
    let Some(path) = headers else {
        return Err(Failure::new(format_args!("it shows a fork at height {at}, which takes the headers before it"))
            .next("pass --headers FILE, which any member writes with `bithealth ledger headers -o FILE`"));
    };
    let (mut light, mut headers) = (Light::new(genesis).map_err(Failure::new)?, Headers::of_file(path)?);
    while light.height().0 + 1 < at {
        let header = headers.next().await?;
        let end = Failure::new(format_args!("{} ends at height {}", path.display(), light.height().0));
        advance(&mut light, &header.ok_or_else(|| end.next("ask a member for all headers up to the fork"))?)?;
    }
    let mut digests = Vec::new();
    for signed in [&fork.first, &fork.second] {
        let mut light = light.clone();
        advance(&mut light, signed.as_ref().unwrap_or(&v1::SignedHeader::default()))?;
        digests.push(light.digest());
    }
    if digests[0] == digests[1] {
        return Err(Failure::new("the two headers of the fork are the same: it shows nothing"));
    }
    Ok(Height(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_one_that_is_cut_or_too_long_is_refused() {
        let frame = |len: u32, bytes: &[u8]| [&len.to_be_bytes()[..], bytes].concat();
        let two = [frame(3, b"abc"), frame(0, b"")].concat();
        let mut file = &two[..];
        assert_eq!(read_frame(&mut file).unwrap().unwrap(), &b"abc"[..]);
        assert_eq!(read_frame(&mut file).unwrap().unwrap(), &b""[..]);
        assert!(read_frame(&mut file).unwrap().is_none());
        let mut batch = Bytes::from(two);
        assert_eq!((take_frame(&mut batch).unwrap(), take_frame(&mut batch).unwrap().len()), (Bytes::from("abc"), 0));
        assert!(take_frame(&mut Bytes::from(frame(4, b"abc"))).is_none());
        assert!(read_frame(&mut &frame(4, b"abc")[..]).is_err());
        assert!(read_frame(&mut &b"\0\0"[..]).is_err());
        let longest = v1::SignedHeader::LEN_MAX as u32;
        let error = read_frame(&mut &frame(longest + 1, b"")[..]).unwrap_err().to_string();
        assert!(error.contains("at most"), "{error}");
        assert!(read_frame(&mut &frame(longest, &vec![0; longest as usize])[..]).unwrap().is_some());
    }
}
