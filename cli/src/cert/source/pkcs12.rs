//! PKCS #12 files (RFC 7292): the certificates and keys within, as OpenSSL 3, Java and Go write them.
//!
//! Encrypted with PBES2 (RFC 8018) and AES. The older schemes with RC2 and triple DES are not read, and
//! said so: they protect nothing any more.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hmac, pbkdf2};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::der::{CONSTRUCTED_0, CONTEXT_0, DerError, Elements, INTEGER, OCTET_STRING, SEQUENCE};

/// How often a key may be derived; more would only keep us busy. OpenSSL writes 2048, Java 10,000.
const MOST_ITERATIONS: u64 = 10_000_000;
/// How deep bags may lie within bags.
const DEEPEST: usize = 4;

/// What was in the file.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Private keys, PKCS #8.
    pub(super) keys: Vec<Zeroizing<Vec<u8>>>,
}

/// Why a file cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Pkcs12Error {
    #[error("the PKCS#12 file is damaged: {0}")]
    Damaged(&'static str),
    #[error(
        "the PKCS#12 file has indefinite lengths (BER); write it anew with `openssl pkcs12 -in FILE -nodes`, and inspect that"
    )]
    Ber,
    #[error(
        "the password does not open the PKCS#12 file; give it with --password-file FILE or in COUNTERSIGN_PASSWORD"
    )]
    Password,
    #[error(
        "the PKCS#12 file is encrypted with {0}, which is not read here; `openssl pkcs12 -legacy -noenc -in FILE` writes PEM that is read"
    )]
    Scheme(String),
}

impl From<DerError> for Pkcs12Error {
    fn from(error: DerError) -> Self {
        match error {
            DerError::Ber => Self::Ber,
            DerError::Truncated => Self::Damaged("it ends too early"),
            DerError::Expected(what) => Self::Damaged(what),
        }
    }
}

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
const PKCS12_SCHEMES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// Whether bytes start as a PFX does: a sequence that starts with the number 3.
pub(super) fn is_pkcs12(bytes: &[u8]) -> bool {
    // Also of a file with indefinite lengths, which is then refused with the reason.
    matches!(bytes, [0x30, 0x80, 0x02, 0x01, 0x03, ..])
        || Elements::of(bytes)
            .sequence("")
            .is_ok_and(|mut inner| inner.number("") == Ok(3) && inner.peek() == Some(SEQUENCE))
}

/// Opens a file. The password may be empty, as it is for files that only carry trusted certificates.
pub(super) fn open(bytes: &[u8], password: &str) -> Result<Contents, Pkcs12Error> {
    let mut file = Elements::of(bytes).sequence("expected the sequence of a PFX")?;
    file.number("expected a version")?;
    let mut safe = file.sequence("expected the authenticated safe")?;
    if safe.oid("expected the type of the authenticated safe")? != DATA {
        return Err(Pkcs12Error::Scheme("a public key".to_owned()));
    }
    let content = octets_in_0(&mut safe)?;
    if !file.is_empty() {
        check_mac(
            file.sequence("expected the MAC of the file")?,
            content,
            password,
        )?;
    }
    let mut contents = Contents::default();
    let mut parts = Elements::of(content).sequence("expected the parts of the safe")?;
    while !parts.is_empty() {
        let mut part = parts.sequence("expected a part of the safe")?;
        match part.oid("expected the type of a part")? {
            DATA => bags(octets_in_0(&mut part)?, password, &mut contents, 0)?,
            ENCRYPTED_DATA => {
                let mut outer = Elements::of(part.expect(CONSTRUCTED_0, "expected [0]")?);
                let mut data = outer.sequence("expected encrypted data")?;
                data.number("expected a version")?;
                let mut info = data.sequence("expected encrypted content")?;
                info.oid("expected the type of the content")?;
                let scheme = info.sequence("expected how it is encrypted")?;
                let text = info.expect(CONTEXT_0, "expected what is encrypted")?;
                let plain = decrypt(scheme, text, password)?;
                bags(&plain, password, &mut contents, 0)?;
            }
            _ => return Err(Pkcs12Error::Scheme("a public key".to_owned())),
        }
    }
    Ok(contents)
}

/// Decrypts a private key (EncryptedPrivateKeyInfo, RFC 5958 §3); gives PKCS #8.
pub(super) fn decrypt_key(der: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let mut info = Elements::of(der).sequence("expected an encrypted key")?;
    let scheme = info.sequence("expected how the key is encrypted")?;
    let text = info.expect(OCTET_STRING, "expected the encrypted key")?;
    decrypt(scheme, text, password)
}

