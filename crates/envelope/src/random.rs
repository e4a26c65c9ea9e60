//! Fresh randomness for keys and salts.

/// `N` bytes of the system's random source.
///
/// # Panics
/// If the system has no random source: a key drawn from anything else would be a public one, so the process stops.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("no key may be drawn without the system's random source");
    bytes
}
