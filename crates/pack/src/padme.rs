//! Lengths that say little about what they hold.

/// The shortest Padme length that holds `len` bytes: at most 12 % longer, and of all lengths up to L only
/// O(log log L) bits are ever seen.
///
/// Source: Nikitin, Barman, Lueks, Underwood, Hubaux, Ford, "Reducing Metadata Leakage from Encrypted Files and
/// Communication with PURBs", PETS 2019, algorithm 1.
pub fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let mantissa_bits = exponent.checked_ilog2().map_or(0, |bits| bits + 1);
    let mask = (1_u64 << (exponent - mantissa_bits.min(exponent))) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_types::PACK_LEN_MAX;

    #[test]
    fn padme_lengths_are_those_of_the_paper() {
        for (len, want) in [(0, 0), (1, 1), (8, 8), (9, 10), (100, 104), (1000, 1024), (1 << 20, 1 << 20)] {
            assert_eq!(padme(len), want, "{len}");
        }
        assert_eq!(padme((1 << 20) + 1), (1 << 20) + (1 << 15));
    }

    #[test]
    fn padme_is_idempotent_monotone_and_wastes_at_most_an_eighth() {
        let mut last = 0;
        for len in (0..=PACK_LEN_MAX as u64).step_by(997) {
            let padded = padme(len);
            assert!(padded >= len && padded >= last && padme(padded) == padded, "{len}");
            assert!(padded - len <= len / 8, "{len} -> {padded}");
            last = padded;
        }
    }

    #[test]
    fn the_longest_pack_has_a_padme_length() {
        assert_eq!(padme(PACK_LEN_MAX as u64), PACK_LEN_MAX as u64);
    }
}