fn octets_in_0<'a>(elements: &mut Elements<'a>) -> Result<&'a [u8], DerError> {
    let explicit = elements.expect(CONSTRUCTED_0, "expected [0]")?;
    Elements::of(explicit).expect(OCTET_STRING, "expected an octet string")
}

/// SafeContents (RFC 7292 §4.2).
fn bags(
    bytes: &[u8],
    password: &str,
    contents: &mut Contents,
    depth: usize,
) -> Result<(), Pkcs12Error> {
    if depth > DEEPEST {
        return Err(Pkcs12Error::Damaged("its bags are nested too deeply"));
    }
    let mut all = Elements::of(bytes).sequence("expected bags")?;
    while !all.is_empty() {
        let mut bag = all.sequence("expected a bag")?;
        let kind = bag.oid("expected the type of a bag")?;
        let value = bag.expect(CONSTRUCTED_0, "expected the content of a bag")?;
        match kind.strip_prefix(BAG) {
            Some([1]) => contents.keys.push(Zeroizing::new(value.to_vec())),
            Some([2]) => contents.keys.push(decrypt_key(value, password)?),
            Some([3]) => {
                let mut certificate = Elements::of(value).sequence("expected a certificate bag")?;
                if certificate.oid("expected the type of a certificate")? == X509_CERTIFICATE {
                    let der = octets_in_0(&mut certificate)?;
                    contents.certificates.push(der.to_vec().into());
                }
            }
            Some([6]) => bags(value, password, contents, depth + 1)?,
            // Revocation lists, secrets, and what is not known.
            _ => {}
        }
    }
    Ok(())
}

/// PBES2 (RFC 8018 §6.2).
fn decrypt(
    mut scheme: Elements<'_>,
    text: &[u8],
    password: &str,
) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let oid = scheme.oid("expected an encryption scheme")?;
    if oid != PBES2 {
        return Err(Pkcs12Error::Scheme(
            match oid.strip_prefix(PKCS12_SCHEMES) {
                Some([1 | 2]) => "RC4".to_owned(),
                Some([3 | 4]) => "triple DES".to_owned(),
                Some([5 | 6]) => "RC2".to_owned(),
                _ => format!("the scheme {}", hex::encode(oid)),
            },
        ));
    }
    let mut parameters = scheme.sequence("expected the parameters of PBES2")?;
    let mut derivation = parameters.sequence("expected a key derivation")?;
    if derivation.oid("expected a key derivation")? != PBKDF2 {
        return Err(Pkcs12Error::Scheme(
            "another derivation than PBKDF2".to_owned(),
        ));
    }
    let mut derivation = derivation.sequence("expected the parameters of PBKDF2")?;
    let salt = derivation.expect(OCTET_STRING, "expected a salt")?;
    let iterations = iterations(derivation.number("expected a count of iterations")?)?;
    if derivation.peek() == Some(INTEGER) {
        derivation.number("expected a length of the key")?;
    }
    let function = match derivation.is_empty() {
        true => pbkdf2::PBKDF2_HMAC_SHA1,
        false => {
            let mut function = derivation.sequence("expected a pseudo-random function")?;
            match function.oid("expected a hash")?.strip_prefix(HMAC) {
                Some([7]) => pbkdf2::PBKDF2_HMAC_SHA1,
                Some([9]) => pbkdf2::PBKDF2_HMAC_SHA256,
                Some([10]) => pbkdf2::PBKDF2_HMAC_SHA384,
                Some([11]) => pbkdf2::PBKDF2_HMAC_SHA512,
                _ => return Err(Pkcs12Error::Scheme("an unknown hash".to_owned())),
            }
        }
    };
    let mut cipher = parameters.sequence("expected a cipher")?;
    let (algorithm, key_length) = match cipher.oid("expected a cipher")?.strip_prefix(AES) {
        Some([2]) => (&AES_128, 16),
        Some([22]) => (&AES_192, 24),
        Some([42]) => (&AES_256, 32),
        _ => {
            return Err(Pkcs12Error::Scheme(
                "another cipher than AES-CBC".to_owned(),
            ));
        }
    };
    let iv = cipher.expect(OCTET_STRING, "expected an initialisation vector")?;
    let iv = FixedLength::<16>::try_from(iv)
        .map_err(|_| Pkcs12Error::Damaged("its initialisation vector has not 16 bytes"))?;

    let mut key = Zeroizing::new(vec![0; key_length]);
    pbkdf2::derive(function, iterations, salt, password.as_bytes(), &mut key);
    let mut plain = Zeroizing::new(text.to_vec());
    let length = UnboundCipherKey::new(algorithm, &key)
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .and_then(|key| {
            key.decrypt(&mut plain, DecryptionContext::Iv128(iv))
                .map(|plain| plain.len())
        })
        .map_err(|_| Pkcs12Error::Password)?;
    plain.truncate(length);
    Ok(plain)
}

