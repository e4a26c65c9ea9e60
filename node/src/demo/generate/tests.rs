use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use bithealth_fhir::{Category, Form, MediaType, SNIFF_LEN, read, recognise};
use serde_json::Value;

use super::*;

const KIB: u64 = 1024;

fn documents() -> Vec<Document> {
    Generator::new(7, 20, 400, 400 * 20 * KIB).collect()
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("reference") {
                found.push(reference.clone());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn as_many_documents_and_bytes_come_as_were_asked_for() {
    for (patients, records, bytes) in [(20, 400, 400 * 20 * KIB), (5, 300, 300 * 10 * KIB), (200, 200, 200 * 16 * KIB)]
    {
        let documents: Vec<_> = Generator::new(1, patients, records, bytes).collect();
        assert_eq!(documents.len(), records);
        let total: u64 = documents.iter().map(|document| document.bytes.len() as u64).sum();
        assert!(total.abs_diff(bytes) < bytes / 50, "{total} bytes, {bytes} were asked for");
        assert_eq!(documents.iter().map(|document| &document.patient).collect::<HashSet<_>>().len(), patients);
        assert_eq!(documents.iter().map(|document| &document.name).collect::<HashSet<_>>().len(), records);
    }
    assert_eq!(Generator::new(1, 0, 1, 0).count(), 1, "nobody is taken for one");
    assert_eq!(Generator::new(1, 5, 0, 1000).count(), 0);
}

#[test]
fn lengths_spread_around_the_mean() {
    let mut lengths: Vec<usize> = documents().iter().map(|document| document.bytes.len()).collect();
    lengths.sort_unstable();
    assert!(lengths[0] >= 1024 && lengths[399] <= 60 * 1024, "{} to {}", lengths[0], lengths[399]);
    assert!(lengths[40] < 8 * 1024 && lengths[360] > 30 * 1024, "{} and {}", lengths[40], lengths[360]);
}

#[test]
fn the_same_seed_gives_the_same_documents_and_another_seed_gives_others() {
    let first: Vec<_> = Generator::new(3, 10, 50, 500 * KIB).collect();
    assert_eq!(first, Generator::new(3, 10, 50, 500 * KIB).collect::<Vec<_>>());
    assert_ne!(first, Generator::new(4, 10, 50, 500 * KIB).collect::<Vec<_>>());
}

#[test]
fn every_document_is_a_resource_whose_references_lead_somewhere() {
    for document in documents() {
        let value: Value = serde_json::from_slice(&document.bytes).unwrap();
        assert!(value["resourceType"].is_string(), "{}", document.name);
        let entries = value["entry"].as_array().cloned().unwrap_or_default();
        let urls: HashSet<&str> = entries.iter().map(|entry| entry["fullUrl"].as_str().unwrap()).collect();
        assert_eq!(urls.len(), entries.len(), "{}: every entry has an address of its own", document.name);
        let mut found = Vec::new();
        references(&value, &mut found);
        for reference in found {
            let number = document.patient.split_once('|').unwrap().1;
            let leads = urls.contains(reference.as_str()) || reference == format!("Patient/{number}");
            assert!(leads, "{}: {reference}", document.name);
        }
    }
}

#[test]
fn a_reader_finds_the_patient_and_the_category_by_itself() {
    let mut categories = BTreeMap::new();
    for document in documents() {
        let form = recognise(&document.name, &document.bytes[..document.bytes.len().min(SNIFF_LEN)]);
        assert_eq!(form, Form::plain(MediaType::FhirJson));
        assert_eq!(form.outer(), document.media_type);
        let reading = read(&document.bytes, form);
        assert_eq!(reading.subject.unwrap().expose(), document.patient, "{}", document.name);
        assert_eq!(reading.category.as_str(), document.category, "{}", document.name);
        *categories.entry(document.category).or_insert(0) += 1;
    }
    assert_eq!(categories.len(), 7, "{categories:?}");
}

#[test]
fn a_large_file_is_an_image_of_exactly_its_length_that_does_not_compress() {
    let mut bytes = Vec::new();
    large(9, 300_001).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 300_001);
    let form = recognise("scan", &bytes[..SNIFF_LEN]);
    assert_eq!((form.media_type, Category::of_media_type(form.media_type)), (MediaType::Dicom, Category::Imaging));
    let counts = bytes.iter().fold([0_u32; 256], |mut counts, byte| {
        counts[usize::from(*byte)] += 1;
        counts
    });
    assert!(counts[1..].iter().all(|count| (900..1500).contains(count)), "every byte value is about as frequent");
    let mut again = Vec::new();
    let mut image = large(9, 300_001);
    let mut part = [0; 777];
    while let count @ 1.. = image.read(&mut part).unwrap() {
        again.extend_from_slice(&part[..count]);
    }
    assert_eq!(again.len(), bytes.len());
    let mut short = Vec::new();
    assert_eq!(large(9, 10).read_to_end(&mut short).unwrap(), 10);
}
