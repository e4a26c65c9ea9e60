//! Codes and words of the generated documents. The codes are real ones of their systems, so that software that knows them
//! shows something sensible.

/// Parts of names.
pub(super) const SYLLABLES: &[&str] = &[
    "ba", "dor", "ke", "lin", "mo", "nu", "pra", "qui", "ras", "so", "tel", "ul", "ven", "wi", "xan", "yo", "zim",
    "fe", "gla", "hu", "jor", "ce", "bri", "tam",
];

/// Code, display.
pub(super) type Term = (&'static str, &'static str);

/// Code, display, unit, and the usual range in tenths of the unit.
pub(super) type Measure = (&'static str, &'static str, &'static str, usize, usize);

/// Vital signs in LOINC.
pub(super) const VITAL_SIGNS: &[Measure] = &[
    ("8867-4", "Heart rate", "/min", 550, 1000),
    ("9279-1", "Respiratory rate", "/min", 120, 200),
    ("8310-5", "Body temperature", "Cel", 361, 377),
    ("29463-7", "Body weight", "kg", 480, 1100),
    ("8302-2", "Body height", "cm", 1500, 1950),
    ("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", 185, 300),
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 900, 1400),
    ("8462-4", "Diastolic blood pressure", "mm[Hg]", 600, 900),
    ("2708-6", "Oxygen saturation in Arterial blood", "%", 930, 1000),
];

/// Laboratory tests in LOINC.
pub(super) const LABORATORY: &[Measure] = &[
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 120, 175),
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 40, 110),
    ("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 1500, 4000),
    ("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 360, 500),
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 700, 1000),
    ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 40, 57),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 6, 13),
    ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 70, 200),
    ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 1350, 1450),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 35, 51),
    ("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 70, 560),
    ("1920-8", "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 100, 400),
    ("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 1250, 2000),
    ("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 400, 1500),
    ("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 400, 800),
    ("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", "mg/L", 0, 50),
    ("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", 4, 40),
];

/// Problems in SNOMED CT.
pub(super) const CONDITIONS: &[Term] = &[
    ("38341003", "Hypertensive disorder"),
    ("44054006", "Diabetes mellitus type 2"),
    ("195967001", "Asthma"),
    ("13645005", "Chronic obstructive lung disease"),
    ("53741008", "Coronary arteriosclerosis"),
    ("84114007", "Heart failure"),
    ("49436004", "Atrial fibrillation"),
    ("709044004", "Chronic kidney disease"),
    ("396275006", "Osteoarthritis"),
    ("35489007", "Depressive disorder"),
    ("40930008", "Hypothyroidism"),
    ("37796009", "Migraine"),
    ("271737000", "Anemia"),
    ("235595009", "Gastroesophageal reflux disease"),
];

/// Substances people do not tolerate, in SNOMED CT.
pub(super) const SUBSTANCES: &[Term] = &[
    ("764146007", "Penicillin"),
    ("387458008", "Aspirin"),
    ("256277009", "Grass pollen"),
    ("102263004", "Eggs (edible)"),
    ("762952008", "Peanut"),
    ("111088007", "Latex"),
    ("387406002", "Sulfonamide"),
];

/// Medicines in ATC.
pub(super) const MEDICINES: &[Term] = &[
    ("A10BA02", "metformin"),
    ("C09AA05", "ramipril"),
    ("C07AB02", "metoprolol"),
    ("C10AA05", "atorvastatin"),
    ("B01AC06", "acetylsalicylic acid"),
    ("R03AC02", "salbutamol"),
    ("N02BE01", "paracetamol"),
    ("A02BC01", "omeprazole"),
    ("H03AA01", "levothyroxine sodium"),
    ("J01CA04", "amoxicillin"),
    ("N06AB06", "sertraline"),
    ("B01AF02", "apixaban"),
];

/// Vaccines in CVX.
pub(super) const VACCINES: &[Term] = &[
    ("140", "Influenza, seasonal, injectable, preservative free"),
    ("113", "Td (adult), 5 Lf tetanus toxoid, preservative free, adsorbed"),
    ("133", "Pneumococcal conjugate PCV 13"),
    ("03", "MMR"),
    ("43", "Hep B, adult"),
    ("121", "zoster live"),
    ("207", "COVID-19, mRNA, LNP-S, PF, 100 mcg/0.5mL dose or 50 mcg/0.25mL dose"),
];

/// What was done and is paid for, in SNOMED CT.
pub(super) const SERVICES: &[Term] = &[
    ("185349003", "Encounter for check up"),
    ("26604007", "Complete blood count"),
    ("29303009", "Electrocardiographic procedure"),
    ("399208008", "Plain chest X-ray"),
    ("45036003", "Ultrasonography of abdomen"),
    ("33879002", "Administration of substance to produce active immunity"),
    ("386053000", "Evaluation procedure"),
    ("91251008", "Physical therapy procedure"),
];

/// Modalities of DICOM with the region of the body, in SNOMED CT.
pub(super) const MODALITIES: &[(&str, &str, &str)] = &[
    ("CT", "51185008", "Thoracic structure"),
    ("MR", "12738006", "Brain structure"),
    ("DX", "72696002", "Knee region structure"),
    ("US", "818983003", "Abdomen"),
];

/// Beginnings of sentences of a note.
pub(super) const OPENINGS: &[&str] = &[
    "The patient reports",
    "On examination there is",
    "Since the last visit there has been",
    "The family history includes",
    "The laboratory shows",
    "We discussed",
    "Treatment so far included",
    "There are no signs of",
    "At discharge we found",
    "Follow-up is planned for",
];

/// Middles of sentences of a note.
pub(super) const FINDINGS: &[&str] = &[
    "mild pain in the left knee",
    "shortness of breath on exertion",
    "a regular heart rhythm without murmurs",
    "clear breath sounds on both sides",
    "an unchanged weight and good appetite",
    "intermittent dizziness when standing up",
    "well controlled blood pressure",
    "a dry cough without fever",
    "slightly raised inflammation markers",
    "stable kidney function",
    "improved sleep and mood",
    "swelling of both ankles in the evening",
];

/// Ends of sentences of a note.
pub(super) const CLOSINGS: &[&str] = &[
    "for about two weeks.",
    "as at the previous visit.",
    "which did not need treatment.",
    "and a check of the medication is advised.",
    "with good response to the present therapy.",
    "and an appointment in three months was made.",
    "without limits to daily life.",
    "to be confirmed by imaging.",
];
