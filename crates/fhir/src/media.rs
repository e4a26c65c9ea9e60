//! What a document is, told from its first bytes and, where they do not tell, from its name.

pub(crate) mod shape;

use std::fmt;

pub(crate) use shape::without_mark;

use crate::inflate;

/// How many bytes of a document's beginning are enough for [`recognise`].
pub const SNIFF_LEN: usize = 64 * 1024;

/// Most bytes inflated to see what is inside a gzip.
const PEEK_LEN: usize = 16 * 1024;

macro_rules! media_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $extensions:expr;)*) => {
        /// The kinds of document that are told apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum MediaType {
            $($(#[$doc])* $name,)*
        }

        impl MediaType {
            /// Every kind, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The media type as RFC 6838 writes it. [`MediaType::Cda`] and [`MediaType::Xml`] share one.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Endings of file names that tell this kind where the bytes do not.
            const fn extensions(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => &$extensions,)*
                }
            }
        }
    };
}

// For the formats of genomics nothing is registered: the names follow the vendor tree that GA4GH's own protocols use.
media_types! {
    /// A FHIR resource in JSON (registered with IANA by HL7).
    FhirJson = "application/fhir+json", [];
    /// A FHIR resource in XML (registered with IANA by HL7).
    FhirXml = "application/fhir+xml", [];
    /// An HL7 CDA document: `text/xml` is what IHE's profiles give it, IANA knows no other.
    Cda = "text/xml", [];
    /// Any other XML.
    Xml = "text/xml", [".xml"];
    /// Any other JSON (RFC 8259).
    Json = "application/json", [".json"];
    /// PDF (RFC 8118).
    Pdf = "application/pdf", [".pdf"];
    /// DICOM (RFC 3240, PS3.10).
    Dicom = "application/dicom", [".dcm", ".dicom"];
    /// gzip around something that is not recognised (RFC 6713).
    Gzip = "application/gzip", [".gz", ".tgz"];
    /// A zip archive.
    Zip = "application/zip", [".zip"];
    /// PNG.
    Png = "image/png", [".png"];
    /// JPEG (RFC 2046).
    Jpeg = "image/jpeg", [".jpg", ".jpeg"];
    /// Variants as text.
    Vcf = "text/vnd.ga4gh.vcf", [".vcf"];
    /// Variants, binary: always BGZF inside.
    Bcf = "application/vnd.ga4gh.bcf", [".bcf"];
    /// Aligned reads as text.
    Sam = "text/vnd.ga4gh.sam", [".sam"];
    /// Aligned reads, binary: always BGZF inside.
    Bam = "application/vnd.ga4gh.bam", [".bam"];
    /// The index of a BAM file.
    Bai = "application/vnd.ga4gh.bai", [".bai"];
    /// Aligned reads, compressed by reference.
    Cram = "application/vnd.ga4gh.cram", [".cram"];
    /// Sequences as text.
    Fasta = "text/vnd.ga4gh.fasta", [".fa", ".fasta"];
    /// Any of these, encrypted for its recipients.
    Crypt4gh = "application/vnd.ga4gh.crypt4gh", [".c4gh"];
    /// UTF-8 text.
    Text = "text/plain", [".txt", ".text", ".md"];
    /// Anything else.
    Bytes = "application/octet-stream", [];
}

impl MediaType {
    /// The kind with this media type; parameters (`; charset=...`) and case do not count. For `text/xml` that is
    /// [`MediaType::Xml`]: only the bytes tell CDA.
    pub fn from_text(text: &str) -> Option<Self> {
        let essence = text.split(';').next()?.trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/xml" | "text/xml" => Some(Self::Xml),
            "text/json" => Some(Self::Json),
            essence => Self::ALL.iter().copied().find(|kind| kind.as_str() == essence),
        }
    }

    /// Whether [`crate::subject`] looks into this kind.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::FhirJson | Self::FhirXml | Self::Cda)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The form a document came in: what it is, and whether that is wrapped in gzip.
///
/// BAM and BCF are made of gzip blocks (BGZF) by definition; that is not a wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// What the document is, inside its gzip if it has one.
    pub media_type: MediaType,
    /// Whether a gzip is around it.
    pub gzip: bool,
}

