//! Compression of one chunk, where it helps.

use std::cell::RefCell;
use std::sync::LazyLock;

use bithealth_proto::v1::Codec;
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CParameter, compress_bound};

/// The dictionary of [`Codec::ZstdFhir1`], for FHIR R4 in JSON. It never changes: packs that need it are kept for
/// decades. `examples/train_dictionary.rs` made it; a better one becomes another codec.
pub const DICTIONARY_FHIR1: &[u8] = include_bytes!("../dictionaries/fhir-1.zstd-dict");

/// Level of zstd. The figures that chose it stand in the tests of the dictionary.
pub const ZSTD_LEVEL: i32 = 3;

/// Longest input the dictionary is used for; a longer one soon holds more of its own patterns than the dictionary does.
pub const DICTIONARY_INPUT_MAX: usize = 64 * 1024;

/// An input at least this long is judged by a sample before it is compressed.
const SAMPLED_LEN_MIN: usize = 32 * 1024;

/// A sample is this many runs of `SAMPLE_RUN_LEN` bytes, spread evenly.
const SAMPLE_RUNS: usize = 4;
const SAMPLE_RUN_LEN: usize = 2 * 1024;

/// What to try on the chunks of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Nothing: the format is compressed or sealed already.
    No,
    /// zstd.
    Zstd,
    /// zstd, with the dictionary for FHIR JSON where the chunk is small.
    FhirJson,
}

impl Compress {
    /// What helps records of this media type (RFC 6838). Where it is in doubt, the bytes decide, chunk by chunk.
    pub fn for_media_type(media_type: &str) -> Self {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let Some((kind, subtype)) = essence.split_once('/') else { return Self::Zstd };
        match (kind, subtype) {
            ("application", "json" | "fhir+json") => Self::FhirJson,
            ("image", "jpeg" | "png" | "gif" | "webp" | "avif" | "heic" | "heif" | "jp2" | "jxl" | "jls") => Self::No,
            ("audio", "wav" | "x-wav" | "vnd.wave" | "basic") => Self::Zstd,
            ("audio" | "video", _) => Self::No,
            ("application", "zip" | "gzip" | "x-gzip" | "zstd" | "x-bzip2" | "x-xz" | "x-7z-compressed") => Self::No,
            ("application", "vnd.ga4gh.bam" | "vnd.ga4gh.cram" | "vnd.ga4gh.bcf" | "vnd.ga4gh.crypt4gh") => Self::No,
            ("application", other) if other.starts_with("vnd.openxmlformats-") => Self::No,
            _ => Self::Zstd,
        }
    }
}

static ENCODER_FHIR1: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_FHIR1, ZSTD_LEVEL));
static DECODER_FHIR1: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_FHIR1));

/// One thread's contexts: making one, or loading the dictionary, costs more than compressing a small document.
struct Contexts {
    sampler: Compressor<'static>,
    plain: Compressor<'static>,
    fhir1: Compressor<'static>,
    open_plain: Decompressor<'static>,
    open_fhir1: Decompressor<'static>,
    scratch: Vec<u8>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::new(Contexts::new());
}

impl Contexts {
    fn new() -> Self {
        const WHY: &str = "fails only where memory does";
        let mut fhir1 = Compressor::with_prepared_dictionary(&ENCODER_FHIR1).expect(WHY);
        fhir1.set_parameter(CParameter::DictIdFlag(false)).expect("the codec names the dictionary");
        Self {
            sampler: Compressor::new(1).expect(WHY),
            plain: Compressor::new(ZSTD_LEVEL).expect(WHY),
            fhir1,
            open_plain: Decompressor::new().expect(WHY),
            open_fhir1: Decompressor::with_prepared_dictionary(&DECODER_FHIR1).expect(WHY),
            scratch: Vec::new(),
        }
    }

    /// Compresses into the scratch buffer; true where that makes it shorter by 1/32 at least.
    fn shrinks(&mut self, with: Codec, input: &[u8]) -> bool {
        self.scratch.clear();
        self.scratch.reserve(compress_bound(input.len()));
        let compressor = if with == Codec::ZstdFhir1 { &mut self.fhir1 } else { &mut self.plain };
        compressor.compress_to_buffer(input, &mut self.scratch).expect("the buffer has the length zstd asks for");
        self.scratch.len() + self.scratch.len() / 31 < input.len()
    }

    /// Whether a sample of the input shrinks: costs a few microseconds, where trying all of it would cost hundreds.
    fn sample_shrinks(&mut self, input: &[u8]) -> bool {
        let stride = (input.len() - SAMPLE_RUN_LEN) / (SAMPLE_RUNS - 1);
        let mut sample = [0; SAMPLE_RUNS * SAMPLE_RUN_LEN];
        for (run, into) in sample.chunks_exact_mut(SAMPLE_RUN_LEN).enumerate() {
            into.copy_from_slice(&input[run * stride..][..SAMPLE_RUN_LEN]);
        }
        self.scratch.clear();
        self.scratch.reserve(compress_bound(sample.len()));
        self.sampler.compress_to_buffer(&sample, &mut self.scratch).expect("the buffer has the length zstd asks for");
        self.scratch.len() + sample.len() / 32 < sample.len()
    }
}

