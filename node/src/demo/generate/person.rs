//! The people who do not exist.

use super::draw::{Draw, fill};
use super::{PATIENT_SYSTEM, words};

/// Streams from here on are people's, those before are documents'.
const STREAM_OF_PEOPLE: u64 = 1 << 63;

/// A made-up patient: the same for the same seed and index.
pub(super) struct Person {
    /// `P000123`: the medical record number, and the id of the Patient resource.
    pub(super) number: String,
    pub(super) uuid: String,
    pub(super) name: String,
    given: String,
    family: String,
    gender: &'static str,
    birth_day: String,
    city: String,
    language: &'static str,
}

impl Person {
    pub(super) fn new(seed: u64, index: usize) -> Self {
        let mut draw = Draw::new(seed, STREAM_OF_PEOPLE | index as u64);
        let (given, family) = (word(&mut draw, 2), word(&mut draw, 3));
        Self {
            number: format!("P{index:06}"),
            uuid: draw.uuid(),
            name: format!("{given} {family}"),
            given,
            family,
            gender: draw.pick(&["female", "male", "other"]),
            birth_day: format!("{}-{:02}-{:02}", 1930 + draw.below(84), 1 + draw.below(12), 1 + draw.below(28)),
            city: word(&mut draw, 3),
            language: draw.pick(&["en", "fr", "de", "nl", "es", "pt", "pl"]),
        }
    }

    /// The Patient resource.
    pub(super) fn write(&self, out: &mut String) {
        fill(
            out,
            r#"{"resourceType":"Patient","id":"$0","meta":{"profile":["http://hl7.org/fhir/uv/ips/StructureDefinition/Patient-uv-ips"]},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>$1, $2, born $3, record number $0. A made-up person.</p></div>"},"identifier":[{"use":"usual","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR","display":"Medical record number"}]},"system":"$4","value":"$0"}],"active":true,"name":[{"use":"official","family":"$5","given":["$6"]}],"gender":"$2","birthDate":"$3","address":[{"use":"home","city":"$7","country":"XX"}],"communication":[{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"$8"}]},"preferred":true}]}"#,
            &[
                &self.number,
                &self.name,
                self.gender,
                &self.birth_day,
                PATIENT_SYSTEM,
                &self.family,
                &self.given,
                &self.city,
                self.language,
            ],
        );
    }
}

/// A name of syllables with a number behind it, as no person has.
fn word(draw: &mut Draw, syllables: usize) -> String {
    let mut word: String = (0..syllables).map(|_| draw.pick(words::SYLLABLES)).collect();
    word[..1].make_ascii_uppercase();
    format!("{word}{}", 100 + draw.below(900))
}
