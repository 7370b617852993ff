//! Reading single certificates: what both SVIDs and bundles need of x509-parser.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Reads one certificate, and nothing after it.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| format!("it is not a DER-encoded X.509 certificate ({error})"))?;
    match rest.len() {
        0 => Ok(certificate),
        extra => Err(format!(
            "it is followed by {extra} bytes that do not belong to it"
        )),
    }
}

/// The URI names of the subject alternative name extension (RFC 5280 §4.2.1.6).
pub(crate) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, String> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|error| format!("its subject alternative name cannot be read ({error})"))?;
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(Ok(*uri)),
            GeneralName::Invalid(tag, _) => Some(Err(format!(
                "its subject alternative name has a malformed name of type {tag}"
            ))),
            _ => None,
        })
        .collect()
}

/// A certificate's time as the system's.
pub(crate) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    let moment = match time.timestamp() {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    // A four-digit year, all that a certificate can say, is within the system's range.
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A time for people, as RFC 3339 writes it, in UTC and to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|s| ASN1Time::from_timestamp(s).ok());
    let Some(moment) = moment.map(|moment| moment.to_datetime()) else {
        return format!("{seconds} s after 1970-01-01");
    };
    let (hour, minute, second) = moment.to_hms();
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_408_384);
        assert_eq!(rfc3339(time), "2026-11-23T04:33:04Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
