//! Published vectors, run through our wrappers where they reach, else through the primitives with the features this crate
//! builds them with. Every test counts what it ran and compares that with what the file holds.

mod data;
mod hpke;
mod wycheproof;
