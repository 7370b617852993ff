//! What a key may be used for, by the names of RFC 5280 §4.2.1.3 and §4.2.1.12.

use x509_parser::extensions::{ExtendedKeyUsage, KeyUsage};

pub(super) fn names(usage: &KeyUsage) -> Vec<&'static str> {
    [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

pub(super) fn extended_names(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    const MOST: usize = 100;
    [
        (usage.any, "any"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name.to_owned()))
    .chain(usage.other.iter().take(MOST).map(ToString::to_string))
    .collect()
}
