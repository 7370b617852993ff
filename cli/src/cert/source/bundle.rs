//! SPIFFE bundles in JSON (SPIFFE Trust Domain and Bundle §4), and maps of them by trust domain.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::super::text::shown;
use super::bytes::Read;
use super::found::{Group, Kind, MOST_CERTIFICATES, Remark};

/// Why a bundle cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("it has no list `keys`")]
    NoKeys,
    #[error("key {0} is for X.509-SVIDs and has not exactly one certificate in `x5c`")]
    Certificates(usize),
    #[error("the certificate in key {0} is not base64")]
    Base64(usize),
    #[error("it has no key for X.509-SVIDs, only {0} for JWT-SVIDs")]
    OnlyJwt(usize),
    #[error("it is empty: nobody is believed")]
    Empty,
}

/// Reads a bundle, or a map of bundles. `None` if the JSON is neither.
pub(super) fn read(value: &Value) -> Result<Option<Read>, BundleError> {
    let mut read = Read {
        form: "SPIFFE bundle",
        groups: Vec::new(),
        remarks: Vec::new(),
    };
    if let Some(Value::Object(domains)) = value.get("trust_domains") {
        read.form = "SPIFFE bundle map";
        for (domain, bundle) in domains {
            add(bundle, Some(domain), &mut read)?;
        }
    } else if value.get("keys").is_some() {
        add(value, None, &mut read)?;
    } else {
        return Ok(None);
    }
    match read.groups.is_empty() {
        true => Err(BundleError::Empty),
        false => Ok(Some(read)),
    }
}

fn add(bundle: &Value, domain: Option<&str>, read: &mut Read) -> Result<(), BundleError> {
    let keys = bundle
        .get("keys")
        .and_then(Value::as_array)
        .ok_or(BundleError::NoKeys)?;
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    let mut jwt_keys = Vec::new();
    for (index, key) in (1..).zip(keys) {
        match key.get("use").and_then(Value::as_str) {
            Some("x509-svid") if certificates.len() <= MOST_CERTIFICATES => {
                let chain = key.get("x5c").and_then(Value::as_array);
                let Some([Value::String(text)]) = chain.map(Vec::as_slice) else {
                    return Err(BundleError::Certificates(index));
                };
                let der = STANDARD.decode(text);
                certificates.push(der.map_err(|_| BundleError::Base64(index))?.into());
            }
            Some("jwt-svid") => {
                let id = key.get("kid").and_then(Value::as_str);
                jwt_keys.push(shown(id.unwrap_or("without kid")));
            }
            // What is not known is ignored (§4.2.2).
            _ => {}
        }
    }
    let of = domain.map_or(String::new(), |domain| format!("{}: ", shown(domain)));
    if let Some(sequence) = bundle.get("spiffe_sequence").and_then(Value::as_u64) {
        read.remarks
            .push(Remark::Note(format!("{of}sequence {sequence}")));
    }
    if let Some(hint) = bundle.get("spiffe_refresh_hint").and_then(Value::as_u64) {
        read.remarks.push(Remark::Note(format!(
            "{of}to be fetched anew every {hint} s"
        )));
    }
    if !jwt_keys.is_empty() {
        let count = jwt_keys.len();
        jwt_keys.truncate(10);
        let keys = jwt_keys.join(", ");
        read.remarks.push(Remark::Note(format!(
            "{of}{count} key(s) for JWT-SVIDs: {keys}"
        )));
    }
    if certificates.is_empty() {
        return Err(match jwt_keys.len() {
            0 => BundleError::Empty,
            count => BundleError::OnlyJwt(count),
        });
    }
    let name = domain.map(|domain| format!("bundle of {}", shown(domain)));
    read.groups
        .push(Group::new(name, Kind::Bundle, certificates));
    Ok(())
}
