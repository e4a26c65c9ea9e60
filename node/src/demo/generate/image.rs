//! One large file that does not compress, as images of a scanner do not.

use std::io::{self, Read};

use super::draw::Draw;

/// A DICOM file of random pixels, made while it is read.
#[derive(Debug)]
pub struct Large {
    head: Vec<u8>,
    read: u64,
    len: u64,
    draw: Draw,
}

/// A DICOM file (PS3.10) of `len` bytes whose pixels are random, so that nothing can compress it. The head takes the first
/// few hundred bytes; a file shorter than that is cut.
pub fn large(seed: u64, len: u64) -> Large {
    Large { head: head(seed, len), read: 0, len, draw: Draw::new(seed, u64::MAX) }
}

impl Read for Large {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len - self.read).unwrap_or(usize::MAX);
        let head_read = usize::try_from(self.read).unwrap_or(usize::MAX).min(self.head.len());
        let head = &self.head[head_read..];
        let count = if head.is_empty() { buffer.len().min(left) } else { buffer.len().min(left).min(head.len()) };
        if head.is_empty() {
            self.draw.fill(&mut buffer[..count]);
        } else {
            buffer[..count].copy_from_slice(&head[..count]);
        }
        self.read += count as u64;
        Ok(count)
    }
}

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// Preamble, file meta information and data set up to the pixels: explicit VR, little endian.
fn head(seed: u64, len: u64) -> Vec<u8> {
    let instance = format!("2.25.{seed}");
    let mut meta = Vec::new();
    element(&mut meta, (0x0002, 0x0001), *b"OB", &[0, 1]);
    element(&mut meta, (0x0002, 0x0002), *b"UI", SECONDARY_CAPTURE.as_bytes());
    element(&mut meta, (0x0002, 0x0003), *b"UI", instance.as_bytes());
    element(&mut meta, (0x0002, 0x0010), *b"UI", EXPLICIT_LITTLE_ENDIAN.as_bytes());
    element(&mut meta, (0x0002, 0x0012), *b"UI", b"2.25.1");

    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    let meta_len = u32::try_from(meta.len()).expect("five short elements");
    element(&mut head, (0x0002, 0x0000), *b"UL", &meta_len.to_le_bytes());
    head.extend_from_slice(&meta);
    element(&mut head, (0x0008, 0x0016), *b"UI", SECONDARY_CAPTURE.as_bytes());
    element(&mut head, (0x0008, 0x0018), *b"UI", instance.as_bytes());
    element(&mut head, (0x0008, 0x0060), *b"CS", b"OT");
    element(&mut head, (0x0010, 0x0010), *b"PN", b"Random^Pixels");
    element(&mut head, (0x0010, 0x0020), *b"LO", b"P000000");
    head.extend_from_slice(b"\xe0\x7f\x10\x00OW\0\0");
    let pixels_len = len.saturating_sub(head.len() as u64 + 4);
    head.extend_from_slice(&u32::try_from(pixels_len).unwrap_or(u32::MAX).to_le_bytes());
    head
}

/// A data element (PS3.5 section 7.1.2), its value filled up to an even length.
fn element(out: &mut Vec<u8>, (group, number): (u16, u16), vr: [u8; 2], value: &[u8]) {
    let padded_len = value.len().next_multiple_of(2);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&vr);
    if matches!(&vr, b"OB" | b"OW") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u32::try_from(padded_len).expect("a short value").to_le_bytes());
    } else {
        out.extend_from_slice(&u16::try_from(padded_len).expect("a short value").to_le_bytes());
    }
    out.extend_from_slice(value);
    let padding = if &vr == b"UI" { 0 } else { b' ' };
    out.resize(out.len() + padded_len - value.len(), padding);
}
