//! The real documents beside this repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bithealth_fhir::{Category, MediaType, SNIFF_LEN, SubjectError, read, recognise};

/// The files below a folder of the real data, or `None` where the data may be missing.
fn files(folder: &str) -> Option<Vec<PathBuf>> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(folder);
    if !root.is_dir() {
        let required = ["BITHEALTH_REQUIRE_DATA", "CI"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!required, "shared/data/{folder} is missing beside the repository, and this run requires it");
        eprintln!("SKIPPED: shared/data/{folder} is missing beside the repository");
        return None;
    }
    let (mut found, mut folders) = (Vec::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Some(found)
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(SNIFF_LEN)]
}

/// Reads a document as the node does: recognised by its beginning, then read whole.
fn reading(path: &Path) -> (Result<String, SubjectError>, Category) {
    let bytes = fs::read(path).unwrap();
    let form = recognise(name(path), head(&bytes));
    assert_eq!(form.media_type, MediaType::FhirJson, "{}", path.display());
    let reading = read(&bytes, form);
    (reading.subject.map(|subject| subject.into_string()), reading.category)
}

#[test]
fn every_synthea_bundle_is_about_one_patient() {
    let Some(files) = files("fhir/synthea") else { return };
    let mut patients = BTreeMap::new();
    for path in &files {
        let (subject, _) = reading(path);
        if name(path).starts_with("hospital") || name(path).starts_with("practitioner") {
            assert_eq!(subject, Err(SubjectError::NoPatient), "{}", path.display());
            continue;
        }
        let subject = subject.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (system, value) = subject.split_once('|').unwrap();
        assert_eq!(system, "http://hospital.smarthealthit.org", "the medical record number is preferred");
        assert!(name(path).contains(value), "{}: {subject}", path.display());
        patients.insert(subject, path);
    }
    assert_eq!(patients.len(), 48);
}

#[test]
fn a_cohort_has_several_patients_and_definitions_have_none() {
    let Some(files) = files("fhir/large") else { return };
    for path in files {
        let expected = if name(&path).contains("cohort") {
            SubjectError::SeveralPatients { count: 5 }
        } else {
            SubjectError::NoPatient
        };
        assert_eq!(reading(&path).0, Err(expected), "{}", path.display());
    }
}

#[test]
fn every_patient_summary_has_a_patient_and_is_a_summary() {
    let Some(documents) = files("fhir/ips/connectathon") else { return };
    let official = files("fhir/ips/official-1.1.0").unwrap_or_default();
    let bundles: Vec<_> = official.iter().filter(|path| name(path).starts_with("Bundle-")).chain(&documents).collect();
    assert_eq!(bundles.len(), 23);
    for path in bundles {
        let (subject, category) = reading(path);
        assert!(subject.is_ok(), "{}: {subject:?}", path.display());
        assert_eq!(category, Category::Summary, "{}", path.display());
    }
}

#[test]
fn every_other_fhir_example_tells_its_patient_or_that_it_has_none() {
    for folder in ["fhir/ips/official-1.1.0", "fhir/mhd", "fhir/balp", "fhir/consent", "fhir/eu-health-data-api"] {
        let Some(files) = files(folder) else { return };
        for path in files.iter().filter(|path| name(path).ends_with(".json")) {
            let (subject, _) = reading(path);
            let fine = matches!(subject, Ok(_) | Err(SubjectError::NoPatient));
            assert!(fine, "{}: {subject:?}", path.display());
        }
    }
}

#[test]
fn every_clinical_document_names_its_patient() {
    let Some(files) = files("ccda") else { return };
    assert_eq!(files.len(), 10);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let form = recognise(name(&path), head(&bytes));
        assert_eq!(form.media_type, MediaType::Cda, "{}", path.display());
        let reading = read(&bytes, form);
        let subject = reading.subject.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(subject.expose().starts_with("urn:oid:"), "{}", path.display());
        let expected = match name(&path) {
            "CCD_1.xml" => Some(("urn:oid:2.16.840.1.113883.4.1|444222222", Category::Summary)),
            "Discharge_Summary.xml" => Some(("urn:oid:2.16.840.1.113883.19.5.99999.2|998991", Category::Notes)),
            "Diagnostic_Imaging_Report.xml" => Some(("urn:oid:2.16.840.1.113883.19.5|12345", Category::Imaging)),
            _ => None,
        };
        if let Some(expected) = expected {
            assert_eq!((subject.expose(), reading.category), expected);
        }
    }
}

#[test]
fn images_are_recognised_whatever_their_transfer_syntax() {
    let Some(files) = files("dicom") else { return };
    let mut images = 0;
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let form = recognise(name(&path), head(&bytes));
        let other = [".txt", ".json", ".dump", ".icc", "README"].iter().any(|end| name(&path).ends_with(end));
        assert_eq!(form.media_type == MediaType::Dicom, !other, "{}: {form:?}", path.display());
        assert_eq!(form.gzip, name(&path).ends_with(".gz"));
        images += usize::from(!other);
    }
    assert!(images > 180, "{images}");
}

#[test]
fn genomes_are_recognised() {
    let Some(files) = files("genomics") else { return };
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let form = recognise(name(&path), head(&bytes));
        let (expected, gzip) = match name(&path).trim_end_matches(".gz").rsplit('.').next() {
            Some("bam") => (MediaType::Bam, false),
            Some("bai") => (MediaType::Bai, false),
            Some("bcf") => (MediaType::Bcf, false),
            Some("cram") => (MediaType::Cram, false),
            Some("vcf") => (MediaType::Vcf, false),
            Some("sam") => (MediaType::Sam, false),
            Some("fa") => (MediaType::Fasta, true),
            Some("json") => (MediaType::Json, false),
            Some("c4gh") if !name(&path).contains("bad-magic") => (MediaType::Crypt4gh, false),
            _ => continue,
        };
        assert_eq!((form.media_type, form.gzip), (expected, gzip), "{}", path.display());
    }
}

#[test]
fn cut_real_documents_give_named_errors() {
    let Some(files) = files("fhir/synthea/smart-r4-2019") else { return };
    for path in files.iter().take(6) {
        let bytes = fs::read(path).unwrap();
        let form = recognise(name(path), head(&bytes));
        let subject = read(&bytes[..bytes.len() / 2], form).subject;
        let named = matches!(subject, Err(SubjectError::Gzip { .. } | SubjectError::Json { .. }));
        assert!(named, "{}: {subject:?}", path.display());
    }
}
