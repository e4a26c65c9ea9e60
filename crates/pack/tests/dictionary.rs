//! What the shipped dictionary gains on documents it was not trained on.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bithealth_pack::{DICTIONARY_FHIR1, DICTIONARY_INPUT_MAX, ZSTD_LEVEL};
use flate2::read::GzDecoder;
use zstd::bulk::Compressor;
use zstd::dict::EncoderDictionary;

/// The Synthea bundles, or nothing where the data is not at hand and need not be.
fn bundles() -> Option<Vec<String>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/fhir/synthea"));
    if !folder.is_dir() {
        let required = ["BITHEALTH_REQUIRE_DATA", "CI"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!required, "the real data is missing: {} is no folder", folder.display());
        eprintln!("SKIPPED: {} is no folder, so the dictionary is not measured", folder.display());
        return None;
    }
    let mut paths: Vec<PathBuf> = ["smart-r4-2019", "uscore-hiv-2021"]
        .iter()
        .flat_map(|name| fs::read_dir(folder.join(name)).expect("the folder can be read"))
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    paths.sort();
    // Every fourth bundle is enough for a figure, and keeps the test short.
    Some(paths.iter().step_by(4).map(|path| read(path)).collect())
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).expect("the file can be read");
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("the file is gzip of text");
        return text;
    }
    String::from_utf8(bytes).expect("the file is text")
}

/// The resources of a bundle, in exactly the bytes they have there.
fn resources(bundle: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = bundle;
    while let Some(at) = rest.find("\"resource\":") {
        rest = rest[at + "\"resource\":".len()..].trim_start();
        let (mut depth, mut in_string, mut escaped) = (0, false, false);
        let end = rest.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = !in_string,
                b'{' if !in_string => depth += 1,
                b'}' if !in_string => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let (resource, behind) = rest.split_at(end.expect("the bundle ends") + 1);
        found.push(resource);
        rest = behind;
    }
    found
}

/// Without the white space between tokens.
fn compact(document: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keeps = |c: &char| {
        let keeps = in_string || !c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        keeps
    };
    document.chars().filter(keeps).collect()
}

struct Figure {
    ratio: f64,
    mb_per_s: f64,
}

fn measure(documents: &[String], mut compressor: Compressor<'_>) -> Figure {
    let plain: usize = documents.iter().map(String::len).sum();
    let start = Instant::now();
    let sealed: usize = documents.iter().map(|text| compressor.compress(text.as_bytes()).expect("fits").len()).sum();
    Figure { ratio: plain as f64 / sealed as f64, mb_per_s: plain as f64 / 1e6 / start.elapsed().as_secs_f64() }
}

#[test]
fn small_fhir_documents_shrink_more_with_the_dictionary_than_without() {
    let Some(bundles) = bundles() else { return };
    let as_written: Vec<String> = bundles.iter().flat_map(|bundle| resources(bundle)).map(str::to_owned).collect();
    let compacted = as_written.iter().map(|text| compact(text)).collect();
    for (layout, documents) in [("as written", as_written), ("compact", compacted)] {
        let all: Vec<String> =
            documents.into_iter().filter(|text| (1 << 10..DICTIONARY_INPUT_MAX).contains(&text.len())).collect();
        let documents: Vec<String> = all.iter().filter(|text| text.len() <= 20 << 10).cloned().collect();
        assert!(documents.len() > 500, "{} documents are too few to measure on", documents.len());
        for level in [1, ZSTD_LEVEL, 6, 9] {
            let without = measure(&documents, Compressor::new(level).expect("a level of zstd"));
            let prepared = EncoderDictionary::copy(DICTIONARY_FHIR1, level);
            let with = measure(&documents, Compressor::with_prepared_dictionary(&prepared).expect("a dictionary"));
            let gain = with.ratio / without.ratio;
            println!(
                "{layout}, {} documents, level {level}: ratio {:.2} without, {:.2} with the dictionary (gain {gain:.2}); \
                 {:.0} and {:.0} MB/s",
                documents.len(),
                without.ratio,
                with.ratio,
                without.mb_per_s,
                with.mb_per_s
            );
            assert!(gain > 1.3, "the dictionary gains {gain:.2} at level {level} on documents {layout}");
        }
    }
}

#[test]
fn resources_are_cut_out_as_they_are_written() {
    let bundle = r#"{"entry": [ { "resource": {"a": "}\"{", "b": {} } }, {"resource":{}}]}"#;
    assert_eq!(resources(bundle), [r#"{"a": "}\"{", "b": {} }"#, "{}"]);
    assert_eq!(compact(r#"{"a b": [ 1, "\" c" ] }"#), r#"{"a b":[1,"\" c"]}"#);
}
