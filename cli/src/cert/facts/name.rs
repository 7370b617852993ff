//! Distinguished names, in the manner of RFC 4514 but in the order in which they are written.

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::super::text::{hexadecimal, is_treacherous, shown_up_to};

/// The most attributes of one name that are shown.
const MOST_ATTRIBUTES: usize = 32;
/// The most characters of one attribute that are shown.
const LONGEST_VALUE: usize = 256;

/// `C=DE, O=Acme, CN=Acme Root`; empty for a name that has no attributes.
pub(in crate::cert) fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for (index, set) in name.iter_rdn().take(MOST_ATTRIBUTES).enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        for (index, attribute) in set.iter().take(MOST_ATTRIBUTES).enumerate() {
            if index > 0 {
                text.push_str(" + ");
            }
            text.push_str(&attribute_name(attribute));
            text.push('=');
            text.push_str(&value(attribute));
        }
    }
    let left = name.iter_rdn().skip(MOST_ATTRIBUTES).count();
    if left > 0 {
        text.push_str(&format!(", … ({left} more)"));
    }
    text
}

/// The last common name, if the name has one: what people call the certificate.
pub(super) fn common(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().last().map(value)
}

/// The short names of RFC 4519 and what is usual beside them.
fn attribute_name(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.15" => "businessCategory",
        "2.5.4.17" => "postalCode",
        "2.5.4.42" => "givenName",
        "2.5.4.43" => "initials",
        "2.5.4.44" => "generationQualifier",
        "2.5.4.45" => "x500UniqueIdentifier",
        "2.5.4.46" => "dnQualifier",
        "2.5.4.65" => "pseudonym",
        "2.5.4.97" => "organizationIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "1.3.6.1.4.1.311.60.2.1.3" => "jurisdictionC",
        "1.3.6.1.4.1.311.60.2.1.2" => "jurisdictionST",
        "1.3.6.1.4.1.311.60.2.1.1" => "jurisdictionL",
        _ => return oid,
    }
    .to_owned()
}

/// A value as text; `#` and hexadecimal for what is not (RFC 4514 §2.4).
fn value(attribute: &AttributeTypeAndValue<'_>) -> String {
    let any = attribute.attr_value();
    match decoded(any.tag().0, any.data) {
        Some(text) => escaped(&text),
        None => format!("#{}", hexadecimal(any.data)),
    }
}

/// The string types of RFC 5280 §4.1.2.4, and those that older certificates have.
fn decoded(tag: u32, data: &[u8]) -> Option<String> {
    match tag {
        // UTF8String; NumericString, PrintableString, IA5String, VisibleString, which are ASCII and
        // by mistake often UTF-8.
        12 | 18 | 19 | 22 | 26 => std::str::from_utf8(data).ok().map(str::to_owned),
        // TeletexString: in practice Latin-1.
        20 => Some(data.iter().copied().map(char::from).collect()),
        // BMPString: UTF-16.
        30 => {
            let (pairs, rest) = data.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.ok().filter(|_| rest.is_empty())
        }
        // UniversalString: UTF-32.
        28 => {
            let (quads, rest) = data.as_chunks::<4>();
            let units = quads.iter().map(|quad| u32::from_be_bytes(*quad));
            let text: Option<String> = units.map(char::from_u32).collect();
            text.filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// RFC 4514 §2.4, where a backslash also escapes what would steer the terminal.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST_VALUE {
            let left = text.chars().count() - LONGEST_VALUE;
            safe.push_str(&format!("… ({left} more characters)"));
            break;
        }
        let special = matches!(character, ',' | '+' | '"' | '<' | '>' | ';')
            || (index == 0 && matches!(character, '#' | ' '));
        if special {
            safe.push('\\');
            safe.push(character);
        } else if is_treacherous(character) || character == '\\' {
            safe.push_str(&shown_up_to(character.encode_utf8(&mut [0; 4]), 1));
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_type_is_read() {
        assert_eq!(decoded(12, "Zoë".as_bytes()).as_deref(), Some("Zoë"));
        assert_eq!(decoded(20, b"Zo\xeb").as_deref(), Some("Zoë"));
        assert_eq!(decoded(30, b"\0Z\0o\0\xeb").as_deref(), Some("Zoë"));
        assert_eq!(decoded(28, b"\0\0\0Z").as_deref(), Some("Z"));
        for (tag, data) in [
            (12, &b"\xff"[..]),
            (30, b"\0Z\0"),
            (30, b"\xd8\0\0Z"),
            (28, b"\0\x11\0\0"),
            (4, b"octets"),
        ] {
            assert_eq!(decoded(tag, data), None, "{tag} {data:?}");
        }
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("Acme, Inc."), "Acme\\, Inc.");
        assert_eq!(escaped("#1 \u{1b}[31m\\"), "\\#1 \\u{1b}[31m\\\\");
        assert!(escaped(&"x".repeat(300)).ends_with("… (44 more characters)"));
    }
}
