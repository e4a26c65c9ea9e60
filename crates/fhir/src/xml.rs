//! C-CDA and FHIR XML, read one event at a time. Nothing is expanded that a document type declares.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::category::{Agreed, Category, Facts};
use crate::media::without_mark;
use crate::subject::{Identifier, Patient, People, SubjectError, referred};

/// Deepest nesting of elements we follow; C-CDA documents nest about 30 deep.
const DEPTH_MAX: usize = 256;

/// Reads a C-CDA document or a FHIR resource in XML.
pub(crate) fn facts(document: &[u8]) -> Result<Facts, SubjectError> {
    let mut reader = Reader::from_reader(without_mark(document));
    let mut path: Vec<String> = Vec::new();
    let mut found = Found::default();
    loop {
        let event = reader.read_event().map_err(|_| SubjectError::Xml { position: reader.error_position() })?;
        let malformed = |_| SubjectError::Xml { position: reader.buffer_position() };
        match event {
            Event::Start(element) => {
                path.push(element.local_name().as_ref().to_owned());
                found.open(&names(&path), &element).map_err(malformed)?;
                if path.len() > DEPTH_MAX {
                    return Err(SubjectError::Depth { depth_max: DEPTH_MAX });
                }
            }
            Event::Empty(element) => {
                path.push(element.local_name().as_ref().to_owned());
                found.open(&names(&path), &element).map_err(malformed)?;
                found.close(&names(&path));
                path.pop();
            }
            Event::End(_) => {
                found.close(&names(&path));
                path.pop();
            }
            Event::Eof if path.is_empty() && found.opened => return Ok(found.facts()),
            Event::Eof => return Err(malformed(Malformed)),
            _ => {}
        }
    }
}

/// An attribute that cannot be read, or an end that comes too early.
struct Malformed;

/// What was found on the way through a document.
#[derive(Default)]
struct Found {
    opened: bool,
    /// The Patient or patientRole that is open.
    patient: Option<Patient>,
    full_url: Option<String>,
    people: People,
    codes: Vec<String>,
    category: Agreed,
    is_document: bool,
}

impl Found {
    fn open(&mut self, path: &[&str], element: &BytesStart<'_>) -> Result<(), Malformed> {
        self.opened = true;
        match path {
            ["ClinicalDocument", steps @ ..] => self.open_cda(steps, element),
            path => {
                self.open_fhir(path, attribute(element, "value")?);
                Ok(())
            }
        }
    }

    fn open_cda(&mut self, steps: &[&str], element: &BytesStart<'_>) -> Result<(), Malformed> {
        match steps {
            ["code"] => self.category.add(attribute(element, "code")?.as_deref().and_then(Category::of_document_code)),
            ["recordTarget", "patientRole"] => self.patient = Some(Patient::default()),
            ["recordTarget", "patientRole", "id"] if attribute(element, "nullFlavor")?.is_none() => {
                let root = attribute(element, "root")?.unwrap_or_default();
                let extension = attribute(element, "extension")?.unwrap_or_default();
                if let Some(patient) = &mut self.patient {
                    patient.identifiers.push(instance_identifier(&root, extension));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open_fhir(&mut self, path: &[&str], value: Option<String>) {
        match path {
            ["Bundle", "type"] => self.is_document = value.as_deref() == Some("document"),
            ["Bundle", "entry"] => self.full_url = None,
            ["Bundle", "entry", "fullUrl"] => self.full_url = value,
            ["Bundle", "entry", "resource", "Patient"] | ["Patient"] => {
                self.patient = Some(Patient { full_url: self.full_url.take(), ..Patient::default() });
            }
            ["Bundle", "entry", "resource", _, steps @ ..] => self.open_member(steps, value),
            [_, "subject" | "patient" | "beneficiary", "reference"] => {
                if let Some(name) = value.as_deref().and_then(referred) {
                    self.people.add(Some(name));
                }
            }
            [_, steps @ ..] => self.open_member(steps, value),
            [] => {}
        }
    }

    /// Takes in a member of a resource.
    fn open_member(&mut self, steps: &[&str], value: Option<String>) {
        match (&mut self.patient, steps, value) {
            (Some(patient), ["id"], id) => patient.id = id,
            (Some(patient), ["identifier"], _) => patient.identifiers.push(Identifier::default()),
            (Some(patient), ["identifier", rest @ ..], Some(value)) => {
                let Some(identifier) = patient.identifiers.last_mut() else { return };
                match rest {
                    ["system"] => identifier.system = value,
                    ["value"] => identifier.value = value,
                    ["use"] => identifier.old = value == "old",
                    ["type", "coding", "code"] => identifier.medical_record |= value == "MR",
                    _ => {}
                }
            }
            (None, ["category", "coding", "code"], Some(code)) => self.codes.push(code),
            _ => {}
        }
    }

    fn close(&mut self, path: &[&str]) {
        match path {
            ["ClinicalDocument", "recordTarget", "patientRole"] => self.close_patient(),
            ["ClinicalDocument" | "Bundle", ..] if !matches!(path, ["Bundle", "entry", "resource", _]) => {}
            ["Bundle", "entry", "resource", resource_type] | [resource_type] => {
                if *resource_type == "Patient" {
                    self.close_patient();
                }
                let codes = std::mem::take(&mut self.codes);
                self.category.add(Category::of_resource(resource_type, &codes));
            }
            _ => {}
        }
    }

    fn close_patient(&mut self) {
        if let Some(patient) = self.patient.take() {
            self.people.add(patient.text());
        }
    }

    fn facts(self) -> Facts {
        let category = match self.category {
            _ if self.is_document => Some(Category::Summary),
            Agreed::On(category) => Some(category),
            Agreed::Open | Agreed::Mixed => None,
        };
        Facts { people: self.people, category }
    }
}

/// The names of the elements on the way, where a short path is all that matters.
fn names(path: &[String]) -> Vec<&str> {
    /// One more than the longest path looked for, so that a deeper one does not match.
    const STEPS_MAX: usize = 9;
    path.iter().take(STEPS_MAX).map(String::as_str).collect()
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, Malformed> {
    let attribute = element.try_get_attribute(name).map_err(|_| Malformed)?;
    let value =
        attribute.map(|attribute| attribute.normalized_value(XmlVersion::Implicit1_0).map(|text| text.into_owned()));
    value.transpose().map_err(|_| Malformed)
}

/// An HL7 instance identifier as FHIR writes it (C-CDA on FHIR, "Identifiers"): an OID or UUID is the system, the extension
/// the value; without an extension the root itself is the value.
fn instance_identifier(root: &str, extension: String) -> Identifier {
    let is_oid = root.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let uri = match root {
        "" => String::new(),
        root if is_oid => format!("urn:oid:{root}"),
        root => format!("urn:uuid:{}", root.to_ascii_lowercase()),
    };
    if extension.trim().is_empty() && !uri.is_empty() {
        return Identifier { system: "urn:ietf:rfc3986".to_owned(), value: uri, ..Identifier::default() };
    }
    Identifier { system: uri, value: extension, ..Identifier::default() }
}
