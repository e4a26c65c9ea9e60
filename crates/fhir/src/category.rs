//! The category of the folder a document belongs to.

use std::fmt;

use crate::MediaType;

/// The category of a folder: with the patient, the unit of consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// Problems, allergies, vital signs, encounters, and documents that sum them up.
    Summary,
    /// Laboratory results and reports.
    Laboratory,
    /// Images and what is reported of them.
    Imaging,
    /// Sequences and variants.
    Genomics,
    /// Claims, benefits and coverage.
    Claims,
    /// Prescriptions and what was given or taken.
    Medications,
    /// Vaccinations.
    Immunizations,
    /// Notes in a clinician's words.
    Notes,
    /// Everything else.
    Documents,
}

impl Category {
    /// The word used on the command line and in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Laboratory => "laboratory",
            Self::Imaging => "imaging",
            Self::Genomics => "genomics",
            Self::Claims => "claims",
            Self::Medications => "medications",
            Self::Immunizations => "immunizations",
            Self::Notes => "notes",
            Self::Documents => "documents",
        }
    }

    /// What the kind of a document alone tells.
    pub fn of_media_type(media_type: MediaType) -> Self {
        match media_type {
            MediaType::Dicom | MediaType::Png | MediaType::Jpeg => Self::Imaging,
            MediaType::Vcf
            | MediaType::Bcf
            | MediaType::Sam
            | MediaType::Bam
            | MediaType::Bai
            | MediaType::Cram
            | MediaType::Fasta
            | MediaType::Crypt4gh => Self::Genomics,
            MediaType::Text => Self::Notes,
            _ => Self::Documents,
        }
    }

    /// Of a resource, by its type and the codes of its `category`. `None` for resources that stand beside others and say
    /// nothing of a category: people, places, devices, the Patient itself.
    pub(crate) fn of_resource<S: AsRef<str>>(resource_type: &str, codes: &[S]) -> Option<Self> {
        let coded = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(&code.as_ref()));
        Some(match resource_type {
            "Patient" | "Practitioner" | "PractitionerRole" | "Organization" | "Location" | "Device"
            | "RelatedPerson" | "Provenance" | "HealthcareService" | "Endpoint" | "Encounter" | "Composition" | "" => {
                return None;
            }
            "DiagnosticReport" | "Observation" if coded(&["GE"]) => Self::Genomics,
            "DiagnosticReport" | "Observation" if coded(&["imaging", "RAD", "RUS", "CT", "MRI", "NMR"]) => {
                Self::Imaging
            }
            "Observation" if coded(&["laboratory", "LAB"]) => Self::Laboratory,
            "DiagnosticReport" | "Specimen" => Self::Laboratory,
            "ImagingStudy" | "Media" => Self::Imaging,
            "MolecularSequence" => Self::Genomics,
            "Claim" | "ClaimResponse" | "ExplanationOfBenefit" | "Coverage" | "Account" | "Invoice" => Self::Claims,
            "Medication"
            | "MedicationRequest"
            | "MedicationStatement"
            | "MedicationAdministration"
            | "MedicationDispense" => Self::Medications,
            "Immunization" | "ImmunizationEvaluation" | "ImmunizationRecommendation" => Self::Immunizations,
            "DocumentReference" | "ClinicalImpression" | "Communication" | "QuestionnaireResponse" => Self::Notes,
            "Observation"
            | "Condition"
            | "AllergyIntolerance"
            | "Procedure"
            | "CarePlan"
            | "CareTeam"
            | "Goal"
            | "FamilyMemberHistory"
            | "EpisodeOfCare"
            | "ServiceRequest"
            | "DeviceUseStatement" => Self::Summary,
            _ => Self::Documents,
        })
    }

    /// Of a CDA document, by the LOINC code of its type.
    pub(crate) fn of_document_code(loinc: &str) -> Option<Self> {
        match loinc {
            "34133-9" | "60591-5" | "18776-5" => Some(Self::Summary), // episode summary, IPS, plan of care
            "18748-4" => Some(Self::Imaging),
            "11502-2" => Some(Self::Laboratory),
            "11504-8" | "18842-5" | "11506-3" | "34117-2" | "28570-0" | "11488-4" => Some(Self::Notes),
            _ => None,
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The one category that all parts of a Bundle agree on.
#[derive(Debug, Default)]
pub(crate) enum Agreed {
    /// Nothing was said yet.
    #[default]
    Open,
    /// All said this.
    On(Category),
    /// Two parts differ.
    Mixed,
}

impl Agreed {
    pub(crate) fn add(&mut self, category: Option<Category>) {
        let Some(category) = category else { return };
        *self = match self {
            Self::Open => Self::On(category),
            Self::On(agreed) if *agreed == category => return,
            _ => Self::Mixed,
        }
    }
}

/// What a reader found in a document.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) people: crate::subject::People,
    pub(crate) category: Option<Category>,
}
