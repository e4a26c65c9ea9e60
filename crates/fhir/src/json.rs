//! FHIR JSON, of which only the members that tell the patient and the category are looked at.
//!
//! A member is kept as the text it is (`RawValue`) until it is needed, so that a wrong type in a real document spoils that
//! member only, and a Bundle of 35 MB is never built in memory. A member that comes twice makes a document ambiguous: it
//! is refused, for the second could name another patient.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::category::{Agreed, Category, Facts};
use crate::media::without_mark;
use crate::subject::{Identifier, JsonFault, Patient, People, SubjectError, referred};

/// A member of a resource, not looked into yet.
type Raw<'a> = Option<&'a RawValue>;

/// The members of any resource that we may look into.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(borrow)]
    resource_type: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow, rename = "type")]
    kind: Raw<'a>,
    #[serde(borrow)]
    identifier: Raw<'a>,
    #[serde(borrow)]
    category: Raw<'a>,
    #[serde(borrow)]
    contained: Raw<'a>,
    #[serde(borrow)]
    subject: Raw<'a>,
    #[serde(borrow)]
    patient: Raw<'a>,
    #[serde(borrow)]
    beneficiary: Raw<'a>,
    entry: Option<Entries>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow)]
    full_url: Raw<'a>,
    #[serde(borrow)]
    resource: Option<Part<'a>>,
}

/// A resource in an entry: a [`Resource`] without entries of its own.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    resource_type: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    identifier: Raw<'a>,
    #[serde(borrow)]
    category: Raw<'a>,
}

impl Part<'_> {
    fn patient(&self, full_url: Raw<'_>) -> Patient {
        Patient { identifiers: identifiers(self.identifier), id: one(self.id), full_url: one(full_url) }
    }
}

/// What the entries of a Bundle tell, taken from one after the other.
#[derive(Default)]
struct Entries {
    people: People,
    category: Agreed,
    documents: usize,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries::default())
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entries of a Bundle")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<Self, A::Error> {
        while let Some(entry) = entries.next_element::<Entry<'de>>()? {
            let Some(part) = entry.resource else { continue };
            let resource_type: String = one(part.resource_type).unwrap_or_default();
            match resource_type.as_str() {
                "Patient" => self.people.add(part.patient(entry.full_url).text()),
                "Composition" => self.documents += 1,
                _ => {}
            }
            self.category.add(Category::of_resource(&resource_type, &codes(part.category)));
        }
        Ok(self)
    }
}

/// Reads a FHIR JSON document.
pub(crate) fn facts(document: &[u8]) -> Result<Facts, SubjectError> {
    let resource: Resource<'_> = serde_json::from_slice(without_mark(document)).map_err(fault)?;
    let resource_type: String = one(resource.resource_type).unwrap_or_default();
    Ok(match resource_type.as_str() {
        "Bundle" => bundle(resource),
        "Patient" => {
            let mut people = People::default();
            let patient =
                Patient { identifiers: identifiers(resource.identifier), id: one(resource.id), full_url: None };
            people.add(patient.text());
            Facts { people, category: Some(Category::Summary) }
        }
        resource_type => Facts {
            category: Category::of_resource(resource_type, &codes(resource.category)).or(match resource_type {
                "Encounter" | "Composition" => Some(Category::Summary),
                _ => None,
            }),
            people: people_referred(&resource),
        },
    })
}

/// A Bundle of type `document` sums up; any other is of the category all its resources agree on.
fn bundle(bundle: Resource<'_>) -> Facts {
    let is_document = one::<String>(bundle.kind).as_deref() == Some("document");
    let entries = bundle.entry.unwrap_or_default();
    let category = match entries.category {
        _ if is_document || entries.documents > 0 => Category::Summary,
        Agreed::On(category) => category,
        Agreed::Open | Agreed::Mixed => Category::Documents,
    };
    Facts { people: entries.people, category: Some(category) }
}

#[derive(serde::Deserialize)]
struct Reference {
    reference: Option<String>,
    identifier: Option<JsonIdentifier>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn people_referred(resource: &Resource<'_>) -> People {
    let mut people = People::default();
    for member in [resource.subject, resource.patient, resource.beneficiary] {
        for reference in many::<Reference>(member) {
            if reference.kind.as_deref().is_some_and(|kind| kind.rsplit('/').next() != Some("Patient")) {
                continue;
            }
            let text = reference.reference.unwrap_or_default();
            // A reference that says it is to something else is not to a patient, whatever its identifier.
            let elsewhere = !text.is_empty() && !text.starts_with('#') && referred(&text).is_none();
            let identifier = reference.identifier.filter(|_| !elsewhere);
            let name =
                identifier.and_then(|identifier| Identifier::from(identifier).text()).or_else(|| referred(&text));
            match (name, text.strip_prefix('#')) {
                (Some(name), _) => people.add(Some(name)),
                (None, Some(id)) => contained_patients(resource.contained, id, &mut people),
                (None, None) => {}
            }
        }
    }
    people
}

/// Adds the Patient of this id inside the resource itself. Its id means nothing outside, so only identifiers name it.
fn contained_patients(contained: Raw<'_>, id: &str, people: &mut People) {
    let parts: Vec<Part<'_>> = contained.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let matching = parts.iter().filter(|part| {
        one::<String>(part.resource_type).as_deref() == Some("Patient") && one::<String>(part.id).as_deref() == Some(id)
    });
    for part in matching {
        people.add(Patient { id: None, ..part.patient(None) }.text());
    }
}

#[derive(serde::Deserialize)]
struct JsonIdentifier {
    system: Option<String>,
    value: Option<String>,
    #[serde(rename = "use")]
    used: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Concept>,
}

#[derive(serde::Deserialize)]
struct Concept {
    #[serde(default)]
    coding: Vec<Coding>,
}

#[derive(serde::Deserialize)]
struct Coding {
    code: Option<String>,
}

impl From<JsonIdentifier> for Identifier {
    fn from(identifier: JsonIdentifier) -> Self {
        let codings = identifier.kind.map(|kind| kind.coding).unwrap_or_default();
        Self {
            system: identifier.system.unwrap_or_default(),
            value: identifier.value.unwrap_or_default(),
            medical_record: codings.iter().any(|coding| coding.code.as_deref() == Some("MR")),
            old: identifier.used.as_deref() == Some("old"),
        }
    }
}

fn identifiers(raw: Raw<'_>) -> Vec<Identifier> {
    many::<JsonIdentifier>(raw).into_iter().map(Identifier::from).collect()
}

fn codes(raw: Raw<'_>) -> Vec<String> {
    many::<Concept>(raw).into_iter().flat_map(|concept| concept.coding).filter_map(|coding| coding.code).collect()
}

/// A member that should be one `T`, if it is.
fn one<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// The members of a list that are `T`; one alone counts as a list of one.
fn many<T: DeserializeOwned>(raw: Raw<'_>) -> Vec<T> {
    let Some(raw) = raw else { return Vec::new() };
    match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        Ok(list) => list.into_iter().filter_map(|item| one(Some(item))).collect(),
        Err(_) => one(Some(raw)).into_iter().collect(),
    }
}

/// Where the fault is and of what kind, without the text around it, which is a patient's.
fn fault(error: serde_json::Error) -> SubjectError {
    let fault = match error.classify() {
        serde_json::error::Category::Eof => JsonFault::Cut,
        serde_json::error::Category::Data => JsonFault::Shape,
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => JsonFault::Syntax,
    };
    SubjectError::Json { line: error.line(), column: error.column(), fault }
}
