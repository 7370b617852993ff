//! Who issued whom, as a tree from the roots down.

use super::super::report::{CertificateReport, Report};
use crate::instant::Standing;
use crate::output::{Palette, Tone, printable};

/// How deep the tree is drawn.
const DEEPEST: usize = 12;
/// The most lines of it.
const MOST_LINES: usize = 80;
/// Where the column after the names starts, if they leave room for it.
const NAMES: usize = 52;

/// The tree's lines, painted.
pub(super) fn lines(report: &Report, palette: Palette) -> Vec<String> {
    let all = &report.certificates;
    let mut lines = Vec::new();
    let mut drawn = vec![false; all.len() + 1];
    // Roots, and below the name of an issuer that is not here, what it has issued.
    let mut absent: Vec<(&str, Vec<&CertificateReport>)> = Vec::new();
    for certificate in all {
        match (certificate.issued_by, certificate.facts()) {
            (Some(issuer), _) if issuer == certificate.number => {
                draw(certificate, all, &mut drawn, &mut lines, "", None, palette);
            }
            (None, Some(facts)) => {
                let issuer = facts.issuer_title.as_str();
                match absent.iter_mut().find(|(name, _)| *name == issuer) {
                    Some((_, issued)) => issued.push(certificate),
                    None => absent.push((issuer, vec![certificate])),
                }
            }
            (None, None) => draw(certificate, all, &mut drawn, &mut lines, "", None, palette),
            _ => {}
        }
    }
    // Where the issuer that is not here is: with the roots that vouch for what is.
    let vouching = report
        .groups
        .iter()
        .filter_map(|group| group.trust.as_ref())
        .find(|trust| trust.verified == Some(true))
        .and_then(|trust| trust.bundle.as_deref());
    let place = match vouching {
        Some(bundle) if absent.len() == 1 => format!("in {}", printable(bundle)),
        _ => "not here".to_owned(),
    };
    for (issuer, issued) in absent {
        let name = match issuer {
            "" => "(an issuer without a name)".to_owned(),
            name => shown_short(name),
        };
        let line = format!("    {name} ({place})");
        lines.push(palette.paint(Tone::Faint, &line).into_owned());
        let last = issued.len();
        for (index, certificate) in (1..).zip(issued) {
            let is_last = Some(index == last);
            draw(
                certificate,
                all,
                &mut drawn,
                &mut lines,
                "",
                is_last,
                palette,
            );
        }
    }
    // Certificates that have signed one another in a circle.
    for certificate in all {
        if drawn.get(certificate.number) == Some(&false) {
            draw(certificate, all, &mut drawn, &mut lines, "", None, palette);
        }
    }
    let left = lines.len().saturating_sub(MOST_LINES);
    if left > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("    and {left} more"));
    }
    lines
}

/// Draws a certificate and what it has issued. `last` says whether it is the last of its siblings, and is
/// absent at the top.
fn draw(
    certificate: &CertificateReport,
    all: &[CertificateReport],
    drawn: &mut [bool],
    lines: &mut Vec<String>,
    indent: &str,
    last: Option<bool>,
    palette: Palette,
) {
    let number = certificate.number;
    match drawn.get_mut(number) {
        Some(seen) if !*seen => *seen = true,
        _ => return,
    }
    let branch = match last {
        None => "",
        Some(false) => "├─ ",
        Some(true) => "└─ ",
    };
    lines.push(line(certificate, &format!("{indent}{branch}"), palette));
    let below = match last {
        None => indent.to_owned(),
        Some(false) => format!("{indent}│  "),
        Some(true) => format!("{indent}   "),
    };
    if below.chars().count() / 3 >= DEEPEST || lines.len() > MOST_LINES {
        return;
    }
    let issued: Vec<_> = all
        .iter()
        .filter(|other| other.issued_by == Some(number) && other.number != number)
        .collect();
    let count = issued.len();
    for (index, other) in (1..).zip(issued) {
        draw(
            other,
            all,
            drawn,
            lines,
            &below,
            Some(index == count),
            palette,
        );
    }
}

fn line(certificate: &CertificateReport, branch: &str, palette: Palette) -> String {
    let title = shown_short(certificate.title());
    let used = branch.chars().count() + title.chars().count();
    let gap = " ".repeat(NAMES.saturating_sub(used).max(2));
    let role = certificate.role.word();
    let number = palette
        .paint(Tone::Faint, &format!("{:>3} ", certificate.number))
        .into_owned();
    let left = certificate.facts().map_or(String::new(), |facts| {
        let tone = match facts.standing {
            Standing::Valid(_) => Tone::Good,
            _ => Tone::Bad,
        };
        palette.paint(tone, &facts.time_left).into_owned()
    });
    let title = palette.paint(Tone::Strong, &title).into_owned();
    format!("{number}{branch}{title}{gap}{role:<5} {left}")
}

fn shown_short(title: &str) -> String {
    // Already escaped; escaping it again would double the backslashes.
    match title.chars().count() {
        0..=200 => title.to_owned(),
        _ => title.chars().take(200).chain(['…']).collect(),
    }
}