fn iterations(count: u64) -> Result<NonZeroU32, Pkcs12Error> {
    u32::try_from(count)
        .ok()
        .filter(|_| count <= MOST_ITERATIONS)
        .and_then(NonZeroU32::new)
        .ok_or(Pkcs12Error::Damaged("its count of iterations is absurd"))
}

/// The MAC over the whole file (RFC 7292 §5.1 step 5), which tells a wrong password from damage.
fn check_mac(mut mac: Elements<'_>, content: &[u8], password: &str) -> Result<(), Pkcs12Error> {
    let mut info = mac.sequence("expected a digest")?;
    let mut algorithm = info.sequence("expected the algorithm of the MAC")?;
    let oid = algorithm.oid("expected the algorithm of the MAC")?;
    let (hash, mac_algorithm, block) = match (oid, oid.strip_prefix(SHA2)) {
        (SHA1, _) => (
            &digest::SHA1_FOR_LEGACY_USE_ONLY,
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            64,
        ),
        (_, Some([1])) => (&digest::SHA256, hmac::HMAC_SHA256, 64),
        (_, Some([2])) => (&digest::SHA384, hmac::HMAC_SHA384, 128),
        (_, Some([3])) => (&digest::SHA512, hmac::HMAC_SHA512, 128),
        // PBMAC1 (RFC 9579) and others: decryption will tell.
        _ => return Ok(()),
    };
    let expected = info.expect(OCTET_STRING, "expected a digest")?;
    let salt = mac.expect(OCTET_STRING, "expected a salt")?;
    let count = match mac.is_empty() {
        true => 1,
        false => mac.number("expected a count of iterations")?,
    };
    let count = iterations(count)?;
    // Some writers give an empty password as no bytes at all, and not as an empty string.
    let mut passwords = vec![bmp_string(password)];
    if password.is_empty() {
        passwords.push(Zeroizing::new(Vec::new()));
    }
    let fits = passwords.iter().any(|password| {
        let key = mac_key(hash, block, password, salt, count);
        let key = hmac::Key::new(mac_algorithm, &key);
        hmac::verify(&key, content, expected).is_ok()
    });
    match fits {
        true => Ok(()),
        false => Err(Pkcs12Error::Password),
    }
}

/// The password as RFC 7292 §B.1 has it: UTF-16, big endian, with a zero at the end.
fn bmp_string(password: &str) -> Zeroizing<Vec<u8>> {
    let units = password.encode_utf16().chain([0]);
    Zeroizing::new(units.flat_map(u16::to_be_bytes).collect())
}

/// RFC 7292 §B.2 for a key of a MAC (ID 3), which is as long as the hash: one block of output, so
/// that step 6 (C), the mixing for further blocks, never comes.
fn mac_key(
    hash: &'static digest::Algorithm,
    block: usize,
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> Zeroizing<Vec<u8>> {
    let repeated = |bytes: &[u8]| -> Vec<u8> {
        let length = bytes.len().div_ceil(block).saturating_mul(block);
        bytes.iter().copied().cycle().take(length).collect()
    };
    let mut input = Zeroizing::new(vec![3; block]);
    input.extend(repeated(salt));
    input.extend(repeated(password));
    let mut output = Zeroizing::new(digest::digest(hash, &input).as_ref().to_vec());
    for _ in 1..iterations.get() {
        let next = digest::digest(hash, &output);
        output.clear();
        output.extend_from_slice(next.as_ref());
    }
    output
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_pkcs12_file_is_told_by_its_start() {
        assert!(is_pkcs12(&[0x30, 0x05, 0x02, 0x01, 0x03, 0x30, 0x00]));
        assert!(is_pkcs12(&[0x30, 0x80, 0x02, 0x01, 0x03, 0x30, 0x80]));
        assert!(!is_pkcs12(&[0x30, 0x05, 0x02, 0x01, 0x00, 0x30, 0x00]));
        assert!(!is_pkcs12(b"-----BEGIN"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = vec![0x30, 0x81, u8::try_from(bytes.len() + 3).unwrap(), 0x02, 0x01, 0x03];
            file.extend(bytes);
            prop_assert!(open(&file, "secret").is_err());
        }
    }
}