/// Compresses a chunk where that helps; the buffer has room for `spare` more bytes.
pub(crate) fn compress(input: &[u8], kind: Compress, spare: usize) -> (Vec<u8>, Codec) {
    CONTEXTS.with_borrow_mut(|contexts| {
        let codec = match kind {
            Compress::No => Codec::Stored,
            Compress::FhirJson if input.len() <= DICTIONARY_INPUT_MAX => Codec::ZstdFhir1,
            Compress::Zstd | Compress::FhirJson => Codec::Zstd,
        };
        let worth_trying = codec != Codec::Stored && (input.len() < SAMPLED_LEN_MIN || contexts.sample_shrinks(input));
        if worth_trying && contexts.shrinks(codec, input) {
            return (copy_with_spare(&contexts.scratch, spare), codec);
        }
        (copy_with_spare(input, spare), Codec::Stored)
    })
}

fn copy_with_spare(bytes: &[u8], spare: usize) -> Vec<u8> {
    let mut copy = Vec::with_capacity(bytes.len() + spare);
    copy.extend_from_slice(bytes);
    copy
}

/// Compresses what is no chunk (catalogs): always zstd.
pub(crate) fn compress_plain(input: &[u8]) -> Vec<u8> {
    CONTEXTS.with_borrow_mut(|contexts| contexts.plain.compress(input).expect("fails only where memory does"))
}

/// Bytes that differ from `len` bytes after decompression, or are no zstd frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotThisLong;

/// Undoes [`compress`]; never writes more than `len` bytes.
pub(crate) fn decompress<B>(bytes: B, codec: Codec, len: usize) -> Result<Bytes, NotThisLong>
where
    B: AsRef<[u8]> + Into<Bytes>,
{
    let plain: Bytes = match codec {
        Codec::Stored => bytes.into(),
        Codec::Zstd | Codec::ZstdFhir1 => CONTEXTS.with_borrow_mut(|contexts| {
            let with = if codec == Codec::Zstd { &mut contexts.open_plain } else { &mut contexts.open_fhir1 };
            with.decompress(bytes.as_ref(), len).map(Bytes::from).map_err(|_| NotThisLong)
        })?,
    };
    if plain.len() == len { Ok(plain) } else { Err(NotThisLong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use sha2::{Digest, Sha256};

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ChaCha8Rng::seed_from_u64(7).fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn the_shipped_dictionary_is_the_recorded_one() {
        let digest = Sha256::digest(DICTIONARY_FHIR1);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../dictionaries/fhir-1.sha256").trim(), "packs sealed with it would not open");
        assert!(DICTIONARY_FHIR1.len() <= 112 << 10);
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        for len in [0, 1, 100, 5_000, SAMPLED_LEN_MIN, 256 << 10] {
            for kind in [Compress::Zstd, Compress::FhirJson] {
                let input = noise(len);
                assert_eq!(compress(&input, kind, 16), (input, Codec::Stored), "{len}");
            }
        }
    }

    #[test]
    fn a_compressed_format_is_not_tried() {
        let input = vec![b'a'; 10_000];
        assert_eq!(compress(&input, Compress::No, 16), (input, Codec::Stored));
    }

    #[test]
    fn text_after_a_noisy_start_is_still_compressed() {
        let mut input = noise(64 << 10);
        input.resize(256 << 10, b'a');
        let (bytes, codec) = compress(&input, Compress::Zstd, 16);
        assert_eq!(codec, Codec::Zstd);
        assert!(bytes.len() < 70 << 10);
    }

    #[test]
    fn small_fhir_json_uses_the_dictionary_and_large_does_not() {
        let small = br#"{"resourceType":"Patient","id":"a","name":[{"use":"official","family":"B"}]}"#;
        assert_eq!(compress(small, Compress::FhirJson, 16).1, Codec::ZstdFhir1);
        let large = small.repeat(1000);
        assert_eq!(compress(&large, Compress::FhirJson, 16).1, Codec::Zstd);
    }

    #[test]
    fn a_frame_of_another_length_is_refused() {
        let (bytes, codec) = compress(&[b'a'; 1000], Compress::Zstd, 0);
        assert_eq!(decompress(bytes.clone(), codec, 999), Err(NotThisLong));
        assert_eq!(decompress(bytes.clone(), codec, 1001), Err(NotThisLong));
        assert_eq!(decompress(b"no frame".to_vec(), codec, 8), Err(NotThisLong));
        assert_eq!(decompress(b"stored".to_vec(), Codec::Stored, 5), Err(NotThisLong));
        assert!(decompress(bytes, codec, 1000).is_ok());
    }

    #[test]
    fn media_types_choose_what_is_tried() {
        for (media_type, want) in [
            ("application/fhir+json; charset=utf-8", Compress::FhirJson),
            ("Application/JSON", Compress::FhirJson),
            ("image/jpeg", Compress::No),
            ("video/mp4", Compress::No),
            ("audio/wav", Compress::Zstd),
            ("application/zip", Compress::No),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", Compress::No),
            ("application/vnd.ga4gh.bam", Compress::No),
            ("application/dicom", Compress::Zstd),
            ("application/pdf", Compress::Zstd),
            ("text/xml", Compress::Zstd),
            ("", Compress::Zstd),
        ] {
            assert_eq!(Compress::for_media_type(media_type), want, "{media_type}");
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            seed in prop::collection::vec(any::<u8>(), 0..300),
            times in 1_usize..200,
            kind in prop::sample::select(vec![Compress::No, Compress::Zstd, Compress::FhirJson]),
        ) {
            let input = seed.repeat(times);
            let (bytes, codec) = compress(&input, kind, 16);
            prop_assert!(bytes.len() <= input.len());
            prop_assert_eq!(decompress(bytes, codec, input.len()), Ok(Bytes::from(input)));
        }
    }
}
