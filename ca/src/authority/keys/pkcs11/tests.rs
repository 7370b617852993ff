use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};

use std::path::Path;
use std::process::Command;

use super::*;

#[test]
fn a_fixed_signature_verifies_in_der() {
    // Often enough that short numbers and such with the highest bit set are among them.
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    for message in 0..600_u32 {
        let message = message.to_be_bytes();
        let fixed = key.sign(&SystemRandom::new(), &message).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref())
            .verify(&message, &der(fixed.as_ref()).unwrap())
            .unwrap();
    }
    for wrong in [&[][..], &[1; 63], &[1; 65]] {
        assert_eq!(der(wrong), None);
    }
}

#[test]
fn a_point_is_read_with_and_without_its_wrapping() {
    let mut point = vec![0x04];
    point.extend([7; 64]);
    let wrapped = [&[0x04, 0x41][..], &point].concat();
    assert_eq!(uncompressed(&point), Some(point.clone()));
    assert_eq!(uncompressed(&wrapped), Some(point.clone()));
    for wrong in [&[][..], &[0x04], &point[1..], &[0x02; 65], &[0x04; 68]] {
        assert_eq!(uncompressed(wrong), None, "{wrong:?}");
    }
}

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Where the test below finds its token's PIN, in the process that has the token.
const PIN_FILE: &str = "COUNTERSIGN_TEST_PIN_FILE";

/// SoftHSM's settings are the process's environment, and it is in the process: so there is another one.
#[test]
fn a_lost_session_is_opened_again() {
    if let Ok(pin) = std::env::var(PIN_FILE) {
        return lose_sessions(Path::new(&pin));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("tokens")).unwrap();
    let settings = format!("directories.tokendir = {}\n", path("tokens").display());
    std::fs::write(path("softhsm2.conf"), settings).unwrap();
    crate::files::write_atomically(&path("pin"), "12345678", crate::files::PRIVATE).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "countersign"])
        .args(["--so-pin", "87654321", "--pin", "12345678"])
        .env("SOFTHSM2_CONF", path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let name = "authority::keys::pkcs11::tests::a_lost_session_is_opened_again";
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("SOFTHSM2_CONF", path("softhsm2.conf"))
        .env(PIN_FILE, path("pin"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn lose_sessions(pin: &Path) {
    let config = TokenConfig {
        module: MODULE.into(),
        label: "countersign".to_owned(),
        pin: PinSource::File(pin.to_owned()),
    };
    // As where roots and intermediates are in one token.
    let (keys, others) = (
        TokenKeys::open(&config).unwrap(),
        TokenKeys::open(&config).unwrap(),
    );
    let key = keys.generate("root-1").unwrap();
    let works = |key: &KeyHandle| {
        let signature = key.sign(b"message").unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes())
            .verify(b"message", &signature)
            .unwrap();
    };
    works(&key);
    let log_out = || {
        let session = others.0.session.lock().unwrap();
        session.as_ref().unwrap().logout().unwrap();
    };
    // Nobody is logged in: the key cannot be seen, and yet is not gone.
    log_out();
    assert!(keys.load("root-1").unwrap().is_some());
    assert!(others.load("root-1").unwrap().is_some());
    log_out();
    works(&key);

    // All sessions are gone, and the module is at its beginning.
    for _ in 0..2 {
        keys.0.module.clone().finalize().unwrap();
        works(&key);
        assert!(others.load("root-1").unwrap().is_some());
    }

    // What is refused for good is not tried for ever, and told.
    log_out();
    std::fs::write(pin, "00000000").unwrap();
    let refused = keys.load("root-1").err().unwrap().to_string();
    assert!(refused.contains("does not accept the PIN"), "{refused}");
    assert!(!refused.contains("00000000"), "{refused}");
    // Nor tried twice: not even now that it is the right one.
    set_pin(&keys.0, "12345678", "00000000");
    assert!(keys.load("root-1").is_err());
    set_pin(&keys.0, "00000000", "12345678");
    std::fs::write(pin, "12345678").unwrap();
    works(&key);
}

fn set_pin(token: &Token, old: &str, new: &str) {
    let session = token.module.open_rw_session(token.slot().unwrap()).unwrap();
    session
        .login(UserType::User, Some(&AuthPin::from(old)))
        .unwrap();
    session
        .set_pin(&AuthPin::from(old), &AuthPin::from(new))
        .unwrap();
    session.logout().unwrap();
}
