//! The account of the demo: what was tried, what was expected, what happened.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::timeout;

/// Longer than anything that a step waits for.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// What a step is about, told before it is done.
pub(crate) struct Step<'a> {
    pub(crate) title: &'a str,
    pub(crate) tried: String,
    pub(crate) expected: &'a str,
}

/// What came of a step.
#[derive(Default)]
pub(crate) struct Seen {
    got: String,
    facts: Vec<(&'static str, String)>,
    complaints: Vec<String>,
}

impl Seen {
    /// What happened, in one line.
    pub(crate) fn new(got: impl Into<String>) -> Self {
        Self {
            got: got.into(),
            ..Self::default()
        }
    }

    /// Something worth telling beside it, under a word of at most eight letters.
    pub(crate) fn fact(mut self, word: &'static str, text: impl Display) -> Self {
        self.facts.push((word, text.to_string()));
        self
    }

    /// A part of what was expected: without it, the step has failed, and `otherwise` says what is wrong.
    pub(crate) fn check(mut self, holds: bool, otherwise: impl Display) -> Self {
        if !holds {
            self.complaints.push(otherwise.to_string());
        }
        self
    }
}

/// Writes the account, and counts.
pub(crate) struct Account<W> {
    out: W,
    colour: bool,
    steps: usize,
    failed: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Tone {
    Strong,
    Faint,
    Good,
    Bad,
}

impl Account<io::Stdout> {
    /// On standard output; in colour if that is a terminal and nobody objects (`NO_COLOR`).
    pub(crate) fn to_stdout() -> Self {
        let out = io::stdout();
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self::new(out, colour)
    }
}

impl<W: Write> Account<W> {
    pub(crate) fn new(out: W, colour: bool) -> Self {
        Self {
            out,
            colour,
            steps: 0,
            failed: Vec::new(),
        }
    }

    /// A line of text.
    pub(crate) fn say(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A heading.
    pub(crate) fn section(&mut self, title: &str) -> io::Result<()> {
        let title = self.paint(Tone::Strong, title);
        self.say(format_args!("{title}\n"))
    }

    /// Tells of a step, does it, and tells what came of it. An error is a failed step, not the end.
    pub(crate) async fn step<E: std::error::Error>(
        &mut self,
        step: Step<'_>,
        doing: impl Future<Output = Result<Seen, E>>,
    ) -> io::Result<()> {
        self.steps += 1;
        let title = self.paint(Tone::Strong, step.title);
        let number = self.steps;
        self.say(format_args!("{number:>4}  {title}"))?;
        self.line("tried", &step.tried)?;
        self.line("expected", step.expected)?;

        let seen = match timeout(STEP_LIMIT, doing).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => Seen::default().check(false, chain(&error)),
            Err(_) => {
                let seconds = STEP_LIMIT.as_secs();
                Seen::default().check(false, format_args!("nothing happened for {seconds} s"))
            }
        };
        if !seen.got.is_empty() {
            self.line("got", &seen.got)?;
        }
        for (word, text) in &seen.facts {
            self.line(word, text)?;
        }
        for complaint in &seen.complaints {
            let complaint = self.paint(Tone::Bad, complaint);
            self.line("but", &complaint)?;
        }
        let verdict = if seen.complaints.is_empty() {
            self.paint(Tone::Good, "✓ as expected")
        } else {
            self.failed.push(self.steps);
            self.paint(Tone::Bad, "✗ not as expected")
        };
        self.say(format_args!("      {verdict}\n"))
    }

    /// The summary; true if every step came out as expected.
    pub(crate) fn finish(&mut self) -> io::Result<bool> {
        let steps = self.steps;
        if self.failed.is_empty() {
            let text = self.paint(
                Tone::Good,
                &format!("All {steps} steps came out as expected."),
            );
            self.say(text)?;
            return Ok(steps > 0);
        }
        let failed: Vec<String> = self.failed.iter().map(ToString::to_string).collect();
        let text = format!(
            "{} of {steps} steps did not come out as expected: {}.",
            failed.len(),
            failed.join(", ")
        );
        let text = self.paint(Tone::Bad, &text);
        self.say(text)?;
        Ok(false)
    }

    fn line(&mut self, word: &str, text: &str) -> io::Result<()> {
        let word = self.paint(Tone::Faint, &format!("{word:<9}"));
        // Further lines of a text stand under its first.
        let text = text.trim_end().replace('\n', "\n                ");
        self.say(format_args!("      {word} {text}"))
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Strong => 1,
            Tone::Faint => 2,
            Tone::Good => 32,
            Tone::Bad => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// An error and all of its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(title: &str) -> Step<'_> {
        Step {
            title,
            tried: "GET /".to_owned(),
            expected: "200",
        }
    }

    #[tokio::test]
    async fn one_failed_step_fails_the_account() {
        let mut account = Account::new(Vec::new(), false);
        let good = async { Ok::<_, io::Error>(Seen::new("200").check(true, "no")) };
        account.step(step("fine"), good).await.unwrap();
        let bad = async { Ok::<_, io::Error>(Seen::new("403").check(false, "it was denied")) };
        account.step(step("not fine"), bad).await.unwrap();
        let error = async { Err::<Seen, _>(io::Error::other("no connection")) };
        account.step(step("impossible"), error).await.unwrap();
        assert!(!account.finish().unwrap());
        let text = String::from_utf8(account.out).unwrap();
        assert!(text.contains("but       it was denied"), "{text}");
        assert!(text.contains("but       no connection"), "{text}");
        assert!(
            text.contains("2 of 3 steps did not come out as expected: 2, 3."),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[tokio::test]
    async fn an_account_of_nothing_is_not_a_success() {
        assert!(!Account::new(Vec::new(), false).finish().unwrap());
        let mut account = Account::new(Vec::new(), true);
        let good = async { Ok::<_, io::Error>(Seen::new("200")) };
        account.step(step("fine"), good).await.unwrap();
        assert!(account.finish().unwrap());
        assert!(
            String::from_utf8(account.out)
                .unwrap()
                .contains("\u{1b}[32m✓ as expected")
        );
    }
}
