//! A small hash that stays the same for ever, on every platform and toolchain: bodies, sizes and faults are
//! derived from it, and two processes must agree on them. It has no cryptographic strength.

/// Mixes one word well (the finaliser of SplitMix64).
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes the parts under a seed. The length of each part is hashed too, so that `["ab", "c"]` and `["a", "bc"]`
/// differ.
pub(crate) fn of(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut state = mix(seed);
    for part in parts {
        for byte in *part {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        state = mix(state ^ part.len() as u64);
    }
    state
}
