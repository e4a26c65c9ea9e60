//! Trains the shipped dictionary for FHIR JSON and writes it to `dictionaries/`.
//!
//! The samples are made here, from the templates and terms beside this file: what helps is the shape that every FHIR R4
//! document shares (keys, system URLs, the commonest codes), not anybody's data. Run it twice and the bytes are the same.
//! A dictionary that was shipped is never written over: give a new one the next number, and a codec of its own.
//!
//! ```text
//! cargo run --release -p bithealth-pack --example train_dictionary
//! ```

mod layout;

use std::fmt::Write as _;
use std::path::Path;

use layout::Layout;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

const DICTIONARY_LEN_MAX: usize = 112 * 1024;
const SAMPLES_PER_TEMPLATE_AND_LAYOUT: usize = 24;
const TEMPLATES: &str = include_str!("templates.ndjson");
const TERMS: &str = include_str!("terms.txt");

const GIVEN: [&str; 8] = ["Anna", "Bram", "Chidi", "Dolores", "Emre", "Fatima", "Giulia", "Hiro"];
const FAMILY: [&str; 8] = ["Abbott", "Becker", "Costa", "Dubois", "Eriksson", "Farah", "Garcia", "Horvat"];
const CITY: [&str; 6] = ["Boston", "Worcester", "Springfield", "Lowell", "Cambridge", "Quincy"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let samples = samples();
    let dictionary = zstd::dict::from_samples(&samples, DICTIONARY_LEN_MAX)?;
    let digest: String = Sha256::digest(&dictionary).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dictionaries");
    std::fs::write(folder.join("fhir-1.zstd-dict"), &dictionary)?;
    std::fs::write(folder.join("fhir-1.sha256"), format!("{digest}\n"))?;
    let total: usize = samples.iter().map(String::len).sum();
    println!("{} samples, {total} bytes -> {} bytes, SHA-256 {digest}", samples.len(), dictionary.len());
    Ok(())
}

/// Every template in every layout, filled with changing values.
fn samples() -> Vec<String> {
    let mut filler = Filler { random: ChaCha8Rng::seed_from_u64(1), terms: terms() };
    let mut samples = Vec::new();
    for _ in 0..SAMPLES_PER_TEMPLATE_AND_LAYOUT {
        for template in TEMPLATES.lines() {
            for layout in Layout::ALL {
                samples.push(layout.print(&filler.fill(template)));
            }
        }
    }
    samples
}

/// A code of a terminology.
struct Term {
    kind: &'static str,
    code: &'static str,
    display: &'static str,
    unit: &'static str,
}

fn terms() -> Vec<Term> {
    let term = |line: &'static str| {
        let mut fields = line.split('|');
        let mut next = || fields.next().unwrap_or_default();
        Term { kind: next(), code: next(), display: next(), unit: next() }
    };
    TERMS.lines().map(term).collect()
}

/// Puts values in the place of `$words`.
struct Filler {
    random: ChaCha8Rng,
    terms: Vec<Term>,
}

impl Filler {
    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u32() as usize % bound
    }

    fn fill(&mut self, template: &str) -> String {
        let mut filled = String::with_capacity(2 * template.len());
        let (mut display, mut unit) = ("", "");
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            match word {
                "display" => filled.push_str(display),
                "unit" => filled.push_str(unit),
                _ => match self.value(word) {
                    Some(value) => filled.push_str(&value),
                    None => {
                        let term = self.term(word);
                        (display, unit) = (term.display, term.unit);
                        let _ = write!(filled, r#""code":"{}","display":"{}""#, term.code, term.display);
                    }
                },
            }
        }
        filled.push_str(rest);
        filled
    }

    fn term(&mut self, kind: &str) -> &Term {
        let count = self.terms.iter().filter(|term| term.kind == kind).count();
        assert!(count > 0, "the templates name a word that is neither a value nor a kind of term: {kind}");
        let chosen = self.below(count);
        self.terms.iter().filter(|term| term.kind == kind).nth(chosen).expect("chosen below the count")
    }

    fn value(&mut self, word: &str) -> Option<String> {
        Some(match word {
            "uuid" => self.uuid(),
            "hex" => format!("{:07x}", self.random.next_u32() >> 4),
            "long" => format!("{}", self.random.next_u64() as i64),
            "n" => format!("{}", self.below(100_000)),
            "dec" => format!("{}.{}", self.below(300), self.below(1_000_000)),
            "date" => self.date(),
            "datetime" => format!("{}T{}-0{}:00", self.date(), self.time(), 4 + self.below(2)),
            "instant" => format!("{}T{}.{:03}-0{}:00", self.date(), self.time(), self.below(1000), 4 + self.below(2)),
            "given" => format!("{}{}", GIVEN[self.below(GIVEN.len())], self.below(999)),
            "family" => format!("{}{}", FAMILY[self.below(FAMILY.len())], self.below(999)),
            "city" => CITY[self.below(CITY.len())].to_owned(),
            "state" => "Massachusetts".to_owned(),
            "sex" => ["F", "M"][self.below(2)].to_owned(),
            "gender" => ["female", "male"][self.below(2)].to_owned(),
            "class" => ["AMB", "EMER", "IMP", "WELLNESS"][self.below(4)].to_owned(),
            "clinical" => ["active", "resolved"][self.below(2)].to_owned(),
            "base64" => self.base64(),
            _ => return None,
        })
    }

    fn uuid(&mut self) -> String {
        let [a, b] = [self.random.next_u64(), self.random.next_u64()];
        format!("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, a >> 16 & 0xffff, a & 0xfff, b >> 48, b << 16 >> 16)
    }

    fn date(&mut self) -> String {
        format!("{}-{:02}-{:02}", 1950 + self.below(75), 1 + self.below(12), 1 + self.below(28))
    }

    fn time(&mut self) -> String {
        format!("{:02}:{:02}:{:02}", self.below(24), self.below(60), self.below(60))
    }

    fn base64(&mut self) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..40).map(|_| char::from(ALPHABET[self.below(64)])).collect()
    }
}
