//! What a node needs to know of a document before it seals it: its media type, the one patient it is about, and the
//! category of the folder it belongs to.
//!
//! Nothing here refuses a document for good. Real documents break the rules of their formats, and refuse-and-lose is no
//! answer: whoever puts a document can always name patient and category by hand, and the bytes are kept as they came.
//! What is certain is that two patients are never mixed: a document about several people has no [`subject`].
//!
//! The usual way is [`recognise`] on the first [`SNIFF_LEN`] bytes, then [`read`] on the whole document.

mod category;
mod inflate;
mod json;
mod media;
mod subject;
mod xml;

pub use category::Category;
pub use inflate::INFLATED_LEN_MAX;
pub use media::{Form, MediaType, SNIFF_LEN, media_type, recognise};
pub use subject::{JsonFault, Subject, SubjectError};

/// What one pass over a document tells.
#[derive(Debug)]
pub struct Reading {
    /// The patient the document is about, or why none can be told.
    pub subject: Result<Subject, SubjectError>,
    /// The best guess at the category of its folder.
    pub category: Category,
}

/// Reads the subject and the category of a whole document, which may be gzipped, in one pass.
///
/// Memory: what is read of a document borrows from it, so a 35 MB Bundle costs little more than its own bytes; a gzipped
/// one is inflated in memory, up to [`INFLATED_LEN_MAX`].
pub fn read(document: &[u8], form: Form) -> Reading {
    let by_form = Category::of_media_type(form.media_type);
    let plain = match inflate::plain(document, form) {
        Ok(plain) => plain,
        Err(error) => return Reading { subject: Err(error), category: by_form },
    };
    let facts = match form.media_type {
        MediaType::FhirJson => json::facts(&plain),
        MediaType::FhirXml | MediaType::Cda => xml::facts(&plain),
        media_type => Err(SubjectError::NotRead { media_type }),
    };
    match facts {
        Ok(facts) => Reading { category: facts.category.unwrap_or(by_form), subject: facts.people.subject() },
        Err(error) => Reading { subject: Err(error), category: by_form },
    }
}

/// The patient a whole document, which may be gzipped, is about.
///
/// A Patient resource is named by its identifier as `system|value`: the first one of type MR (medical record number), else
/// the first that has a system and a value; `use: old` does not count. Without any it is `Patient/id`, else the `fullUrl`
/// of its entry. Of a single resource the `subject`, `patient` or `beneficiary` tells: its logical identifier if it has
/// one, else the text of the reference. Of a C-CDA document the first whole id of `recordTarget/patientRole`, as
/// `urn:oid:root|extension`, which is how FHIR writes the same identifier.
///
/// # Errors
/// [`SubjectError`]; none of them holds anything of the document's contents.
pub fn subject(document: &[u8], form: Form) -> Result<Subject, SubjectError> {
    read(document, form).subject
}

/// The best guess at the category of the folder a whole document, which may be gzipped, belongs to.
pub fn category(document: &[u8], form: Form) -> Category {
    read(document, form).category
}
