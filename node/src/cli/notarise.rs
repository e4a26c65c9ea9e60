//! `notarise`: a salted commitment to a file on the ledger, and the proof of it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bithealth_http::ErrorCode;
use bithealth_http::api::{EntryAt, ProofOf};
use bithealth_ledger::commitment;
use bithealth_merkle::leaf_hash;
use bithealth_pack::plaintext_digest;
use bithealth_proto::v1;
use bithealth_types::{CHUNK_LEN, Digest};
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::args::NotariseArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::ledger::{read, read_paper, save_proof, write_paper};
use super::show::Show;
use crate::client::{Client, ClientError};

/// What is written while no block covers the commitment: its bytes are an `Opening`.
const RECEIPT: &str = "bithealth receipt 1";
/// How often the node is asked whether a block covers it.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Runs `notarise`.
pub(crate) async fn run(client: &Client, args: NotariseArgs, show: Show) -> Result<Exit, Failure> {
    let output = args.output.unwrap_or_else(|| beside(&args.file));
    if output.exists() {
        return Err(Failure::new(format_args!("{} exists", output.display())).next("pass another name with -o"));
    }
    let file = file_digest(&args.file)?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).expect("the system's random source answers");
    let opening = v1::Opening { salt: Bytes::copy_from_slice(&salt), file: Bytes::copy_from_slice(&file.0) };
    // Before the ledger knows of it: a commitment whose salt is lost proves nothing.
    let says = json!({ "commitment": commitment(&salt, &file), "finish": "bithealth ledger prove THIS -o FILE" });
    write_paper(&output, RECEIPT, &says, &bithealth_proto::encode(&opening))?;
    let at = client.notarise(&commitment(&salt, &file)).await?;
    let deadline = tokio::time::Instant::now() + args.timeout;
    loop {
        match proof(client, at, opening.clone()).await {
            Ok(proof) => return save_proof(&output, &proof, show),
            Err(error) if !is_too_early(&error) => return Err(error.into()),
            Err(_) if tokio::time::Instant::now() >= deadline => return Err(unfinished(&output)),
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// Makes a proof of a receipt that `notarise` left behind.
pub(crate) async fn finish(client: &Client, receipt: &Path, output: &Path, show: Show) -> Result<Exit, Failure> {
    let opening: v1::Opening = read(&read_paper(receipt, RECEIPT)?, &receipt.display().to_string())?;
    let field = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| Failure::new("the receipt is damaged"));
    let commitment = commitment(&field(&opening.salt)?, &Digest(field(&opening.file)?));
    let bytes = client.prove(&ProofOf::Commitment(commitment)).await?;
    let proof = v1::Proof { opening: Some(opening), ..read(&bytes, "the proof")? };
    save_proof(output, &proof, show)
}

async fn proof(client: &Client, at: EntryAt, opening: v1::Opening) -> Result<v1::Proof, ClientError> {
    let bytes = client.prove(&ProofOf::Entry(at)).await?;
    let proof: v1::Proof = bithealth_proto::decode(&bytes).expect("the node of this version writes canonical proofs");
    Ok(v1::Proof { opening: Some(opening), ..proof })
}

fn is_too_early(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(body) if body.error == ErrorCode::NotFinal)
}

fn unfinished(output: &Path) -> Failure {
    let output = output.display();
    Failure { exit: Exit::LocalOnly, ..Failure::new("no block covers it yet: too few validators are there") }
        .next(format!("keep {output}, and run `bithealth ledger prove {output} -o PROOF` once blocks go on"))
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".proof.json");
    PathBuf::from(name)
}

/// SHA-256 of a file, read in pieces.
pub(crate) fn file_digest(path: &Path) -> Result<Digest, Failure> {
    let mut file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|error| Failure::file(path, error))? {
            0 => return Ok(Digest(hash.finalize().into())),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// The digest of a file's contents as a record has it: Merkle root (RFC 9162) over chunks of 256 KiB.
pub(crate) fn contents_digest(path: &Path) -> Result<Digest, Failure> {
    let unreadable = |error| Failure::file(path, error);
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut chunk = Vec::with_capacity(CHUNK_LEN);
    let mut digests = Vec::new();
    loop {
        chunk.clear();
        file.by_ref().take(CHUNK_LEN as u64).read_to_end(&mut chunk).map_err(unreadable)?;
        // An empty record has one chunk, an empty one.
        if chunk.is_empty() && !digests.is_empty() {
            return Ok(plaintext_digest(&digests));
        }
        digests.push(leaf_hash(&chunk));
        if chunk.len() < CHUNK_LEN {
            return Ok(plaintext_digest(&digests));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contents_of_a_file_are_known_by_the_root_over_its_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contents");
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 2 * CHUNK_LEN, 3 * CHUNK_LEN + 5] {
            let contents: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &contents).unwrap();
            let digests: Vec<_> = bithealth_pack::cut(&contents).map(|(_, _, chunk)| leaf_hash(chunk)).collect();
            assert_eq!(contents_digest(&path).unwrap(), plaintext_digest(&digests), "{len} bytes");
        }
    }

    #[test]
    fn a_file_is_known_by_its_sha_256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-4's example
        assert_eq!(file_digest(&path).unwrap().to_string(), want);
        assert_eq!(beside(&path), Path::new("abc.proof.json"));
    }
}
