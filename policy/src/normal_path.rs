//! The one normal form in which the path of a request is judged and forwarded.
//!
//! Applications differ in how they read a path: one takes `/public/..//admin` for a name, another for `/admin`. So what is
//! judged is what every one of them reads alike, and that is forwarded in place of what was sent: escapes of
//! unreserved characters are decoded, other escapes written in upper case (RFC 3986 §6.2.2), empty segments dropped, and
//! then `.` and `..` followed (§5.2.4). What cannot be made unambiguous is refused.

use std::borrow::Cow;

use crate::document::AmbiguousPaths;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    /// It does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// `%2f`.
    #[error("the path has an encoded slash (%2F), which applications read in different ways")]
    EncodedSlash,
    /// `\` or `%5c`.
    #[error("the path has a backslash, which applications read in different ways")]
    Backslash,
    /// A control character, plain or encoded.
    #[error("the path has a control character")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("the path has a `%` that is not followed by two hexadecimal digits")]
    Encoding,
    /// `#`.
    #[error("the path has a `#`, which begins a fragment")]
    Fragment,
}

/// The normal form of a path as it was sent, with its query, if it has one, as it was. `*` (RFC 9110 §7.1) is normal.
///
/// # Errors
/// What cannot be read in one way. `ambiguous` may let encoded slashes and backslashes pass; they stay as they are.
pub(crate) fn normal_path(
    sent: &str,
    ambiguous: AmbiguousPaths,
) -> Result<Cow<'_, str>, AmbiguousPath> {
    let (path, query) = match sent.find('?') {
        Some(at) => sent.split_at(at),
        None => (sent, ""),
    };
    if path == "*" {
        return Ok(Cow::Borrowed(sent));
    }
    let rest = path.strip_prefix('/').ok_or(AmbiguousPath::NotAbsolute)?;
    if is_normal(path)? {
        return Ok(Cow::Borrowed(sent));
    }
    let mut normal: Vec<Cow<'_, str>> = Vec::new();
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let segment = normal_segment(segment, ambiguous)?;
        match &*segment {
            "." | ".." => {
                if segment == ".." {
                    normal.pop();
                }
                if last {
                    normal.push(Cow::Borrowed(""));
                }
            }
            "" if !last => {}
            _ => normal.push(segment),
        }
    }
    Ok(Cow::Owned(format!("/{}{query}", normal.join("/"))))
}

/// Whether the path is in normal form, at a glance: most are.
fn is_normal(path: &str) -> Result<bool, AmbiguousPath> {
    let mut normal = true;
    let mut before = 0;
    for byte in path.bytes() {
        match byte {
            0..=0x1f | 0x7f => return Err(AmbiguousPath::Control),
            b'#' => return Err(AmbiguousPath::Fragment),
            b'%' | b'\\' => normal = false,
            b'/' | b'.' if before == b'/' => normal = false,
            _ => {}
        }
        before = byte;
    }
    Ok(normal)
}

