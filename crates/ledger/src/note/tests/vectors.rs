//! Notes that others signed.

use super::*;

/// The example of golang.org/x/mod/sumdb/note, and the seed of its key, which is public.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
const PETER_NOTE: &str = "\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
";

/// A checkpoint of a public log of Certificate Transparency, signed twice by the log (first as RFC 6962 has it, which we
/// do not check) and by four witnesses.
const ARCHE: &str = "\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

\u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
\u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
\u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
\u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
\u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
\u{2014} witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
const ARCHE_LOG: &str = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const ARCHE_WITNESSES: [&str; 4] = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
];
/// When all four cosigned.
const ARCHE_TIME_S: u64 = 0x6a12_2120;

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

/// Every note that differs from this one in one bit.
fn flipped(note: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..note.len() * 8).map(|bit| {
        let mut flipped = note.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

#[test]
fn the_note_of_the_reference_implementation_is_signed_the_same_here() {
    let seed = BASE64.decode(PETER_SEED.as_bytes()).unwrap();
    let peter = SigningKey::from_bytes(&seed.try_into().unwrap());
    let note = parse(PETER_NOTE).unwrap();
    assert_eq!(verify_note(&note, &key(PETER)), Ok(()));
    assert_eq!(sign_note(note.text(), &key(PETER), |text| peter.sign(text).to_bytes()), Ok(note));
}

#[test]
fn a_checkpoint_of_a_public_log_and_its_witnesses_verifies() {
    let note = parse(ARCHE).unwrap();
    assert_eq!(note.to_string(), ARCHE);
    assert_eq!(verify_note(&note, &key(ARCHE_LOG)), Ok(()));
    for witness in ARCHE_WITNESSES {
        assert_eq!(verify_cosignature(&note, &key(witness)), Ok(ARCHE_TIME_S), "{witness}");
    }
}

#[test]
fn no_bit_of_a_cosigned_checkpoint_can_change() {
    let note = cosigned(TIME_S).to_string();
    let (log, witness) = (log_key(), witness_key());
    for (bit, flipped) in flipped(note.as_bytes()) {
        let verified = SignedNote::parse(&flipped).and_then(|note| {
            verify_note(&note, &log)?;
            verify_cosignature(&note, &witness)
        });
        assert!(verified.is_err(), "bit {bit}");
    }
}

// ---- A log of fifteen entries, with a checkpoint after each.

/// The public data; `None`, said loudly, where it is not there and need not be.
fn folder() -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = data.join("crypto/tlog-tiles");
    if folder.is_dir() {
        return Some(folder);
    }
    let due = std::env::var_os("BITHEALTH_REQUIRE_DATA").is_some() || std::env::var_os("CI").is_some();
    assert!(!due, "{} is missing: fetch the public data, or unset BITHEALTH_REQUIRE_DATA and CI", folder.display());
    eprintln!("SKIPPED: {} is missing, so no checkpoint of it was checked", folder.display());
    None
}

/// The hashes of all entries: in its tiles the log keeps them and, behind a length of two bytes each, the entries.
fn leaf_hashes(folder: &Path) -> Vec<Digest> {
    let tile = std::fs::read(folder.join("log/tile/0/000.p/15")).unwrap();
    let entries = std::fs::read(folder.join("log/tile/entries/000.p/15")).unwrap();
    let (mut rest, mut hashes) = (entries.as_slice(), Vec::new());
    while let Some((len, behind)) = rest.split_first_chunk() {
        let (entry, next) = behind.split_at(usize::from(u16::from_be_bytes(*len)));
        hashes.push(leaf_hash(entry));
        rest = next;
    }
    let kept: Vec<_> = tile.chunks(Digest::LEN).map(|hash| Digest::try_from(hash).unwrap()).collect();
    assert_eq!(hashes, kept);
    hashes
}

#[test]
fn the_checkpoints_of_a_real_log_verify_and_have_the_roots_of_its_entries() {
    let Some(folder) = folder() else { return };
    let key = key(std::fs::read_to_string(folder.join("public-key.txt")).unwrap().trim_end());
    let hashes = leaf_hashes(&folder);
    assert_eq!(hashes.len(), 15);
    for len in 0..=hashes.len() {
        let bytes = std::fs::read(folder.join(format!("log/checkpoint.{len}"))).unwrap();
        let note = SignedNote::parse(&bytes).unwrap();
        assert_eq!(note.to_string().as_bytes(), bytes);
        assert_eq!(verify_note(&note, &key), Ok(()), "checkpoint {len}");

        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!(checkpoint.origin, key.name());
        assert_eq!((checkpoint.len, checkpoint.root), (len as u64, root(&hashes[..len])));
        assert_eq!(checkpoint.text().unwrap(), note.text());

        for (bit, flipped) in flipped(&bytes) {
            let verified = SignedNote::parse(&flipped).and_then(|note| verify_note(&note, &key));
            assert!(verified.is_err(), "bit {bit} of checkpoint {len}");
        }
    }
}
