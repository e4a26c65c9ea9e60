//! Patients and categories of documents written here, and what is said of broken ones.

use bithealth_fhir::{Category, Form, MediaType, Subject, SubjectError, category, recognise, subject};
use proptest::prelude::*;

fn json(document: &str) -> Result<String, SubjectError> {
    subject(document.as_bytes(), Form::plain(MediaType::FhirJson)).map(Subject::into_string)
}

fn xml(document: &str) -> Result<String, SubjectError> {
    subject(document.as_bytes(), recognise("", document.as_bytes())).map(Subject::into_string)
}

fn bundle(resources: &[&str]) -> String {
    let entries: Vec<String> = resources.iter().map(|resource| format!(r#"{{"resource":{resource}}}"#)).collect();
    format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{}]}}"#, entries.join(","))
}

const MEDICAL_RECORD: &str = r#"{"type":{"coding":[{"code":"MR"}]},"system":"urn:mr","value":"7"}"#;

#[test]
fn a_patient_is_named_by_medical_record_number_then_first_identifier_then_id() {
    let patient = |identifiers: &str| format!(r#"{{"resourceType":"Patient","id":"p1","identifier":{identifiers}}}"#);
    let first = r#"{"system":"urn:a","value":"1"}"#;
    let old = r#"{"use":"old","system":"urn:old","value":"0"}"#;
    assert_eq!(json(&patient(&format!("[{first},{MEDICAL_RECORD}]"))).as_deref(), Ok("urn:mr|7"));
    assert_eq!(json(&patient(&format!(r#"[{{"value":"5"}},{old},{first}]"#))).as_deref(), Ok("urn:a|1"));
    assert_eq!(json(&patient(first)).as_deref(), Ok("urn:a|1"), "a list of one, written without its brackets");
    assert_eq!(json(&patient(r#"[{"system":7,"value":true}, null, "x"]"#)).as_deref(), Ok("Patient/p1"));
    assert_eq!(json(r#"{"resourceType":"Patient"}"#), Err(SubjectError::Unidentified));
}

#[test]
fn a_bundle_is_about_its_one_patient() {
    let ada = format!(r#"{{"resourceType":"Patient","identifier":[{MEDICAL_RECORD}]}}"#);
    let ben = r#"{"id":"b","resourceType":"Patient"}"#;
    let visit = r#"{"resourceType":"Encounter"}"#;
    assert_eq!(json(&bundle(&[visit, &ada, visit])).as_deref(), Ok("urn:mr|7"));
    assert_eq!(json(&bundle(&[&ada, &ada])).as_deref(), Ok("urn:mr|7"), "the same patient twice is one patient");
    assert_eq!(json(&bundle(&[&ada, ben])), Err(SubjectError::SeveralPatients { count: 2 }));
    assert_eq!(json(&bundle(&[visit])), Err(SubjectError::NoPatient));
    assert_eq!(json(r#"{"resourceType":"Bundle"}"#), Err(SubjectError::NoPatient));
    let by_url =
        r#"{"resourceType":"Bundle","entry":[{"fullUrl":"urn:uuid:5","resource":{"resourceType":"Patient"}}]}"#;
    assert_eq!(json(by_url).as_deref(), Ok("urn:uuid:5"));
    let last = r#"{"entry":[{"resource":{"id":"x","resourceType":"Patient"}}],"resourceType":"Bundle"}"#;
    assert_eq!(json(last).as_deref(), Ok("Patient/x"), "members have no order");
}

#[test]
fn a_single_resource_is_about_the_patient_it_refers_to() {
    let about = |reference: &str| json(&format!(r#"{{"resourceType":"Condition","subject":{reference}}}"#));
    let one = |text: &str| about(&format!(r#"{{"reference":"{text}"}}"#));
    assert_eq!(one("Patient/7").as_deref(), Ok("Patient/7"));
    assert_eq!(one("Patient/7/_history/2").as_deref(), Ok("Patient/7"));
    assert_eq!(one("https://a.example/fhir/Patient/7").as_deref(), Ok("https://a.example/fhir/Patient/7"));
    assert_eq!(one("urn:uuid:0").as_deref(), Ok("urn:uuid:0"));
    assert_eq!(one("Patient?active=true&identifier=urn:a%7C1").as_deref(), Ok("urn:a|1"));
    for not_a_patient in ["Group/7", "Device?identifier=urn:a|1", "Patient", "Patient/", ""] {
        assert_eq!(one(not_a_patient), Err(SubjectError::NoPatient), "{not_a_patient}");
    }
    let identifier = r#""identifier":{"system":"urn:a","value":"1"}"#;
    assert_eq!(about(&format!(r#"{{"reference":"Patient/7",{identifier}}}"#)).as_deref(), Ok("urn:a|1"));
    assert_eq!(about(&format!(r#"{{"reference":"Group/7",{identifier}}}"#)), Err(SubjectError::NoPatient));
    assert_eq!(about(&format!(r#"{{"type":"Group",{identifier}}}"#)), Err(SubjectError::NoPatient));
    assert_eq!(
        about(r#"[{"reference":"Patient/1"},{"reference":"Patient/2"}]"#),
        Err(SubjectError::SeveralPatients { count: 2 })
    );
}

#[test]
fn a_contained_patient_is_named_by_identifiers_only() {
    let with = |patient: &str| {
        json(&format!(
            r##"{{"resourceType":"DocumentReference","contained":[{patient}],"subject":{{"reference":"#p"}}}}"##
        ))
    };
    let known = format!(r#"{{"resourceType":"Patient","id":"p","identifier":[{MEDICAL_RECORD}]}}"#);
    assert_eq!(with(&known).as_deref(), Ok("urn:mr|7"));
    assert_eq!(with(r#"{"resourceType":"Patient","id":"p"}"#), Err(SubjectError::Unidentified));
    assert_eq!(with(r#"{"resourceType":"Patient","id":"q"}"#), Err(SubjectError::NoPatient));
}

#[test]
fn categories_follow_the_resources() {
    let of = |document: &str| category(document.as_bytes(), Form::plain(MediaType::FhirJson));
    let laboratory = r#"{"resourceType":"Observation","category":[{"coding":[{"code":"laboratory"}]}]}"#;
    let vital_sign = r#"{"resourceType":"Observation","category":[{"coding":[{"code":"vital-signs"}]}]}"#;
    let claim = r#"{"resourceType":"Claim"}"#;
    let patient = r#"{"resourceType":"Patient"}"#;
    assert_eq!(of(laboratory), Category::Laboratory);
    assert_eq!(of(vital_sign), Category::Summary);
    assert_eq!(of(&bundle(&[patient, laboratory, r#"{"resourceType":"Specimen"}"#])), Category::Laboratory);
    assert_eq!(of(&bundle(&[patient, claim, vital_sign])), Category::Documents);
    assert_eq!(of(&bundle(&[r#"{"resourceType":"Composition"}"#, claim])), Category::Summary);
    assert_eq!(of(r#"{"resourceType":"MedicationRequest"}"#), Category::Medications);
    assert_eq!(of(r#"{"resourceType":"Immunization"}"#), Category::Immunizations);
    assert_eq!(of(r#"{"resourceType":"DocumentReference"}"#), Category::Notes);
    assert_eq!(of(r#"{"resourceType":"Encounter"}"#), Category::Summary);
    assert_eq!(of(r#"{"resourceType":"Binary"}"#), Category::Documents);
    assert_eq!(of("broken"), Category::Documents);
    assert_eq!(category(b"", Form::plain(MediaType::Dicom)), Category::Imaging);
    assert_eq!(category(b"", Form::plain(MediaType::Bam)), Category::Genomics);
}

#[test]
fn fhir_xml_is_read_as_fhir_json_is() {
    let patient = r#"<Patient><id value="p"/><identifier><system value="urn:a"/><value value="1"/></identifier>
        <identifier><type><coding><code value="MR"/></coding></type><system value="urn:mr"/><value value="A&amp;7"/>
        </identifier></Patient>"#;
    let root = |name: &str, inner: &str| format!(r#"<{name} xmlns="http://hl7.org/fhir">{inner}</{name}>"#);
    let entry =
        |resource: &str| format!(r#"<entry><fullUrl value="urn:uuid:1"/><resource>{resource}</resource></entry>"#);
    assert_eq!(xml(&root("Bundle", &entry(patient))).as_deref(), Ok("urn:mr|A&7"));
    assert_eq!(xml(&root("Bundle", &entry("<Patient/>"))).as_deref(), Ok("urn:uuid:1"));
    assert_eq!(xml(&root("Bundle", &entry("<Claim/>"))), Err(SubjectError::NoPatient));
    let two = entry(patient) + &entry(r#"<Patient><id value="q"/></Patient>"#);
    assert_eq!(xml(&root("Bundle", &two)), Err(SubjectError::SeveralPatients { count: 2 }));
    assert_eq!(xml(&root("Patient", r#"<id value="p"/>"#)).as_deref(), Ok("Patient/p"));
    let claim = root("Claim", r#"<patient><reference value="Patient/7"/></patient>"#);
    assert_eq!(xml(&claim).as_deref(), Ok("Patient/7"));
    assert_eq!(category(claim.as_bytes(), recognise("", claim.as_bytes())), Category::Claims);
}

#[test]
fn a_cda_document_is_about_its_record_target() {
    let with = |roles: &str| xml(&format!(r#"<ClinicalDocument xmlns="urn:hl7-org:v3">{roles}</ClinicalDocument>"#));
    let role = |ids: &str| format!("<recordTarget><patientRole>{ids}</patientRole></recordTarget>");
    let whole = r#"<id root="2.16.1" extension="7"/>"#;
    assert_eq!(with(&role(&format!(r#"<id nullFlavor="UNK"/>{whole}"#))).as_deref(), Ok("urn:oid:2.16.1|7"));
    let uuid = r#"<id root="ABCD-1"/>"#;
    assert_eq!(with(&role(uuid)).as_deref(), Ok("urn:ietf:rfc3986|urn:uuid:abcd-1"));
    assert_eq!(with(&role("")), Err(SubjectError::Unidentified));
    assert_eq!(with(&(role(whole) + &role(uuid))), Err(SubjectError::SeveralPatients { count: 2 }));
    assert_eq!(with(""), Err(SubjectError::NoPatient));
    let report = br#"<ClinicalDocument><code code="18748-4"/></ClinicalDocument>"#;
    assert_eq!(category(report, Form::plain(MediaType::Cda)), Category::Imaging);
}

#[test]
fn broken_documents_are_named_by_their_flaw_and_nothing_of_them_is_told() {
    let cut = json(r#"{"resourceType":"Patient","name":"Canary"#).unwrap_err();
    assert_eq!(cut.to_string(), "line 1, column 40: the document ends too early");
    let syntax = json("{\n  'x': 1}").unwrap_err();
    assert_eq!(syntax.to_string(), "line 2, column 3: not JSON");
    let twice =
        r#"{"resourceType":"Condition","subject":{"reference":"Patient/1"},"subject":{"reference":"Patient/2"}}"#;
    assert!(json(twice).unwrap_err().to_string().ends_with("not the shape of a FHIR resource"), "a second subject");
    assert!(matches!(json(r#"{"entry":"Canary"}"#), Err(SubjectError::Json { .. })));
    assert!(matches!(json(&("[".repeat(500) + "1")), Err(SubjectError::Json { .. })));
    for broken in [
        "<ClinicalDocument>",
        "<ClinicalDocument></x>",
        "<ClinicalDocument><a b='&Canary;'",
        "<Patient xmlns='http://hl7.org/fhir' value='&Canary;'/>",
    ] {
        let error = xml(broken).unwrap_err();
        assert!(matches!(error, SubjectError::Xml { .. }), "{broken}: {error}");
        assert!(!error.to_string().contains("Canary"));
    }
    let deep = format!("<ClinicalDocument>{}", "<a>".repeat(300));
    assert_eq!(xml(&deep), Err(SubjectError::Depth { depth_max: 256 }));
    assert_eq!(
        subject(b"%PDF-", Form::plain(MediaType::Pdf)).unwrap_err(),
        SubjectError::NotRead { media_type: MediaType::Pdf }
    );
    let gzip = Form { media_type: MediaType::FhirJson, gzip: true };
    assert_eq!(subject(b"\x1f\x8b\x08", gzip), Err(SubjectError::Gzip { inflated: 0 }));
}

#[test]
fn a_subject_does_not_print() {
    let subject = subject(br#"{"resourceType":"Patient","id":"Canary"}"#, Form::plain(MediaType::FhirJson)).unwrap();
    assert_eq!(format!("{subject:?}"), "Subject(…)");
    assert_eq!(subject.expose(), "Patient/Canary");
}

/// A document of each kind that is read, to be cut and spoilt.
fn whole() -> impl Strategy<Value = (Vec<u8>, Form)> {
    let json = bundle(&[r#"{"resourceType":"Patient","id":"ü","identifier":[{"system":"urn:a","value":"\u0041"}]}"#]);
    let cda = r#"<?xml version="1.0"?><ClinicalDocument><code code="34133-9"/><recordTarget><patientRole>
        <id root="2.16.1" extension="7"/></patientRole></recordTarget></ClinicalDocument>"#;
    let fhir_xml = r#"<Patient xmlns="http://hl7.org/fhir"><id value="p"/></Patient>"#;
    prop::sample::select(vec![
        (json.into_bytes(), Form::plain(MediaType::FhirJson)),
        (cda.as_bytes().to_vec(), Form::plain(MediaType::Cda)),
        (fhir_xml.as_bytes().to_vec(), Form::plain(MediaType::FhirXml)),
    ])
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), name in ".{0,12}", gzip: bool) {
        let form = recognise(&name, &bytes);
        let _ = (subject(&bytes, form), category(&bytes, form));
        for media_type in MediaType::ALL {
            let _ = subject(&bytes, Form { media_type: *media_type, gzip });
        }
    }

    #[test]
    fn a_cut_document_has_no_subject((document, form) in whole(), at: prop::sample::Index) {
        let at = at.index(document.len());
        prop_assert!(subject(&document[..at], form).is_err());
        let _ = recognise("", &document[..at]);
    }

    #[test]
    fn a_spoilt_byte_never_panics((mut document, form) in whole(), at: prop::sample::Index, byte: u8) {
        let at = at.index(document.len());
        document[at] = byte;
        let _ = (subject(&document, form), recognise("", &document));
    }
}
