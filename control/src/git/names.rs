//! What git is told: branches, commits and repositories, read so strictly that nothing in them can be an option or a
//! command.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{GitError, LOCAL_TIME, REMOTE_TIME};

/// The name of a branch: a part of `git check-ref-format` that needs no quoting anywhere and cannot be an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch(String);

/// Why a text is no branch name.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a branch name of letters, digits and `-_./+@`, without `..`, with no part that begins with `-` or `.` or ends \
     with `.` or `.lock`; got {0:?}"
)]
pub(crate) struct BadBranch(String);

impl FromStr for Branch {
    type Err = BadBranch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['-', '.'])
                && !part.ends_with('.')
                && !part.to_ascii_lowercase().ends_with(".lock")
                && !part.contains("..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.+@".contains(c))
        };
        if text.len() <= 200 && text != "@" && text.split('/').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadBranch(text.to_owned()))
        }
    }
}

impl Default for Branch {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl Branch {
    /// The full name of the reference, `refs/heads/…`.
    pub(crate) fn reference(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a commit, in full: 40 hexadecimal digits, or 64 in a SHA-256 repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitId(String);

impl CommitId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hexadecimal = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (matches!(text.len(), 40 | 64) && hexadecimal).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// How the repository names its objects, as `git init --object-format` calls it.
    pub(crate) fn object_format(&self) -> &'static str {
        if self.0.len() == 64 { "sha256" } else { "sha1" }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the policy is kept: a directory of this machine, or a URL that git can reach.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Repository {
    Local(PathBuf),
    Remote(String),
}

/// Why a text names no repository.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRepository {
    #[error("expected a path or a URL, got nothing")]
    Empty,
    #[error("expected a path or a URL, got {0:?}, which git would read as an option; write ./{0}")]
    Option(String),
    #[error("expected a URL of https, ssh or file (or user@host:path), got the scheme {0:?}")]
    Scheme(String),
    #[error("{0} does not protect the policy on its way; use https or ssh")]
    Unprotected(&'static str),
}

impl FromStr for Repository {
    type Err = BadRepository;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(BadRepository::Empty);
        }
        if text.starts_with('-') {
            return Err(BadRepository::Option(text.to_owned()));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return match scheme {
                "https" | "ssh" | "file" => Ok(Self::Remote(text.to_owned())),
                "http" => Err(BadRepository::Unprotected("http")),
                "git" => Err(BadRepository::Unprotected("git")),
                other => Err(BadRepository::Scheme(other.to_owned())),
            };
        }
        // As git reads it: a colon before any slash is `host:path` by ssh, two are a remote helper (`ext::sh -c …`).
        match text.split_once(':') {
            Some((host, path)) if !host.contains('/') => match path.strip_prefix(':') {
                Some(_) => Err(BadRepository::Scheme(format!("{host}::"))),
                None => Ok(Self::Remote(text.to_owned())),
            },
            _ => Ok(Self::Local(PathBuf::from(text))),
        }
    }
}

impl Repository {
    /// As git takes it on its command line.
    pub(crate) fn as_argument(&self) -> &OsStr {
        match self {
            Self::Local(path) => path.as_os_str(),
            Self::Remote(url) => OsStr::new(url),
        }
    }

    /// How long a command may take that talks to it.
    pub(crate) fn time_limit(&self) -> Duration {
        match self {
            Self::Local(_) => LOCAL_TIME,
            Self::Remote(_) => REMOTE_TIME,
        }
    }

    /// Git repeats the URL in some of its complaints; what it repeats must not hold the password.
    pub(crate) fn redact(&self, error: GitError) -> GitError {
        match (self, error) {
            (
                Self::Remote(url),
                GitError::Failed {
                    command,
                    status,
                    stderr,
                },
            ) => {
                let stderr = stderr.replace(url.as_str(), &self.to_string());
                GitError::Failed {
                    command,
                    status,
                    stderr,
                }
            }
            (_, error) => error,
        }
    }
}

/// Without the user and password that a URL may hold.
impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote(url) => {
                let Some((scheme, rest)) = url.split_once("://") else {
                    return f.write_str(url);
                };
                let authority_end = rest.find('/').unwrap_or(rest.len());
                match rest
                    .get(..authority_end)
                    .and_then(|authority| authority.rfind('@'))
                {
                    Some(at) => write!(f, "{scheme}://…{}", rest.get(at..).unwrap_or_default()),
                    None => f.write_str(url),
                }
            }
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({self})")
    }
}
