//! The shape of text formats, seen in a beginning that may be cut anywhere.

use super::MediaType;

/// Most bytes of a document looked at to tell text from binary data.
const TEXT_LEN: usize = 8 * 1024;

/// FHIR JSON, other JSON, or neither.
///
/// FHIR JSON is an object whose own `resourceType` is seen, or one whose `entry` holds resources while its own
/// `resourceType` may come after them: FHIR does not order members, and real Bundles end with it.
pub(super) fn json(first_bytes: &[u8]) -> Option<MediaType> {
    let text = without_mark(first_bytes).trim_ascii_start();
    match text.first()? {
        b'[' if matches!(
            text[1..].trim_ascii_start().first(),
            None | Some(b'{' | b'[' | b'"' | b']' | b'0'..=b'9' | b'-')
        ) =>
        {
            Some(MediaType::Json)
        }
        b'{' if matches!(text[1..].trim_ascii_start().first(), None | Some(b'"' | b'}')) => {
            Some(if is_resource(text) { MediaType::FhirJson } else { MediaType::Json })
        }
        _ => None,
    }
}

/// Whether a JSON object, cut anywhere, is a FHIR resource.
fn is_resource(text: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut in_entry = false;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let Some(len) = string_len(&text[at + 1..]) else { return false };
                let string = &text[at + 1..at + 1 + len];
                at += len + 1;
                if text[at + 1..].trim_ascii_start().first() == Some(&b':') {
                    match (depth, string) {
                        (1, b"resourceType") => return true,
                        (1, key) => in_entry = key == b"entry",
                        (3.., b"resource" | b"resourceType") if in_entry => return true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    false
}

/// Bytes of a JSON string up to its closing quote.
fn string_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// CDA, FHIR XML, other XML, or none of them.
pub(super) fn xml(first_bytes: &[u8]) -> Option<MediaType> {
    let mut text = without_mark(first_bytes).trim_ascii_start();
    if !text.starts_with(b"<") {
        return None;
    }
    let declared = text.starts_with(b"<?xml");
    loop {
        let end: &[u8] = match text {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..] => b">",
            [b'<', ..] => break,
            _ => return declared.then_some(MediaType::Xml),
        };
        let Some(at) = text.windows(end.len()).position(|window| window == end) else {
            return declared.then_some(MediaType::Xml);
        };
        text = text[at + end.len()..].trim_ascii_start();
    }
    let tag = &text[1..text.iter().position(|&byte| byte == b'>').unwrap_or(text.len())];
    let has = |what: &[u8]| tag.windows(what.len()).any(|window| window == what);
    let name = tag.split(|byte| byte.is_ascii_whitespace() || *byte == b'/').next().unwrap_or_default();
    let local = name.rsplit(|&byte| byte == b':').next().unwrap_or_default();
    match local {
        b"ClinicalDocument" => Some(MediaType::Cda),
        _ if has(b"\"http://hl7.org/fhir\"") || has(b"'http://hl7.org/fhir'") => Some(MediaType::FhirXml),
        [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] if declared || has(b"xmlns") => Some(MediaType::Xml),
        _ => None,
    }
}

/// Whether the beginning of a document is UTF-8 (a character cut at the end is fine) without control characters other
/// than those of layout. Nothing at all is not text.
pub(super) fn is_text(first_bytes: &[u8]) -> bool {
    let head = &first_bytes[..first_bytes.len().min(TEXT_LEN)];
    let utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    utf8 && !head.is_empty() && !head.iter().any(|&byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c))
}

/// Without the UTF-8 byte order mark some exporters write.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
