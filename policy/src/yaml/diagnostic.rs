//! Mistakes in a file: where, and what.

use std::fmt;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// The file as its reader named it.
    pub file: String,
    /// 1-based line; 0 when the mistake is the whole file's.
    pub line: usize,
    /// 1-based column, counted in characters; 0 when the mistake is the whole file's.
    pub column: usize,
    /// What was expected, what came, what to do. One line, without a full stop.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(
                f,
                "{}:{}:{}: {}",
                self.file, self.line, self.column, self.message
            )
        }
    }
}

/// All mistakes of one or several files; at least one. Displayed one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

/// More than a person reads; a hostile file could have one in every line.
const MOST_TOLD: usize = 500;

impl Diagnostics {
    /// Sorts the mistakes by file, line and column, and drops repetitions. Beyond 500, they are only
    /// counted.
    #[must_use]
    pub fn new(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort();
        diagnostics.dedup();
        let more = diagnostics.len().saturating_sub(MOST_TOLD);
        diagnostics.truncate(MOST_TOLD);
        if more > 0
            && let Some(last) = diagnostics.last().cloned()
        {
            diagnostics.push(Diagnostic {
                message: format!("and {more} more"),
                ..last
            });
        }
        Self(diagnostics)
    }
}

impl std::ops::Deref for Diagnostics {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for diagnostic in &self.0 {
            write!(f, "{separator}{diagnostic}")?;
            separator = "\n";
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