fn normal_segment(segment: &str, ambiguous: AmbiguousPaths) -> Result<Cow<'_, str>, AmbiguousPath> {
    let accepted = |problem| match ambiguous {
        AmbiguousPaths::Accept => Ok(()),
        AmbiguousPaths::Refuse => Err(problem),
    };
    if segment.contains('\\') {
        accepted(AmbiguousPath::Backslash)?;
    }
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut parts = segment.split('%');
    let mut normal = String::with_capacity(segment.len());
    normal.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(AmbiguousPath::Encoding)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        match byte.ok_or(AmbiguousPath::Encoding)? {
            b'/' => accepted(AmbiguousPath::EncodedSlash)?,
            b'\\' => accepted(AmbiguousPath::Backslash)?,
            0..=0x1f | 0x7f => return Err(AmbiguousPath::Control),
            _ => {}
        }
        match byte {
            // RFC 3986 §2.3.
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
            }
            _ => {
                normal.push('%');
                normal.push_str(&digits.to_ascii_uppercase());
            }
        }
        normal.push_str(rest);
    }
    Ok(Cow::Owned(normal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refuse(sent: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
        normal_path(sent, AmbiguousPaths::Refuse)
    }

    #[test]
    fn most_paths_are_normal_and_are_not_copied() {
        for path in [
            "/",
            "/orders/7",
            "/a.b/c-d_e~f/",
            "/ö?x=../%2f//",
            "/a;v=1/b",
            "*",
        ] {
            assert!(
                matches!(refuse(path), Ok(Cow::Borrowed(same)) if same == path),
                "{path}"
            );
        }
    }

    #[test]
    fn there_is_one_normal_form() {
        for (sent, expected) in [
            ("/%6frders/%7Ejoe?q=%2f", "/orders/~joe?q=%2f"),
            ("/a%20b%c3%A4", "/a%20b%C3%A4"),
            ("//a///b//", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2E%2e/b", "/b"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a//../b", "/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a/..;x/b", "/a/..;x/b"),
            ("/%252e%252e/x", "/%252e%252e/x"),
        ] {
            assert_eq!(refuse(sent).as_deref(), Ok(expected), "{sent}");
        }
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_refused() {
        use AmbiguousPath as P;
        for (sent, problem, lenient) in [
            ("/a%2fb", P::EncodedSlash, Some("/a%2Fb")),
            ("/a%2F../b", P::EncodedSlash, Some("/a%2F../b")),
            ("/a\\b", P::Backslash, Some("/a\\b")),
            ("/a%5Cb/%2e%2e/c", P::Backslash, Some("/c")),
            ("/a%00", P::Control, None),
            ("/a%0d", P::Control, None),
            ("/a\rb", P::Control, None),
            ("/a\u{7f}", P::Control, None),
            ("/a%", P::Encoding, None),
            ("/a%2", P::Encoding, None),
            ("/a%zz", P::Encoding, None),
            ("/a%+1", P::Encoding, None),
            ("/a%2é", P::Encoding, None),
            ("/a#b", P::Fragment, None),
            ("a", P::NotAbsolute, None),
            ("", P::NotAbsolute, None),
            ("?x", P::NotAbsolute, None),
            ("**", P::NotAbsolute, None),
        ] {
            assert_eq!(refuse(sent), Err(problem), "{sent:?}");
            let accepted = normal_path(sent, AmbiguousPaths::Accept);
            assert_eq!(accepted.ok().as_deref(), lenient, "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(sent in "/?[-a%2efF05c./\\\\;?#\u{0}é]{0,40}") {
            for ambiguous in [AmbiguousPaths::Refuse, AmbiguousPaths::Accept] {
                if let Ok(normal) = normal_path(&sent, ambiguous) {
                    let again = normal_path(&normal, ambiguous);
                    prop_assert_eq!(again.as_deref(), Ok(&*normal));
                }
            }
        }

        /// RFC 3986 §5.2.4 and §6.2.2, and then slashes, read in another way: over the whole text.
        #[test]
        fn it_is_what_rfc_3986_says(
            parts in prop::collection::vec(prop::sample::select(vec!["a", "b", ".", "..", "", "%2e", "%2E%2e", "c%41", "%20"]), 1..7),
        ) {
            let sent = format!("/{}", parts.join("/"));
            let mut text = sent.replace("%2e", ".").replace("%2E", ".").replace("%41", "A");
            while text.contains("//") {
                text = text.replace("//", "/");
            }
            let mut output = String::new();
            while !text.is_empty() {
                if text.starts_with("/./") || text == "/." {
                    text = format!("/{}", text.get(3..).unwrap_or_default());
                } else if text.starts_with("/../") || text == "/.." {
                    text = format!("/{}", text.get(4..).unwrap_or_default());
                    output.truncate(output.rfind('/').unwrap_or(0));
                } else {
                    let end = text[1..].find('/').map_or(text.len(), |at| at + 1);
                    output.push_str(&text[..end]);
                    text.drain(..end);
                }
            }
            let normal = refuse(&sent);
            prop_assert_eq!(normal.as_deref(), Ok(output.as_str()));
        }
    }
}
