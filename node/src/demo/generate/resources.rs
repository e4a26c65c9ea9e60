//! The resources of a visit.

use data_encoding::BASE64;

use super::draw::fill;
use super::visit::{Kind, Visit};
use super::words::{self, Measure, Term};

impl Visit<'_> {
    /// One resource of a kind that has many.
    pub(super) fn resource(&mut self, kind: Kind, id: &str) {
        match kind {
            Kind::VitalSigns => self.observation(id, "vital-signs", words::VITAL_SIGNS),
            Kind::Laboratory => self.observation(id, "laboratory", words::LABORATORY),
            Kind::Medications => self.medication_request(id),
            Kind::Immunizations => self.immunization(id),
            Kind::Allergies => self.allergy(id),
            _ => self.condition(id),
        }
    }

    /// How every resource begins: type, id, version, narrative, and whose it is.
    fn head(&mut self, resource_type: &str, id: &str, narrative: &str, patient_member: &str) {
        let updated = self.draw.instant(&self.day);
        fill(
            &mut self.out,
            r#"{"resourceType":"$0","id":"$1","meta":{"versionId":"1","lastUpdated":"$2","source":"https://bithealth.example/generated"},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p><b>$3</b></p><p>Recorded $2 for $4, record number $5.</p></div>"},"$6":$7,"#,
            &[
                resource_type,
                id,
                &updated,
                narrative,
                &self.person.name,
                &self.person.number,
                patient_member,
                &self.subject,
            ],
        );
        if let (Some(encounter), false) = (&self.encounter, resource_type == "DocumentReference") {
            fill(&mut self.out, r#""encounter":{"reference":"urn:uuid:$0"},"#, &[encounter]);
        }
    }

    fn observation(&mut self, id: &str, category: &str, measures: &[Measure]) {
        let (code, display, unit, low, high) = self.draw.pick(measures);
        let (value, is_usual) = self.draw.measure(low, high);
        let interpretation = if is_usual { ("N", "Normal") } else { ("A", "Abnormal") };
        let (low, high) = (format!("{}.{}", low / 10, low % 10), format!("{}.{}", high / 10, high % 10));
        self.head("Observation", id, &format!("{display}: {value} {unit}"), "subject");
        let when = self.draw.instant(&self.day);
        fill(
            &mut self.out,
            r#""status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"$0"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"$1","display":"$2"}],"text":"$2"},"effectiveDateTime":"$3","performer":[{"identifier":{"system":"https://bithealth.example/clinicians","value":"$4"}}],"valueQuantity":{"value":$5,"unit":"$6","system":"http://unitsofmeasure.org","code":"$6"},"interpretation":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","#,
            &[category, code, display, &when, &self.clinician, &value, unit],
        );
        fill(
            &mut self.out,
            r#""code":"$0","display":"$1"}]}],"referenceRange":[{"low":{"value":$2,"unit":"$4","system":"http://unitsofmeasure.org","code":"$4"},"high":{"value":$3,"unit":"$4","system":"http://unitsofmeasure.org","code":"$4"}}]}"#,
            &[interpretation.0, interpretation.1, &low, &high, unit],
        );
    }

    /// The report over laboratory results of the same Bundle.
    pub(super) fn report(&mut self, id: &str, results: &[String]) {
        self.head("DiagnosticReport", id, "Laboratory report", "subject");
        let when = self.draw.instant(&self.day);
        fill(
            &mut self.out,
            r#""status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0074","code":"LAB","display":"Laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"11502-2","display":"Laboratory report"}]},"effectiveDateTime":"$0","issued":"$0","result":["#,
            &[&when],
        );
        references(&mut self.out, results);
        self.out.push_str("]}");
    }

    fn condition(&mut self, id: &str) {
        let (code, display) = self.draw.pick(words::CONDITIONS);
        self.head("Condition", id, display, "subject");
        let onset = self.draw.day();
        fill(
            &mut self.out,
            r#""clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-ver-status","code":"confirmed"}]},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"problem-list-item","display":"Problem List Item"}]}],$0,"onsetDateTime":"$1","recordedDate":"$2"}"#,
            &[&coded("code", "http://snomed.info/sct", (code, display)), &onset, &self.day],
        );
    }

    fn allergy(&mut self, id: &str) {
        let (code, display) = self.draw.pick(words::SUBSTANCES);
        self.head("AllergyIntolerance", id, &format!("Allergy to {display}"), "patient");
        let criticality = self.draw.pick(&["low", "high", "unable-to-assess"]);
        fill(
            &mut self.out,
            r#""clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification","code":"confirmed"}]},"type":"allergy","criticality":"$0",$1,"recordedDate":"$2"}"#,
            &[criticality, &coded("code", "http://snomed.info/sct", (code, display)), &self.day],
        );
    }

    fn medication_request(&mut self, id: &str) {
        let (code, display) = self.draw.pick(words::MEDICINES);
        let (times, dose) = ((1 + self.draw.below(4)).to_string(), (1 + self.draw.below(3)).to_string());
        self.head("MedicationRequest", id, &format!("{display}, {dose} tablets {times} times a day"), "subject");
        fill(
            &mut self.out,
            r#""status":"active","intent":"order",$0,"authoredOn":"$1","requester":{"identifier":{"system":"https://bithealth.example/clinicians","value":"$2"}},"dosageInstruction":[{"text":"$4 tablets $3 times a day","timing":{"repeat":{"frequency":$3,"period":1,"periodUnit":"d"}},"route":{"coding":[{"system":"http://standardterms.edqm.eu","code":"20053000","display":"Oral use"}]},"doseAndRate":[{"doseQuantity":{"value":$4,"unit":"tablet","system":"http://unitsofmeasure.org","code":"{tbl}"}}]}],"dispenseRequest":{"numberOfRepeatsAllowed":$3,"quantity":{"value":100,"unit":"tablet"}}}"#,
            &[
                &coded("medicationCodeableConcept", "http://www.whocc.no/atc", (code, display)),
                &self.day,
                &self.clinician,
                &times,
                &dose,
            ],
        );
    }

    fn immunization(&mut self, id: &str) {
        let (code, display) = self.draw.pick(words::VACCINES);
        let (lot, when) = (format!("L{:06}", self.draw.below(1_000_000)), self.draw.day());
        self.head("Immunization", id, display, "patient");
        fill(
            &mut self.out,
            r#""status":"completed",$0,"occurrenceDateTime":"$1","recorded":"$2","primarySource":true,"lotNumber":"$3","site":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActSite","code":"LA","display":"left arm"}]},"doseQuantity":{"value":0.5,"system":"http://unitsofmeasure.org","code":"mL"},"performer":[{"actor":{"identifier":{"system":"https://bithealth.example/clinicians","value":"$4"}}}]}"#,
            &[
                &coded("vaccineCode", "http://hl7.org/fhir/sid/cvx", (code, display)),
                &when,
                &self.day,
                &lot,
                &self.clinician,
            ],
        );
    }

    pub(super) fn claim(&mut self, len: usize) {
        let id = self.draw.uuid();
        self.head("Claim", &id, "Claim for services of one visit", "patient");
        fill(
            &mut self.out,
            r#""status":"active","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/claim-type","code":"professional"}]},"use":"claim","created":"$0","provider":{"identifier":{"system":"https://bithealth.example/clinicians","value":"$1"}},"priority":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/processpriority","code":"normal"}]},"insurance":[{"sequence":1,"focal":true,"coverage":{"display":"Demonstration coverage"}}],"item":["#,
            &[&self.day, &self.clinician],
        );
        let mut cents = 0;
        for sequence in 1.. {
            let price = 500 + self.draw.below(40_000);
            cents += price;
            let (service, sequence) = (self.draw.pick(words::SERVICES), sequence.to_string());
            fill(
                &mut self.out,
                r#"{"sequence":$0,$1,"servicedDate":"$2","unitPrice":{"value":$3,"currency":"EUR"},"net":{"value":$3,"currency":"EUR"}}"#,
                &[&sequence, &coded("productOrService", "http://snomed.info/sct", service), &self.day, &money(price)],
            );
            if self.out.len() + 250 >= len {
                break;
            }
            self.out.push(',');
        }
        fill(&mut self.out, r#"],"total":{"value":$0,"currency":"EUR"}}"#, &[&money(cents)]);
    }

    pub(super) fn note(&mut self, len: usize) {
        let id = self.draw.uuid();
        self.head("DocumentReference", &id, "Progress note", "subject");
        let mut note = format!("Progress note of {}, {}\n\n", self.day, self.person.name);
        while self.out.len() + 600 + note.len() * 4 / 3 < len || note.len() < 100 {
            for words in [words::OPENINGS, words::FINDINGS, words::CLOSINGS] {
                note.push_str(self.draw.pick(words));
                note.push(' ');
            }
        }
        let (when, size) = (self.draw.instant(&self.day), note.len().to_string());
        fill(
            &mut self.out,
            r#""status":"current",$0,"date":"$1","author":[{"identifier":{"system":"https://bithealth.example/clinicians","value":"$2"}}],"content":[{"attachment":{"contentType":"text/plain; charset=utf-8","language":"en","size":$3,"title":"Progress note","creation":"$1","data":""#,
            &[&coded("type", "http://loinc.org", ("11506-3", "Progress note")), &when, &self.clinician, &size],
        );
        BASE64.encode_append(note.as_bytes(), &mut self.out);
        self.out.push_str(r#""}}]}"#);
    }

    pub(super) fn imaging_study(&mut self, len: usize) {
        let id = self.draw.uuid();
        let (modality, region, name) = self.draw.pick(words::MODALITIES);
        self.head("ImagingStudy", &id, &format!("{modality}: {name}"), "subject");
        let (started, series) = (self.draw.instant(&self.day), self.uid());
        fill(
            &mut self.out,
            r#""status":"available","modality":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"$0"}],"started":"$1","numberOfSeries":1,"series":[{"uid":"$2","number":1,"modality":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"$0"},"bodySite":{"system":"http://snomed.info/sct","code":"$3","display":"$4"},"instance":["#,
            &[modality, &started, &series, region, name],
        );
        for number in 1.. {
            let (uid, number) = (self.uid(), number.to_string());
            fill(
                &mut self.out,
                r#"{"uid":"$0","sopClass":{"system":"urn:ietf:rfc3986","code":"urn:oid:1.2.840.10008.5.1.4.1.1.7"},"number":$1,"title":"$2 image $1"}"#,
                &[&uid, &number, modality],
            );
            if self.out.len() + 100 >= len {
                break;
            }
            self.out.push(',');
        }
        self.out.push_str("]}]}");
    }

    /// A DICOM UID under 2.25 (PS3.5 section B.2), which needs no registration.
    fn uid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.draw.fill(&mut bytes);
        format!("2.25.{}", u128::from_le_bytes(bytes))
    }
}

/// A member that is a CodeableConcept of one coding.
fn coded(member: &str, system: &str, (code, display): Term) -> String {
    let mut out = String::with_capacity(200);
    let template = r#""$0":{"coding":[{"system":"$1","code":"$2","display":"$3"}],"text":"$3"}"#;
    fill(&mut out, template, &[member, system, code, display]);
    out
}

/// References to entries of the same Bundle, with commas between.
pub(super) fn references(out: &mut String, ids: &[String]) {
    for (index, id) in ids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        fill(out, r#"$0{"reference":"urn:uuid:$1"}"#, &[comma, id]);
    }
}

fn money(cents: usize) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
