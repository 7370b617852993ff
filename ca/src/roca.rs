//! The ROCA weakness (CVE-2017-15361; Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section 2): a widespread
//! library for chips made primes of the form `k·M + 65537^a mod M`, with `M` the product of small primes. Such a modulus is a
//! power of 65537 by every one of these primes, which of other moduli fewer than one in a hundred million is by all of them.

/// Those of the small primes by which not every number is a power of 65537: the others tell nothing.
const PRIMES: [u32; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];
/// What all powers are of.
const GENERATOR: u32 = 65_537;

/// Whether an RSA modulus, its bytes from the most significant on, has the form that the weak library made.
pub(crate) fn is_roca(modulus: &[u8]) -> bool {
    PRIMES
        .iter()
        .all(|&prime| is_power(remainder(modulus, prime), prime))
}

/// The remainder by a number below 2²⁴.
fn remainder(number: &[u8], by: u32) -> u32 {
    let fold = |rest: u32, &byte: &u8| ((rest << 8) | u32::from(byte)) % by;
    number.iter().fold(0, fold)
}

/// Whether `number` is a power of the generator by `prime`.
fn is_power(number: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 1..prime {
        if power == number {
            return true;
        }
        power = power * GENERATOR % prime;
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};

    use super::*;

    /// A modulus of the weak form that is close to this one, and as long.
    pub(crate) fn weakened(modulus: &[u8]) -> Vec<u8> {
        let product: u128 = PRIMES.iter().map(|&prime| u128::from(prime)).product();
        let rest = modulus
            .iter()
            .fold(0, |rest, &byte| ((rest << 8) | u128::from(byte)) % product);
        let mut power = 1;
        for _ in 0..1_000_003 {
            power = power * u128::from(GENERATOR) % product;
        }
        // Adds what is missing to the next such number.
        let mut carry = (power + product - rest) % product;
        let mut weak = modulus.to_vec();
        for byte in weak.iter_mut().rev() {
            carry += u128::from(*byte);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        assert_eq!(carry, 0);
        weak
    }

    fn modulus() -> Vec<u8> {
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        // RFC 8017 A.1.1: a sequence of the modulus, here of 257 bytes, and the exponent.
        key.der_bytes()[8..8 + 257].to_vec()
    }

    #[test]
    fn a_modulus_of_the_weak_form_is_found_and_no_other() {
        for _ in 0..4 {
            let good = modulus();
            assert_eq!(good[0], 0);
            assert!(!is_roca(&good));
            assert!(is_roca(&weakened(&good)));
        }
    }

    #[test]
    fn small_numbers_are_divided_as_by_hand() {
        assert_eq!(remainder(&[1, 0, 1], 97), 65_537 % 97);
        assert_eq!(remainder(&[], 97), 0);
        // By 11, the powers of 65537 are 1 and 10.
        let powers: Vec<u32> = (0..11).filter(|&number| is_power(number, 11)).collect();
        assert_eq!(powers, [1, 10]);
    }
}
