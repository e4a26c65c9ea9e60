//! An International Patient Summary: a document Bundle as HL7's IPS guide 1.1.0 has it.

use super::draw::fill;
use super::resources::references;
use super::visit::{Kind, Visit};

/// LOINC code, title and contents of each section, in the order of the guide.
const SECTIONS: &[(&str, &str, Kind)] = &[
    ("48765-2", "Allergies and intolerances", Kind::Allergies),
    ("11450-4", "Problem list", Kind::Problems),
    ("10160-0", "Medication summary", Kind::Medications),
    ("11369-6", "Immunizations", Kind::Immunizations),
    ("30954-2", "Results", Kind::Laboratory),
    ("8716-3", "Vital signs", Kind::VitalSigns),
];

/// Bytes the Bundle has besides its sections' resources.
const FRAME_LEN: usize = 4600;

/// Writes a summary of about `len` bytes, with at least one resource in each section.
pub(super) fn write(mut visit: Visit<'_>, len: usize) -> String {
    visit.document();
    let mut ids: Vec<Vec<String>> = vec![Vec::new(); SECTIONS.len()];
    let mut section = 0;
    // Round and round the sections, so that none is much longer than another.
    while section < SECTIONS.len() || visit.out.len() + FRAME_LEN < len {
        visit.out.push(',');
        let index = section % SECTIONS.len();
        let id = visit.entry(|visit, id| visit.resource(SECTIONS[index].2, id));
        ids[index].push(id);
        section += 1;
    }
    let resources = std::mem::take(&mut visit.out);
    frame(visit, &resources, &ids)
}

/// Puts Bundle, Composition, author and Patient around the resources.
fn frame(mut visit: Visit<'_>, resources: &str, ids: &[Vec<String>]) -> String {
    let (bundle, author, now) = (visit.draw.uuid(), visit.draw.uuid(), visit.draw.instant(&visit.day));
    visit.out.reserve(resources.len() + FRAME_LEN);
    fill(
        &mut visit.out,
        r#"{"resourceType":"Bundle","id":"$0","identifier":{"system":"urn:ietf:rfc3986","value":"urn:uuid:$0"},"type":"document","timestamp":"$1","entry":["#,
        &[&bundle, &now],
    );
    let person = visit.person;
    visit.entry(|visit, id| {
        fill(
            &mut visit.out,
            r#"{"resourceType":"Composition","id":"$0","status":"final","type":{"coding":[{"system":"http://loinc.org","code":"60591-5","display":"Patient summary Document"}]},"subject":{"reference":"urn:uuid:$1"},"date":"$2","author":[{"reference":"urn:uuid:$3"}],"title":"Patient summary of $4","section":["#,
            &[id, &person.uuid, &now, &author, &person.name],
        );
        for (index, ((code, title, _), ids)) in SECTIONS.iter().zip(ids).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            fill(
                &mut visit.out,
                r#"$0{"title":"$1","code":{"coding":[{"system":"http://loinc.org","code":"$2","display":"$1"}]},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">$1: see the entries.</div>"},"entry":["#,
                &[comma, title, code],
            );
            references(&mut visit.out, ids);
            visit.out.push_str("]}");
        }
        visit.out.push_str("]}");
    });
    visit.out.push(',');
    visit.patient_entry();
    fill(
        &mut visit.out,
        r#",{"fullUrl":"urn:uuid:$0","resource":{"resourceType":"Organization","id":"$0","name":"Demonstration clinic","identifier":[{"system":"https://bithealth.example/organisations","value":"demo"}]}}"#,
        &[&author],
    );
    visit.out.push_str(resources);
    visit.out.push_str("]}");
    visit.out
}
