//! Names: of namespaces, service accounts and documents; of methods; of header fields and cookies.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;

/// The name of a namespace, a service account or a document: letters, digits, `.`, `-` and `_`.
///
/// It is a segment of a SPIFFE ID (SPIFFE-ID §2.2), and so neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// An HTTP method, in upper case (RFC 9110 §9.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(Cow<'static, str>);

/// The methods that nearly every rule is about (RFC 9110 §9.3, RFC 5789): they take no memory of their own.
const KNOWN_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// The name of a header field, in lower case (RFC 9110 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Box<str>);

/// The name of a cookie; case counts (RFC 6265 §4.1.1, §5.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CookieName(Box<str>);

/// Why a text is not a [`Name`], a [`Method`], a [`HeaderName`] or a [`CookieName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than a Kubernetes name may be.
    #[error("it has {0} characters, at most 253 are allowed")]
    TooLong(usize),
    /// Nothing, or `.` or `..`.
    #[error("a name has at least one letter or digit")]
    Empty,
    /// Another character than a name may have.
    #[error("{0:?} is not allowed: only letters, digits, '.', '-' and '_' are")]
    Character(char),
    /// Methods are case-sensitive, and no known one has a lower-case letter.
    #[error("methods are written in upper case: {0}")]
    MethodCase(String),
    /// No token (RFC 9110 §5.6.2).
    #[error("a method has only letters and '-'")]
    Method,
    /// No token (RFC 9110 §5.6.2).
    #[error("{0:?} is not allowed in the name of a header")]
    HeaderCharacter(char),
    /// No token (RFC 9110 §5.6.2).
    #[error("{0:?} is not allowed in the name of a cookie")]
    CookieCharacter(char),
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 253 {
            return Err(NameError::TooLong(text.chars().count()));
        }
        if matches!(text, "" | "." | "..") {
            return Err(NameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        match text.chars().find(|&c| !allowed(c)) {
            Some(character) => Err(NameError::Character(character)),
            None => Ok(Self(text.into())),
        }
    }
}

impl FromStr for Method {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphabetic() || c == '-') {
            return Err(NameError::Method);
        }
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(NameError::MethodCase(text.to_ascii_uppercase()));
        }
        let known = KNOWN_METHODS.into_iter().find(|known| *known == text);
        Ok(Self(match known {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(text.to_owned()),
        }))
    }
}

impl Name {
    /// The root namespace of policy: its documents are about the whole mesh.
    #[must_use]
    pub fn root_namespace() -> Self {
        Self(countersign_identity::spiffe::system::NAMESPACE.into())
    }

    /// `istio-system`, the root namespace of Istio as it is installed.
    #[must_use]
    pub fn istio_system() -> Self {
        Self("istio-system".into())
    }
}

impl HeaderName {
    /// `authorization` (RFC 9110 §11.6.2).
    #[must_use]
    pub fn authorization() -> Self {
        Self("authorization".into())
    }
}

impl FromStr for HeaderName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.chars().find(|&c| !is_token_character(c)) {
            Some(character) => Err(NameError::HeaderCharacter(character)),
            None if text.is_empty() => Err(NameError::Empty),
            None => Ok(Self(text.to_ascii_lowercase().into())),
        }
    }
}

impl FromStr for CookieName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.chars().find(|&c| !is_token_character(c)) {
            Some(character) => Err(NameError::CookieCharacter(character)),
            None if text.is_empty() => Err(NameError::Empty),
            None => Ok(Self(text.into())),
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// A name hashes and compares as its text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! as_str {
    ($($type:ty),*) => {$(
        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

as_str!(Name, Method, HeaderName, CookieName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spiffe_segments() {
        assert!("orders-v1.2_x".parse::<Name>().is_ok());
        assert_eq!("a/b".parse::<Name>(), Err(NameError::Character('/')));
        assert_eq!("..".parse::<Name>(), Err(NameError::Empty));
        assert_eq!(
            "x".repeat(254).parse::<Name>(),
            Err(NameError::TooLong(254))
        );
    }

    #[test]
    fn methods_are_upper_case() {
        for method in KNOWN_METHODS.into_iter().chain(["M-SEARCH"]) {
            assert_eq!(method.parse::<Method>().unwrap().as_str(), method);
        }
        assert_eq!(
            "Post".parse::<Method>(),
            Err(NameError::MethodCase("POST".to_owned()))
        );
        assert_eq!("*".parse::<Method>(), Err(NameError::Method));
    }

    #[test]
    fn cookie_names_are_kept_as_they_are() {
        assert_eq!(
            "__Host-Id".parse::<CookieName>().unwrap().as_str(),
            "__Host-Id"
        );
        for (name, character) in [("a=b", '='), ("a;b", ';'), ("ä", 'ä')] {
            assert_eq!(
                name.parse::<CookieName>(),
                Err(NameError::CookieCharacter(character))
            );
        }
        assert_eq!("".parse::<CookieName>(), Err(NameError::Empty));
    }

    #[test]
    fn header_names_are_kept_in_lower_case() {
        assert_eq!(
            "X-Tenant".parse::<HeaderName>().unwrap().as_str(),
            "x-tenant"
        );
        assert_eq!(
            "a b".parse::<HeaderName>(),
            Err(NameError::HeaderCharacter(' '))
        );
    }
}
