//! One visit of one patient, and the document that comes of it.

use super::draw::{Draw, fill};
use super::person::Person;
use super::{PATIENT_SYSTEM, summary, words};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Summary,
    VitalSigns,
    Problems,
    Allergies,
    Laboratory,
    Medications,
    Immunizations,
    Claim,
    Note,
    Imaging,
}

impl Kind {
    /// What comes after a patient's summary, as often as it stands here.
    pub(super) const AFTER_SUMMARY: &[Self] = &[
        Self::VitalSigns,
        Self::VitalSigns,
        Self::VitalSigns,
        Self::Problems,
        Self::Allergies,
        Self::Laboratory,
        Self::Laboratory,
        Self::Laboratory,
        Self::Laboratory,
        Self::Medications,
        Self::Medications,
        Self::Immunizations,
        Self::Claim,
        Self::Claim,
        Self::Note,
        Self::Note,
        Self::Imaging,
    ];

    pub(super) fn category(self) -> &'static str {
        match self {
            Self::Summary | Self::VitalSigns | Self::Problems | Self::Allergies => "summary",
            Self::Laboratory => "laboratory",
            Self::Medications => "medications",
            Self::Immunizations => "immunizations",
            Self::Claim => "claims",
            Self::Note => "notes",
            Self::Imaging => "imaging",
        }
    }

    /// For file names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Summary => "ips",
            Self::VitalSigns => "vitals",
            Self::Problems => "problems",
            Self::Allergies => "allergies",
            other => other.category(),
        }
    }
}

/// One visit, while its document is written.
pub(super) struct Visit<'a> {
    pub(super) draw: Draw,
    pub(super) person: &'a Person,
    pub(super) day: String,
    pub(super) out: String,
    bundle: bool,
    pub(super) subject: String,
    pub(super) encounter: Option<String>,
    pub(super) clinician: String,
}

impl<'a> Visit<'a> {
    /// A visit whose document is a Bundle or a single resource.
    pub(super) fn new(mut draw: Draw, person: &'a Person, bundle: bool) -> Self {
        Self {
            day: draw.day(),
            clinician: format!("C{:04}", draw.below(400)),
            draw,
            person,
            out: String::new(),
            bundle,
            subject: String::new(),
            encounter: None,
        }
    }

    /// The document, of about `len` bytes.
    pub(super) fn write(mut self, kind: Kind, len: usize) -> String {
        self.out.reserve(len + 2048);
        match kind {
            Kind::Summary => return summary::write(self, len),
            Kind::Claim | Kind::Note | Kind::Imaging => self.bundle = false,
            _ => {}
        }
        self.refer_to_patient();
        match kind {
            Kind::Claim => self.claim(len),
            Kind::Note => self.note(len),
            Kind::Imaging => self.imaging_study(len),
            kind if self.bundle => self.bundle_of(kind, len),
            kind => {
                let id = self.draw.uuid();
                self.resource(kind, &id);
            }
        }
        self.out
    }

    /// From here on the document is a Bundle with the patient in it, whatever its length.
    pub(super) fn document(&mut self) {
        self.bundle = true;
        self.refer_to_patient();
    }

    /// From here on resources refer to the entry of the patient, or outside a Bundle to the patient by identifier.
    fn refer_to_patient(&mut self) {
        let Person { number, uuid, name, .. } = self.person;
        self.subject = if self.bundle {
            format!(r#"{{"reference":"urn:uuid:{uuid}","display":"{name}"}}"#)
        } else {
            format!(
                r#"{{"reference":"Patient/{number}","type":"Patient","identifier":{{"system":"{PATIENT_SYSTEM}","value":"{number}"}},"display":"{name}"}}"#
            )
        };
    }

    /// A Bundle of the patient, the encounter, and resources until it is long enough.
    fn bundle_of(&mut self, kind: Kind, len: usize) {
        let (id, now) = (self.draw.uuid(), self.draw.instant(&self.day));
        let head = r#"{"resourceType":"Bundle","id":"$0","type":"collection","timestamp":"$1","entry":["#;
        fill(&mut self.out, head, &[&id, &now]);
        self.patient_entry();
        self.out.push(',');
        self.encounter_entry();
        let mut ids: Vec<String> = Vec::new();
        loop {
            let before = self.out.len();
            self.out.push(',');
            ids.push(self.entry(|visit, id| visit.resource(kind, id)));
            // The report of a laboratory Bundle takes about 90 bytes for each of its results, and 1200 itself.
            let report_len = if kind == Kind::Laboratory { 1200 + 90 * ids.len() } else { 0 };
            if self.out.len() + (self.out.len() - before) / 2 + report_len >= len {
                break;
            }
        }
        if kind == Kind::Laboratory {
            self.out.push(',');
            self.entry(|visit, id| visit.report(id, &ids));
        }
        self.out.push_str("]}");
    }

    /// An entry with a new id, which is returned.
    pub(super) fn entry(&mut self, write: impl FnOnce(&mut Self, &str)) -> String {
        let id = self.draw.uuid();
        fill(&mut self.out, r#"{"fullUrl":"urn:uuid:$0","resource":"#, &[&id]);
        write(self, &id);
        self.out.push('}');
        id
    }

    pub(super) fn patient_entry(&mut self) {
        fill(&mut self.out, r#"{"fullUrl":"urn:uuid:$0","resource":"#, &[&self.person.uuid]);
        self.person.write(&mut self.out);
        self.out.push('}');
    }

    fn encounter_entry(&mut self) {
        let id = self.entry(|visit, id| {
            let (start, end) = (format!("{}T07:15:00Z", visit.day), format!("{}T18:45:00Z", visit.day));
            let (code, display) = visit.draw.pick(words::SERVICES);
            fill(
                &mut visit.out,
                r#"{"resourceType":"Encounter","id":"$0","status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB","display":"ambulatory"},"type":[{"coding":[{"system":"http://snomed.info/sct","code":"$1","display":"$2"}],"text":"$2"}],"subject":$3,"participant":[{"individual":{"identifier":{"system":"https://bithealth.example/clinicians","value":"$4"}}}],"period":{"start":"$5","end":"$6"}}"#,
                &[id, code, display, &visit.subject, &visit.clinician, &start, &end],
            );
        });
        self.encounter = Some(id);
    }
}
