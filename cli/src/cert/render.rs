//! A report as text.

use std::fmt::Write as _;

use super::describe::Description;
use super::examine::{Check, Outcome, Report};
use crate::output::{Palette, Tone, printable};

/// The whole report, one fact per line.
pub(super) fn text(report: &Report, palette: Palette) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report, palette);
    text
}

fn write_report(text: &mut String, report: &Report, palette: Palette) -> std::fmt::Result {
    writeln!(
        text,
        "{}",
        palette.paint(Tone::Strong, &printable(&report.target))
    )?;
    if let Some(handshake) = &report.handshake {
        write!(text, "  TLS 1.3")?;
        for fact in [&handshake.key_exchange, &handshake.alpn]
            .into_iter()
            .flatten()
        {
            write!(text, ", {}", printable(fact))?;
        }
        writeln!(text)?;
    }
    let count = report.certificates.len();
    for (index, description) in report.certificates.iter().enumerate() {
        let heading = format!("certificate {} of {count}", index + 1);
        writeln!(text, "\n{}", palette.paint(Tone::Strong, &heading))?;
        write_description(text, description, palette)?;
    }
    writeln!(text, "\n{}", palette.paint(Tone::Strong, "verdict"))?;
    for check in &report.checks {
        write_check(text, check, palette)?;
    }
    Ok(())
}

fn write_description(
    text: &mut String,
    description: &Description,
    palette: Palette,
) -> std::fmt::Result {
    let tone = if description.standing.is_valid() {
        Tone::Good
    } else {
        Tone::Bad
    };
    let validity = format!(
        "{} to {}, {}",
        description.not_before,
        description.not_after,
        palette.paint(tone, &description.time_left)
    );
    let kind = if description.certificate_authority {
        "authority"
    } else {
        "leaf"
    };
    let usage: Vec<_> = description
        .key_usage
        .iter()
        .copied()
        .chain(description.extended_key_usage.iter().map(String::as_str))
        .collect();
    let spiffe_id = description.spiffe_id.as_deref().unwrap_or("none");
    for (name, value) in [
        ("SPIFFE ID", &*printable(spiffe_id)),
        ("subject", &*printable(&description.subject)),
        ("issuer", &*printable(&description.issuer)),
        ("serial", &description.serial),
        ("valid", &validity),
        ("kind", kind),
        ("key", &description.key),
        ("usage", &usage.join(", ")),
        (
            "other names",
            &*printable(&description.other_names.join(", ")),
        ),
        ("thumbprint", &format!("SHA-256 {}", description.thumbprint)),
    ] {
        let value = if value.is_empty() { "none" } else { value };
        writeln!(text, "  {name:<12} {value}")?;
    }
    Ok(())
}

fn write_check(text: &mut String, check: &Check, palette: Palette) -> std::fmt::Result {
    let (tone, word) = match check.outcome {
        Outcome::Passed => (Tone::Good, "pass"),
        Outcome::Failed => (Tone::Bad, "FAIL"),
        Outcome::Skipped => (Tone::Warning, "skip"),
    };
    let word = palette.paint(tone, word);
    writeln!(
        text,
        "  {word}  {:<20} {}",
        check.check,
        printable(&check.detail)
    )
}
