//! Text from certificates, made safe to show: whoever wrote a certificate chose every byte of it.
//!
//! What is shown is one line, of bounded length, without anything that steers a terminal or fools
//! the eye: control characters, line separators, marks that change the direction of writing,
//! characters without width. They are escaped (`\u{1b}`), and so is the backslash, so that two
//! different texts never look the same.

use std::fmt::Write as _;

/// The longest text that is shown of one name, in characters. A SPIFFE ID has at most 2048.
pub(super) const LONGEST: usize = 2048;

/// `text` as it may be shown.
pub(super) fn shown(text: &str) -> String {
    shown_up_to(text, LONGEST)
}

/// `text` as it may be shown, with at most `limit` characters of the original.
pub(super) fn shown_up_to(text: &str, limit: usize) -> String {
    let mut safe = String::with_capacity(text.len().min(limit));
    let mut characters = text.chars();
    for character in characters.by_ref().take(limit) {
        push(&mut safe, character);
    }
    let left = characters.count();
    if left > 0 {
        // Writing to a String cannot fail.
        let _ = write!(safe, "… ({left} more characters)");
    }
    safe
}

/// Bytes that ought to be text: as such if they are UTF-8, otherwise in hexadecimal.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => shown(text),
        Err(_) => format!("(not text) {}", hexadecimal(bytes)),
    }
}

/// Bytes in hexadecimal, cut where they are too many for an eye.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const MOST: usize = 64;
    match bytes.get(..MOST) {
        Some(first) if bytes.len() > MOST => {
            let left = bytes.len() - MOST;
            format!("{}… ({left} more bytes)", hex::encode(first))
        }
        _ => hex::encode(bytes),
    }
}

fn push(safe: &mut String, character: char) {
    match character {
        '\\' => safe.push_str("\\\\"),
        harmless if !is_treacherous(harmless) => safe.push(harmless),
        treacherous => {
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(treacherous));
        }
    }
}

/// Whether a character does something else than show itself: control characters, white space other
/// than a space, format characters (Unicode category Cf), separators, private use.
pub(super) fn is_treacherous(character: char) -> bool {
    character.is_control()
        || (character.is_whitespace() && character != ' ')
        || matches!(
            u32::from(character),
            0xad | 0x600..=0x605
                | 0x61c
                | 0x6dd
                | 0x70f
                | 0x180e
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0xfe00..=0xfe0f
                | 0xfeff
                | 0xfff0..=0xffff
                | 0xe000..=0xf8ff
                | 0x1d173..=0x1d17a
                | 0xe0000..=0x10_ffff
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_or_the_eye_is_escaped() {
        for (text, safe) in [
            ("orders", "orders"),
            ("Zoë Müller, Ελλάδα, 注文", "Zoë Müller, Ελλάδα, 注文"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\u{9b}2J", "a\\u{9b}2J"),
            ("bank\0.evil", "bank\\u{0}.evil"),
            ("a\nb\r\tc", "a\\u{a}b\\u{d}\\u{9}c"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
            ("pay\u{200b}pal", "pay\\u{200b}pal"),
            ("a\\u{1b}", "a\\\\u{1b}"),
        ] {
            assert_eq!(shown(text), safe);
        }
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(shown_up_to("abcdef", 4), "abcd… (2 more characters)");
        assert_eq!(shown_up_to("abcd", 4), "abcd");
        assert!(shown_bytes(&[0xff; 100]).ends_with("… (36 more bytes)"));
        assert_eq!(shown_bytes(b"\xff\xfe"), "(not text) fffe");
    }

    proptest! {
        #[test]
        fn nothing_treacherous_is_left(text in any::<String>()) {
            prop_assert!(!shown(&text).chars().any(is_treacherous));
        }

        #[test]
        fn different_texts_look_different(a in any::<String>(), b in any::<String>()) {
            prop_assert_eq!(a == b, shown(&a) == shown(&b));
        }
    }
}
