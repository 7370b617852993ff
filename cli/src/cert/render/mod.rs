//! A report as text, the important first: what was found, who issued whom, what is wrong, then the rest.

mod details;
mod page;
mod tree;

use super::findings::{Finding, Severity};
use super::report::{GroupReport, Report};
use super::source::{ClientOutcome, Connection};
use crate::output::{Palette, Tone, printable};
use page::Page;

/// The most findings that are shown.
const MOST_FINDINGS: usize = 60;
/// The most authorities of a server's request that are shown.
const MOST_AUTHORITIES: usize = 12;

/// The whole report, for a page of this width.
pub(super) fn text(report: &Report, palette: Palette, width: usize) -> String {
    let mut page = Page::new(palette, width);
    heading(&mut page, report);
    if let Some(connection) = &report.connection {
        show_connection(&mut page, connection);
    }
    page.blank();
    for line in tree::lines(report, palette) {
        page.line(&line);
    }
    for group in &report.groups {
        show_group(&mut page, group, report.groups.len() > 1);
    }
    for note in &report.notes {
        page.remark(Tone::Faint, note);
    }
    page.blank();
    show_findings(&mut page, report);
    for certificate in &report.certificates {
        page.blank();
        details::certificate(&mut page, certificate);
    }
    page.into_text()
}

fn heading(page: &mut Page, report: &Report) {
    let palette = page.palette();
    let count = match report.certificates.len() {
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    let (errors, warnings) = (
        report.count(Severity::Error),
        report.count(Severity::Warning),
    );
    let verdict = match (errors, warnings) {
        (0, 0) => palette.paint(Tone::Good, "good").into_owned(),
        (0, warnings) => {
            let text = format!("good, {}", counted(warnings, "warning"));
            palette.paint(Tone::Warning, &text).into_owned()
        }
        (errors, 0) => palette
            .paint(Tone::Bad, &counted(errors, "error"))
            .into_owned(),
        (errors, warnings) => {
            let text = format!(
                "{}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            );
            palette.paint(Tone::Bad, &text).into_owned()
        }
    };
    let target = printable(&report.target).into_owned();
    let target = palette.paint(Tone::Strong, &target);
    page.line(&format!("{target}: {}, {count}: {verdict}", report.form));
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn show_connection(page: &mut Page, connection: &Connection) {
    let facts = [
        &connection.version,
        &connection.cipher_suite,
        &connection.key_exchange,
        &connection.alpn,
    ];
    let facts: Vec<_> = facts
        .into_iter()
        .flatten()
        .map(|fact| printable(fact).into_owned())
        .collect();
    page.list("handshake", &facts);
    let Some(asked) = &connection.client_certificate else {
        page.field("clients", "need no certificate");
        return;
    };
    let outcome = match (asked.outcome, asked.presented) {
        (ClientOutcome::Required, _) => "must present a certificate",
        (ClientOutcome::Accepted, false) => "may present a certificate",
        (ClientOutcome::Accepted, true) => "are asked for a certificate; ours was accepted",
        (ClientOutcome::Refused, _) => "are asked for a certificate; ours was refused",
        (ClientOutcome::Unknown, _) => "are asked for a certificate",
    };
    page.field("clients", outcome);
    match asked.authorities.len() {
        0 => page.field("accepts", "does not say of which authorities"),
        count => {
            let mut names: Vec<_> = asked.authorities.clone();
            names.truncate(MOST_AUTHORITIES);
            if count > MOST_AUTHORITIES {
                names.push(format!("and {} more", count - MOST_AUTHORITIES));
            }
            for (index, name) in names.iter().enumerate() {
                page.field(if index == 0 { "accepts" } else { "" }, name);
            }
        }
    }
    page.list("signatures", &asked.signature_algorithms);
}

fn show_group(page: &mut Page, group: &GroupReport, several: bool) {
    let of = match (&group.name, several) {
        (Some(name), true) => format!("{name}: "),
        _ => String::new(),
    };
    for key in &group.private_keys {
        let name = key.name.as_deref().unwrap_or_default();
        let (tone, text) = match (key.state, key.certificate) {
            ("matches", Some(number)) => (
                Tone::Good,
                format!("the private key ({name}) belongs to certificate {number}"),
            ),
            ("mismatch", Some(number)) => (
                Tone::Bad,
                format!(
                    "the private key ({name}) belongs to certificate {number}, not to the leaf"
                ),
            ),
            ("mismatch", None) => (
                Tone::Bad,
                format!("the private key ({name}) belongs to none of the certificates"),
            ),
            ("encrypted", _) => (Tone::Warning, "the private key is encrypted".to_owned()),
            _ => (Tone::Warning, "the private key cannot be read".to_owned()),
        };
        page.remark(tone, &format!("{of}{text}"));
    }
    if let Some(trust) = &group.trust {
        let tone = match trust.verified {
            Some(true) => Tone::Good,
            Some(false) => Tone::Bad,
            None => Tone::Faint,
        };
        let text = match trust.verified {
            Some(false) => "no root vouches for it".to_owned(),
            _ => printable(&trust.detail).into_owned(),
        };
        page.remark(tone, &format!("{of}{text}"));
    }
}

fn show_findings(page: &mut Page, report: &Report) {
    if report.findings.is_empty() {
        let text = page
            .palette()
            .paint(Tone::Good, "nothing is wrong with it")
            .into_owned();
        page.line(&text);
        return;
    }
    let several = report.certificates.len() > 1;
    for (index, finding) in report.findings.iter().take(MOST_FINDINGS).enumerate() {
        // Advice that the next one repeats is told once.
        let repeated = report
            .findings
            .get(index + 1)
            .is_some_and(|next| next.advice == finding.advice);
        show_finding(page, finding, several, repeated);
    }
    let left = report.findings.len().saturating_sub(MOST_FINDINGS);
    if left > 0 {
        page.line(&format!("and {left} more; `-o json` has all"));
    }
}

fn show_finding(page: &mut Page, finding: &Finding, several: bool, repeated: bool) {
    let (tone, word) = match finding.severity {
        Severity::Error => (Tone::Bad, "error"),
        Severity::Warning => (Tone::Warning, "warning"),
        Severity::Info => (Tone::Faint, "note"),
    };
    let at = match finding.certificate {
        Some(number) if several => format!("certificate {number}: "),
        _ => String::new(),
    };
    let message = printable(&finding.message);
    page.item(word, tone, &format!("{at}{message}"), finding.code);
    if let Some(advice) = finding.advice.as_ref().filter(|_| !repeated) {
        page.under_item(&format!("→ {advice}"));
    }
}
