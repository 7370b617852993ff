//! One certificate, fact by fact.

use super::super::facts::{ExtensionFacts, Facts, NameFacts};
use super::super::report::{CertificateReport, Content};
use super::page::Page;
use crate::instant::{Span, Standing};
use crate::output::Tone;

/// The cells of the bar.
const BAR: usize = 20;
/// The most names and values of one field that are shown.
const MOST_VALUES: usize = 12;

pub(super) fn certificate(page: &mut Page, certificate: &CertificateReport) {
    let palette = page.palette();
    let heading = format!("{} {}", certificate.number, certificate.title());
    page.line(&palette.paint(Tone::Strong, &heading));
    match &certificate.content {
        Content::Readable(facts) => readable(page, facts, certificate.role.word()),
        Content::Unreadable { unreadable, sha256 } => {
            page.field("unreadable", unreadable);
            page.field("SHA-256", sha256);
        }
    }
}

fn readable(page: &mut Page, facts: &Facts, role: &str) {
    validity(page, facts);
    if let Some(id) = facts.spiffe_id.as_deref().filter(|id| *id != facts.title) {
        page.field("SPIFFE ID", id);
    }
    names(page, facts);
    if !facts.subject.is_empty() {
        page.field("subject", &facts.subject);
    }
    page.field("issuer", or_none(&facts.issuer));
    page.field(
        "key",
        &format!(
            "{}; signature: {}",
            facts.key.name, facts.signature_algorithm
        ),
    );
    let mut usage = facts.key_usage.clone();
    usage.extend(facts.extended_key_usage.iter().cloned());
    let constraint = match (facts.certificate_authority, facts.path_length) {
        (true, Some(length)) => format!("{role}, path length {length}: "),
        (true, None) => format!("{role}: "),
        (false, _) => String::new(),
    };
    let usage = match usage.is_empty() {
        true => "not restricted".to_owned(),
        false => usage.join(", "),
    };
    page.field("usage", &format!("{constraint}{usage}"));
    extensions(page, &facts.extensions);
    page.field("serial", &facts.serial);
    page.field("SHA-256", &facts.fingerprints.sha256);
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// The bar shows what is left; the words say it.
fn validity(page: &mut Page, facts: &Facts) {
    let palette = page.palette();
    let share = facts.share_left();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the share is between 0 and 1"
    )]
    let mut full = ((share * BAR as f64).round() as usize).min(BAR);
    if matches!(facts.standing, Standing::Valid(_)) {
        full = full.max(1);
    }
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    let tone = match facts.standing {
        Standing::Valid(_) if share > 0.2 => Tone::Good,
        Standing::Valid(_) => Tone::Warning,
        _ => Tone::Bad,
    };
    let bar = palette.paint(tone, &bar);
    let life = Span(std::time::Duration::from_secs(facts.lifetime_seconds));
    let words = match facts.standing {
        Standing::Valid(_) => format!("{} of {life}", facts.time_left),
        _ => facts.time_left.clone(),
    };
    let words = palette.paint(tone, &words);
    page.painted_field("valid", &format!("{bar} {words}"));
    page.field("", &format!("{} to {}", facts.not_before, facts.not_after));
}

fn names(page: &mut Page, facts: &Facts) {
    let shown = |name: &&NameFacts| {
        name.value != facts.title && Some(&name.value) != facts.spiffe_id.as_ref()
    };
    let mut names: Vec<_> = facts
        .names
        .iter()
        .filter(shown)
        .take(MOST_VALUES)
        .map(|name| match name.kind {
            "dns" => name.value.clone(),
            kind => format!("{kind}: {}", name.value),
        })
        .collect();
    let all = facts.names.iter().filter(shown).count() + facts.names_omitted;
    if all > names.len() {
        names.push(format!("and {} more", all - names.len()));
    }
    page.list("also", &names);
}

/// All by name, what is critical marked; and what some of them say that people ask for.
fn extensions(page: &mut Page, extensions: &[ExtensionFacts]) {
    let mut names: Vec<_> = extensions
        .iter()
        .take(2 * MOST_VALUES)
        .map(|extension| match extension.critical {
            true => format!("{} (critical)", extension.name),
            false => extension.name.clone(),
        })
        .collect();
    if extensions.len() > names.len() {
        names.push(format!("and {} more", extensions.len() - names.len()));
    }
    page.list("extensions", &names);
    for (name, label) in [
        ("nameConstraints", "constraints"),
        ("certificatePolicies", "policies"),
        ("authorityInfoAccess", "online"),
        ("cRLDistributionPoints", "revocation"),
        ("netscapeComment", "comment"),
    ] {
        for extension in extensions
            .iter()
            .filter(|extension| extension.name == name)
            .take(1)
        {
            let mut values: Vec<_> = extension.values.iter().take(MOST_VALUES).cloned().collect();
            if extension.values.len() > values.len() {
                values.push(format!(
                    "and {} more",
                    extension.values.len() - values.len()
                ));
            }
            page.list(label, &values);
        }
    }
}
