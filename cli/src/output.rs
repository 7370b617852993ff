//! How the command speaks: text for people, JSON for programs, colour only on a terminal.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

/// What `-o` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatChoice {
    /// For people; may change between versions.
    Text,
    /// For programs; stable.
    Json,
    /// The same as YAML; of `cert inspect` alone
    Yaml,
    /// The certificates themselves; of `cert inspect` alone
    Pem,
    /// SARIF 2.1.0, which code hosts read; of `policy check` alone
    Sarif,
}

/// Why `-o` cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "-o yaml and -o pem are for `cert inspect` alone, -o sarif for `policy check`; expected text or json"
)]
pub(crate) struct UnsupportedFormat;

impl FormatChoice {
    /// The format of a command that knows text and JSON alone.
    pub(crate) fn plain(self) -> Result<Format, UnsupportedFormat> {
        match self {
            Self::Text => Ok(Format::Text),
            Self::Json => Ok(Format::Json),
            Self::Yaml | Self::Pem | Self::Sarif => Err(UnsupportedFormat),
        }
    }

    /// Text if it is for people, JSON if it is for programs.
    pub(crate) fn text_or_json(self) -> Format {
        match self {
            Self::Text => Format::Text,
            _ => Format::Json,
        }
    }
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people; may change between versions.
    Text,
    /// For programs; stable.
    Json,
}

/// What a command found out, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Exit 0.
    Yes,
    /// Exit 1.
    No,
}

/// What a piece of text means; the terminal shows it as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Fine, allowed, ready.
    Good,
    /// Not fine, denied, dead.
    Bad,
    /// Worth a look.
    Warning,
    /// Less important than what is beside it.
    Faint,
    /// A heading.
    Strong,
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    coloured: bool,
}

impl Palette {
    /// Text as it is, for files, pipes and tests.
    pub(crate) const PLAIN: Self = Self { coloured: false };

    /// Colours on a terminal, unless `NO_COLOR` (<https://no-color.org>) or `TERM=dumb` ask for none.
    fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            coloured: io::stdout().is_terminal() && !refused,
        }
    }

    /// `text` in the colour of `tone`.
    pub(crate) fn paint<'a>(self, tone: Tone, text: &'a str) -> Cow<'a, str> {
        if !self.coloured {
            return Cow::Borrowed(text);
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warning => "33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    }
}

/// Where and how a command prints its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Text or JSON.
    pub(crate) format: Format,
    /// Colours of the text.
    pub(crate) palette: Palette,
}

impl Output {
    /// Prints to standard output.
    pub(crate) fn to_stdout(format: Format) -> Self {
        let palette = match format {
            Format::Text => Palette::for_stdout(),
            Format::Json => Palette::PLAIN,
        };
        Self { format, palette }
    }

    /// Prints `text` as it is, in one write.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        match written {
            // Whoever reads has seen enough, such as `head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Prints one JSON value, indented for the eye.
    pub(crate) fn write_json<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.write(&text)
    }

    /// Prints whether something was verified: `value` as JSON, or a line with `text`. The answer is no if it was not.
    pub(crate) fn write_verdict<T: Serialize>(
        &self,
        verified: bool,
        value: &T,
        text: &str,
    ) -> io::Result<Answer> {
        let (answer, tone, word) = match verified {
            true => (Answer::Yes, Tone::Good, "verified"),
            false => (Answer::No, Tone::Bad, "not verified"),
        };
        match self.format {
            Format::Json => self.write_json(value)?,
            Format::Text => {
                let word = self.palette.paint(tone, word);
                self.write(&format!("{word}: {}\n", printable(text)))?;
            }
        }
        Ok(answer)
    }
}

/// The width of the terminal, in columns; 80 where there is none.
pub(crate) fn terminal_width() -> usize {
    const USUAL: u16 = 80;
    const NARROWEST: u16 = 60;
    const WIDEST: u16 = 110;
    let width = match terminal_size::terminal_size() {
        Some((terminal_size::Width(width), _)) if io::stdout().is_terminal() => width,
        _ => USUAL,
    };
    usize::from(width.clamp(NARROWEST, WIDEST))
}

/// Tells on standard error why a command could not do its work.
pub(crate) fn report_failure(error: &dyn Error) {
    let text = format!("countersign: {}\n", with_causes(error));
    // Standard error is the last place to complain to; if it is closed, the exit status still tells.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// An error and its causes on one line, unless they have several. A cause that the error tells itself
/// is not repeated.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// `text` with control characters replaced, so that text from elsewhere cannot steer the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_others_do_not_reach_the_terminal() {
        assert_eq!(
            printable("/a\u{1b}[2Jb\r\n"),
            "/a\u{fffd}[2Jb\u{fffd}\u{fffd}"
        );
        assert_eq!(printable("/orders?x=ü"), "/orders?x=ü");
    }

    #[test]
    fn plain_palette_leaves_text_alone() {
        assert_eq!(Palette::PLAIN.paint(Tone::Bad, "DENY"), "DENY");
        assert_eq!(
            Palette { coloured: true }.paint(Tone::Bad, "DENY"),
            "\u{1b}[31mDENY\u{1b}[0m"
        );
    }
}