impl Form {
    /// A document as it is, not wrapped.
    pub const fn plain(media_type: MediaType) -> Self {
        Self { media_type, gzip: false }
    }

    /// Whether [`crate::read`] finds patients in documents of this form.
    pub fn is_read(self) -> bool {
        self.media_type.is_read()
    }

    /// The media type of the bytes as they came: `application/gzip` if they are wrapped.
    pub const fn outer(self) -> &'static str {
        if self.gzip { MediaType::Gzip.as_str() } else { self.media_type.as_str() }
    }
}

/// The media type of the bytes as they came, from a document's name and its first [`SNIFF_LEN`] bytes.
pub fn media_type(name: &str, first_bytes: &[u8]) -> &'static str {
    recognise(name, first_bytes).outer()
}

/// Tells what a document is from its first [`SNIFF_LEN`] bytes (fewer if it is shorter) and its name, looking inside a
/// gzip. What the bytes say wins over what the name says.
pub fn recognise(name: &str, first_bytes: &[u8]) -> Form {
    let first_bytes = &first_bytes[..first_bytes.len().min(SNIFF_LEN)];
    let name = name.to_ascii_lowercase();
    if !first_bytes.starts_with(GZIP) {
        return Form::plain(recognise_plain(&name, first_bytes));
    }
    let inner_name = name.strip_suffix(".gz").unwrap_or(&name);
    let media_type = recognise_plain(inner_name, &inflate::peek(first_bytes, PEEK_LEN));
    match media_type {
        MediaType::Bam | MediaType::Bcf => Form::plain(media_type),
        MediaType::Bytes | MediaType::Gzip => Form::plain(MediaType::Gzip),
        media_type => Form { media_type, gzip: true },
    }
}

const GZIP: &[u8] = b"\x1f\x8b\x08";

/// First bytes that leave no doubt.
const MAGICS: &[(&[u8], MediaType)] = &[
    (b"%PDF-", MediaType::Pdf),
    (b"PK\x03\x04", MediaType::Zip),
    (b"PK\x05\x06", MediaType::Zip),
    (b"\x89PNG\r\n\x1a\n", MediaType::Png),
    (b"\xff\xd8\xff", MediaType::Jpeg),
    (b"BAM\x01", MediaType::Bam),
    (b"BAI\x01", MediaType::Bai),
    (b"BCF\x02", MediaType::Bcf),
    (b"CRAM", MediaType::Cram),
    (b"crypt4gh", MediaType::Crypt4gh),
    (b"##fileformat=VCF", MediaType::Vcf),
    (b"@HD\tVN:", MediaType::Sam),
    (b"@SQ\tSN:", MediaType::Sam),
    (GZIP, MediaType::Gzip),
];

/// Recognises what is not, or no longer, wrapped; `name` is in lower case.
fn recognise_plain(name: &str, first_bytes: &[u8]) -> MediaType {
    if let Some((_, media_type)) = MAGICS.iter().find(|(magic, _)| first_bytes.starts_with(magic)) {
        return *media_type;
    }
    if is_dicom(first_bytes) {
        return MediaType::Dicom;
    }
    if let Some(media_type) = shape::json(first_bytes).or_else(|| shape::xml(first_bytes)) {
        return media_type;
    }
    let named = MediaType::ALL.iter().copied().find(|kind| kind.extensions().iter().any(|end| name.ends_with(end)));
    let is_text = shape::is_text(first_bytes);
    match named {
        // A name that promises what the bytes would have shown is wrong: they did not.
        Some(MediaType::Json | MediaType::Xml | MediaType::Pdf | MediaType::Png | MediaType::Gzip) | None => {
            if is_text { MediaType::Text } else { MediaType::Bytes }
        }
        Some(MediaType::Text) if !is_text => MediaType::Bytes,
        Some(media_type) => media_type,
    }
}

/// PS3.10 section 7.1: a preamble of 128 bytes, then `DICM`. Older files start with the first element of group 0008.
fn is_dicom(first_bytes: &[u8]) -> bool {
    first_bytes.get(128..132) == Some(b"DICM")
        || first_bytes.starts_with(b"\x08\x00\x05\x00CS")
        || first_bytes.starts_with(b"\x00\x08\x00\x05CS")
}

#[cfg(test)]
mod tests;
