use std::io::Write;

use super::*;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn first_bytes_tell_what_a_document_is() {
    let mut dicom = vec![0; 128];
    dicom.extend_from_slice(b"DICM\x02\x00");
    let table: &[(&[u8], MediaType)] = &[
        (br#"{"resourceType":"Patient"}"#, MediaType::FhirJson),
        (b"\xef\xbb\xbf {\n \"id\" : \"1\", \"resourceType\" :", MediaType::FhirJson),
        (br#"{"type":"searchset","entry":[{"resource":{"a":[1"#, MediaType::FhirJson),
        (br#"{"a":"\"resourceType\":"}"#, MediaType::Json),
        (br#"{"vc":{"fhirBundle":{"resourceType":"Bundle"}}}"#, MediaType::Json),
        (b"{}", MediaType::Json),
        (b"[1, 2]", MediaType::Json),
        (b"[see overleaf]", MediaType::Text),
        (b"{see overleaf}", MediaType::Text),
        (br#"<Patient xmlns="http://hl7.org/fhir"/>"#, MediaType::FhirXml),
        (b"<?xml version='1.0'?><!-- a > b --><ClinicalDocument xmlns='urn:hl7-org:v3'>", MediaType::Cda),
        (b"<cda:ClinicalDocument xmlns:cda='urn:hl7-org:v3'>", MediaType::Cda),
        (b"<?xml version='1.0'?><svg/>", MediaType::Xml),
        (b"<?xml version='1.0'?><!-- cut", MediaType::Xml),
        (b"< 3 mg/l", MediaType::Text),
        (b"%PDF-1.7\n", MediaType::Pdf),
        (&dicom, MediaType::Dicom),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", MediaType::Dicom),
        (b"PK\x03\x04", MediaType::Zip),
        (b"\x89PNG\r\n\x1a\n", MediaType::Png),
        (b"\xff\xd8\xff\xe0", MediaType::Jpeg),
        (b"##fileformat=VCFv4.4\n", MediaType::Vcf),
        (b"CRAM\x03\x00", MediaType::Cram),
        (b"crypt4gh\x01\x00\x00\x00", MediaType::Crypt4gh),
        ("Café, cut within é: \u{e9}".as_bytes().split_last().unwrap().1, MediaType::Text),
        (b"\x00\x01\x02", MediaType::Bytes),
        (b"", MediaType::Bytes),
    ];
    for (bytes, media_type) in table {
        assert_eq!(recognise("", bytes), Form::plain(*media_type), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_name_tells_only_what_the_bytes_do_not() {
    assert_eq!(recognise("Scan.DCM", b"\x20\x08\x00\x05").media_type, MediaType::Dicom);
    assert_eq!(recognise("reads.fa", b">one\nACGT").media_type, MediaType::Fasta);
    assert_eq!(recognise("scan.dcm", b"%PDF-1.4").media_type, MediaType::Pdf);
    assert_eq!(recognise("bundle.json", b"not that").media_type, MediaType::Text);
    assert_eq!(recognise("note.txt", b"\x00\x00").media_type, MediaType::Bytes);
}

#[test]
fn a_gzip_tells_what_is_inside_it() {
    let bundle = gzip(br#"{"resourceType":"Bundle","entry":[]}"#);
    let form = Form { media_type: MediaType::FhirJson, gzip: true };
    assert_eq!(recognise("x.json.gz", &bundle), form);
    assert_eq!(recognise("x.json.gz", &bundle[..bundle.len() - 10]), form, "a beginning is enough");
    assert_eq!(media_type("x.json.gz", &bundle), "application/gzip");
    assert_eq!(recognise("scan.dcm.gz", &gzip(b"\x20\x08")), Form { media_type: MediaType::Dicom, gzip: true });
    assert_eq!(recognise("x.gz", &gzip(b"\x00\x01")), Form::plain(MediaType::Gzip));
    assert_eq!(recognise("x.gz", &gzip(&gzip(b"text"))), Form::plain(MediaType::Gzip));
    assert_eq!(recognise("x", b"\x1f\x8b\x08"), Form::plain(MediaType::Gzip));
    assert_eq!(recognise("reads", &gzip(b"BAM\x01")), Form::plain(MediaType::Bam), "BGZF is part of the format");
}

#[test]
fn nothing_past_the_sniffed_length_counts() {
    let mut bytes = br#"{"text":""#.to_vec();
    bytes.resize(SNIFF_LEN, b' ');
    bytes.extend_from_slice(br#"","resourceType":"Patient"}"#);
    assert_eq!(recognise("", &bytes).media_type, MediaType::Json);
    bytes.splice(9..SNIFF_LEN - 16, []);
    assert_eq!(recognise("", &bytes).media_type, MediaType::FhirJson);
}

#[test]
fn media_types_are_read_back_from_their_text() {
    for media_type in MediaType::ALL.iter().filter(|kind| **kind != MediaType::Cda) {
        assert_eq!(MediaType::from_text(media_type.as_str()), Some(*media_type));
    }
    assert_eq!(MediaType::from_text("Application/FHIR+JSON; charset=utf-8"), Some(MediaType::FhirJson));
    assert_eq!(MediaType::from_text("application/xml"), Some(MediaType::Xml));
    assert_eq!(MediaType::from_text("video/mp4"), None);
}
