//! Makes up the documents of a demonstration: FHIR R4 in JSON, from a seed alone.
//!
//! The same arguments give the same bytes, on every machine. No person is described: names are syllables with a number
//! behind them, dates and values are drawn. Every document tells its patient as a real one does (a Patient with a medical
//! record number, or a reference with its identifier), and every reference inside a Bundle leads to one of its entries.

mod draw;
mod image;
mod person;
mod resources;
mod summary;
mod visit;
mod words;

pub use image::{Large, large};

use draw::Draw;
use person::Person;
use visit::{Kind, Visit};

/// The media type of every generated [`Document`].
pub const MEDIA_TYPE: &str = "application/fhir+json";

/// The system of the identifiers of generated patients.
pub const PATIENT_SYSTEM: &str = "https://bithealth.example/patients";

/// A document at least this long is a Bundle; a shorter one is a single resource.
const BUNDLE_LEN_MIN: usize = 4096;

/// One generated document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The patient, as `system|value`.
    pub patient: String,
    /// The category of the folder it belongs to.
    pub category: &'static str,
    /// A file name that no other document of the same generator has.
    pub name: String,
    /// Always [`MEDIA_TYPE`].
    pub media_type: &'static str,
    /// The document.
    pub bytes: Vec<u8>,
}

/// Makes documents, one after the other: first a summary of every patient, then whatever visits bring.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    patients: usize,
    records: usize,
    made: usize,
    bytes_left: u64,
}

impl Generator {
    /// A generator of `records_target` documents about `patients` people (at least one), of about `bytes_target` bytes in
    /// all: lengths are spread evenly from a seventh of the mean to nearly twice the mean, and what one document lacks or
    /// has too much is made up by those after it. None is shorter than about 1 KiB, no
    /// summary than about 11 KiB.
    pub fn new(seed: u64, patients: usize, records_target: usize, bytes_target: u64) -> Self {
        Self { seed, patients: patients.max(1), records: records_target, made: 0, bytes_left: bytes_target }
    }
}

impl Iterator for Generator {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        let records_left = self.records.checked_sub(self.made).filter(|left| *left > 0)?;
        let index = self.made;
        let person = Person::new(self.seed, index % self.patients);
        let mut draw = Draw::new(self.seed, index as u64);
        let mean = self.bytes_left / records_left as u64;
        let len = usize::try_from(mean * (150 + draw.below(1700) as u64) / 1000).unwrap_or(usize::MAX);
        let kind = if index < self.patients { Kind::Summary } else { draw.pick(Kind::AFTER_SUMMARY) };
        let text = Visit::new(draw, &person, len >= BUNDLE_LEN_MIN).write(kind, len);
        self.made += 1;
        self.bytes_left = self.bytes_left.saturating_sub(text.len() as u64);
        Some(Document {
            patient: format!("{PATIENT_SYSTEM}|{}", person.number),
            category: kind.category(),
            name: format!("{}-{}-{index:06}.json", person.number, kind.name()),
            media_type: MEDIA_TYPE,
            bytes: text.into_bytes(),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.records - self.made, Some(self.records - self.made))
    }
}

impl ExactSizeIterator for Generator {}

#[cfg(test)]
mod tests;
