//! Lines of a page: labels aligned, long values wrapped between words.

use crate::output::{Palette, Tone};

/// The width of labels, with what is before and after them.
const LABEL: usize = 14;
/// The same for the severity of findings.
const ITEM: usize = 9;

/// A page that is being written.
pub(super) struct Page {
    text: String,
    palette: Palette,
    width: usize,
}

impl Page {
    pub(super) fn new(palette: Palette, width: usize) -> Self {
        Self {
            text: String::new(),
            palette,
            width,
        }
    }

    pub(super) fn palette(&self) -> Palette {
        self.palette
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line as it is.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// `  label       value`, wrapped.
    pub(super) fn field(&mut self, label: &str, value: &str) {
        let label = format!("  {label:<width$}", width = LABEL - 2);
        let label = self.palette.paint(Tone::Faint, &label).into_owned();
        self.wrapped(&label, LABEL, value);
    }

    /// `  label       value`, which is already painted and short.
    pub(super) fn painted_field(&mut self, label: &str, value: &str) {
        let label = format!("  {label:<width$}", width = LABEL - 2);
        let label = self.palette.paint(Tone::Faint, &label).into_owned();
        self.line(&format!("{label}{value}"));
    }

    /// A field whose value is a list.
    pub(super) fn list(&mut self, label: &str, values: &[String]) {
        if !values.is_empty() {
            self.field(label, &values.join(", "));
        }
    }

    /// A finding: its severity, what it says, its code at the end.
    pub(super) fn item(&mut self, word: &str, tone: Tone, message: &str, code: &str) {
        let word = format!("{word:<ITEM$}");
        let word = self.palette.paint(tone, &word).into_owned();
        self.wrapped(&word, ITEM, &format!("{message} [{code}]"));
    }

    /// A sentence of its own, below the tree.
    pub(super) fn remark(&mut self, tone: Tone, text: &str) {
        for line in wrap(text, self.width.saturating_sub(2)) {
            let line = self.palette.paint(tone, &line).into_owned();
            self.line(&format!("  {line}"));
        }
    }

    /// What belongs to the item before.
    pub(super) fn under_item(&mut self, text: &str) {
        self.wrapped(&" ".repeat(ITEM), ITEM, text);
    }

    fn wrapped(&mut self, first: &str, indent: usize, value: &str) {
        let room = self.width.saturating_sub(indent).max(20);
        let mut lines = wrap(value, room).into_iter();
        self.line(&format!("{first}{}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line(&format!("{}{line}", " ".repeat(indent)));
        }
    }
}

/// Lines of at most `room` characters where that can be done without breaking a word: what is copied
/// from a terminal has to stay whole.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(String::new());
            used = 0;
        }
        let Some(line) = lines.last_mut() else { break };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_break_between_words_only() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcdefgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
