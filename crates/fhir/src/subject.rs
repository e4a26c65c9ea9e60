//! The patient a document is about.

use std::collections::BTreeSet;
use std::fmt;

use crate::MediaType;

/// Identifies a patient inside one organisation: `system|value`, or the text of a reference.
///
/// It prints without its contents; [`Subject::expose`] gives them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Subject {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text, given away.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(…)")
    }
}

/// Why it cannot be told which patient a document is about. Nothing of the document's contents is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// The document speaks of no patient.
    #[error("the document names no patient; name one with the request")]
    NoPatient,
    /// The document speaks of more than one patient.
    #[error(
        "the document is about {count} patients, a record is about one: split it, or name the patient with the request"
    )]
    SeveralPatients {
        /// How many different ones.
        count: usize,
    },
    /// There is a patient, but nothing that identifies them.
    #[error("the document's patient has neither an identifier with system and value nor an id")]
    Unidentified,
    /// Documents of this kind are kept as they are.
    #[error("no patient is looked for in {media_type}; name one with the request")]
    NotRead {
        /// What the document is.
        media_type: MediaType,
    },
    /// Not JSON, or not of the shape of a FHIR resource.
    #[error("line {line}, column {column}: {fault}")]
    Json {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
        /// What is wrong there.
        fault: JsonFault,
    },
    /// Not well-formed XML.
    #[error("not well-formed XML at byte {position}")]
    Xml {
        /// Bytes before the fault.
        position: u64,
    },
    /// The XML nests deeper than any clinical document.
    #[error("elements nest deeper than {depth_max}")]
    Depth {
        /// The limit.
        depth_max: usize,
    },
    /// The gzip around the document is cut short or damaged.
    #[error("the gzip around the document is damaged after {inflated} bytes of content")]
    Gzip {
        /// Bytes that could still be inflated.
        inflated: usize,
    },
    /// The document inflates to more than we look into.
    #[error("the document inflates to more than {len_max} bytes")]
    TooLong {
        /// The limit.
        len_max: usize,
    },
}

/// What is wrong with a JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonFault {
    /// It ends too early.
    Cut,
    /// It is not JSON, or nests too deep.
    Syntax,
    /// It is JSON, but not a resource: a part of another type, or a member that comes twice.
    Shape,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "the document ends too early",
            Self::Syntax => "not JSON",
            Self::Shape => "JSON, but not the shape of a FHIR resource",
        })
    }
}

/// An identifier as FHIR and CDA have it.
#[derive(Debug, Default)]
pub(crate) struct Identifier {
    pub(crate) system: String,
    pub(crate) value: String,
    pub(crate) medical_record: bool,
    pub(crate) old: bool,
}

impl Identifier {
    pub(crate) fn text(&self) -> Option<String> {
        let (system, value) = (self.system.trim(), self.value.trim());
        (!self.old && !system.is_empty() && !value.is_empty()).then(|| format!("{system}|{value}"))
    }
}

/// What a document says of one patient.
#[derive(Debug, Default)]
pub(crate) struct Patient {
    pub(crate) identifiers: Vec<Identifier>,
    pub(crate) id: Option<String>,
    pub(crate) full_url: Option<String>,
}

impl Patient {
    pub(crate) fn text(&self) -> Option<String> {
        let medical_record = self.identifiers.iter().filter(|identifier| identifier.medical_record);
        medical_record
            .chain(&self.identifiers)
            .find_map(Identifier::text)
            .or_else(|| self.id.as_deref().and_then(non_empty).map(|id| format!("Patient/{id}")))
            .or_else(|| self.full_url.as_deref().and_then(non_empty).map(str::to_owned))
    }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// All the patients a document speaks of.
#[derive(Debug, Default)]
pub(crate) struct People {
    named: BTreeSet<String>,
    unnamed: usize,
}

impl People {
    pub(crate) fn add(&mut self, name: Option<String>) {
        match name {
            Some(name) => _ = self.named.insert(name),
            None => self.unnamed += 1,
        }
    }

    pub(crate) fn subject(mut self) -> Result<Subject, SubjectError> {
        match (self.named.len() + self.unnamed, self.named.pop_first()) {
            (0, _) => Err(SubjectError::NoPatient),
            (1, Some(name)) => Ok(Subject(name)),
            (1, None) => Err(SubjectError::Unidentified),
            (count, _) => Err(SubjectError::SeveralPatients { count }),
        }
    }
}

/// The patient a FHIR reference points at: its text, or the identifier a conditional one searches for. `None` if it points
/// at something that is not a patient, or into the same resource.
pub(crate) fn referred(reference: &str) -> Option<String> {
    let reference = reference.trim();
    if reference.starts_with("urn:") {
        return Some(reference.to_owned());
    }
    if let Some((resource, query)) = reference.split_once('?') {
        let searched = query.split('&').find_map(|pair| pair.strip_prefix("identifier="))?;
        let searched = searched.replace("%7C", "|").replace("%7c", "|");
        return (resource.rsplit('/').next() == Some("Patient")).then_some(searched);
    }
    let versionless = reference.split("/_history/").next().unwrap_or(reference);
    let mut segments = versionless.rsplit('/');
    let (id, resource) = (segments.next()?, segments.next()?);
    (resource == "Patient" && !id.is_empty()).then(|| versionless.to_owned())
}
