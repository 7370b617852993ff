//! PEM (RFC 7468), read leniently: what is damaged is told by its place, and the rest is still read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One block.
pub(super) struct Block {
    /// Which block of the text, from 1.
    pub(super) index: usize,
    /// What follows BEGIN, with anything that is no capital letter or digit replaced.
    pub(super) label: String,
    pub(super) content: Content,
}

/// What a block holds. It may be a private key.
pub(super) enum Content {
    Der(Zeroizing<Vec<u8>>),
    /// Encrypted in the old way of OpenSSL, by headers within the block (RFC 1421).
    Encrypted,
    Damaged(&'static str),
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Whether there is any PEM in it.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    find(bytes, BEGIN).is_some()
}

/// The blocks of a text, at most `limit` of them.
pub(super) fn blocks(bytes: &[u8], limit: usize) -> Vec<Block> {
    let mut rest = bytes;
    let mut blocks = Vec::new();
    while let Some(start) = find(rest, BEGIN)
        && blocks.len() < limit
    {
        let after = rest.get(start + BEGIN.len()..).unwrap_or_default();
        let index = blocks.len() + 1;
        let line_end = find(after, b"\n").unwrap_or(after.len());
        let line = after.get(..line_end).unwrap_or_default().trim_ascii_end();
        let body = after.get(line_end..).unwrap_or_default();
        let label = line.strip_suffix(DASHES).unwrap_or(line);
        let end = find(body, END);
        // A block without an end does not swallow the next one.
        let next = find(body, BEGIN);
        let (content, consumed) = match end.filter(|end| next.is_none_or(|next| *end < next)) {
            None => (
                Content::Damaged("its END line is missing"),
                next.unwrap_or(body.len()),
            ),
            Some(end) => (decode(body.get(..end).unwrap_or_default()), end),
        };
        blocks.push(Block {
            index,
            label: readable(label),
            content,
        });
        rest = body.get(consumed..).unwrap_or_default();
    }
    blocks
}

fn decode(body: &[u8]) -> Content {
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    for line in body.split(|byte| *byte == b'\n') {
        if line.starts_with(b"Proc-Type:") && find(line, b"ENCRYPTED").is_some() {
            return Content::Encrypted;
        }
        if line.contains(&b':') {
            // A header or a bag attribute.
            continue;
        }
        text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
    match STANDARD.decode(&*text) {
        Ok(der) if der.is_empty() => Content::Damaged("it is empty"),
        Ok(der) => Content::Der(Zeroizing::new(der)),
        Err(_) => Content::Damaged("it is not base64"),
    }
}

fn readable(label: &[u8]) -> String {
    label
        .iter()
        .take(40)
        .map(|byte| match byte {
            b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'#' => char::from(*byte),
            _ => '?',
        })
        .collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// A certificate as PEM text.
pub(in crate::cert) fn write(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (position, character) in text.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Vec<(String, String)> {
        blocks(text.as_bytes(), 10)
            .into_iter()
            .map(|block| {
                let content = match block.content {
                    Content::Der(der) => hex::encode(&*der),
                    Content::Encrypted => "encrypted".to_owned(),
                    Content::Damaged(why) => why.to_owned(),
                };
                (block.label, content)
            })
            .collect()
    }

    fn pair(label: &str, content: &str) -> (String, String) {
        (label.to_owned(), content.to_owned())
    }

    #[test]
    fn what_is_damaged_does_not_hide_the_rest() {
        let text = "Bag Attributes\n  localKeyID: 01\r\nsubject=CN = a\n-----BEGIN CERTIFICATE-----\r\nAAEC\r\n-----END CERTIFICATE-----\r\n\
-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAEC\n-----END EC PRIVATE KEY-----\n\
-----BEGIN CERTIFICATE-----\n***\n-----END CERTIFICATE-----\n\
-----BEGIN CERTIFICATE-----\nAAEC\n\
-----BEGIN X\u{1b}[2J-----\nAAED\n-----END X-----\n\
-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        assert_eq!(
            told(text),
            [
                pair("CERTIFICATE", "000102"),
                pair("EC PRIVATE KEY", "encrypted"),
                pair("CERTIFICATE", "it is not base64"),
                pair("CERTIFICATE", "its END line is missing"),
                pair("X??2J", "000103"),
                pair("CERTIFICATE", "it is empty"),
            ]
        );
        assert_eq!(blocks(text.as_bytes(), 2).len(), 2);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(told(&write("CERTIFICATE", &der)), [pair("CERTIFICATE", &hex::encode(&der))]);
        }

        #[test]
        fn any_text_is_survived(text in "(-----(BEGIN|END) [A-Z]{0,3}(-----)?\n?|[A-Za-z=\n]{0,5}){0,12}") {
            let _ = told(&text);
        }
    }
}
