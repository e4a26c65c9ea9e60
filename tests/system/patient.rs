//! Real documents: a clinic gives another one what it has of a patient.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bithealth_tests::{Cluster, files_of, real_data, same_files, write};

#[test]
fn another_clinic_gets_a_patient_s_documents_by_the_patient() {
    let Some(documents) = real_data("fhir/synthea") else { return };
    let cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let count = files_of(&documents).len();
    let put = cluster["north-1"].put_replicated(&documents, &["--patient", "auto", "--for", "south-1"]);
    assert_eq!(put.events("record").count(), count);

    let mut of_patients: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    cluster["south-1"].wait_for("lists all of it", |status| status["records"] == count);
    for row in cluster["south-1"].done(&["ls"]).lines {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        of_patients.entry(text("patient")).or_default().push(text("name").into());
    }
    of_patients.remove("");
    assert!(of_patients.len() > 20, "few patients were recognised: {of_patients:?}");
    for (number, (patient, names)) in of_patients.into_iter().take(3).enumerate() {
        let (want, got) = (cluster.path(&format!("want {number}")), cluster.path(&format!("got {number}")));
        for name in &names {
            write(&want.join(name), std::fs::read(documents.join(name)).unwrap());
        }
        cluster["south-1"].done(&["get", "--patient", &patient, "--output", got.to_str().unwrap()]);
        same_files(&want, &got).unwrap();
    }
    let nothing = cluster["east-1"].done(&["ls"]);
    assert!(nothing.lines.is_empty(), "a third clinic sees {nothing:?}");
}
