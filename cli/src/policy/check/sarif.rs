//! Findings as SARIF 2.1.0, which code hosts show beside the lines of a pull request.

use countersign_policy::Diagnostic;
use countersign_policy::check::{Finding, Lint, Report};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// Where each kind of finding is explained.
const HELP: &str = "docs/policy-tools.md";

/// All but the unreserved characters and `/` (RFC 3986 §2.3).
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The report, as one run of this tool (SARIF 2.1.0 §3.13, §3.14).
pub(super) fn log(report: &Report) -> Value {
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "countersign policy check",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Lint::ALL.map(rule),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// §3.49.
fn rule(lint: Lint) -> Value {
    json!({
        "id": lint.id(),
        "shortDescription": {"text": lint.description()},
        "help": {"text": format!("See {HELP}.")},
        "defaultConfiguration": {"level": lint.level().as_str()},
    })
}

/// §3.27.
fn result(finding: &Finding) -> Value {
    let Finding { diagnostic, lint } = finding;
    json!({
        "ruleId": lint.id(),
        "level": lint.level().as_str(),
        "message": {"text": diagnostic.message},
        "locations": [{"physicalLocation": place(diagnostic)}],
    })
}

/// §3.29.
fn place(diagnostic: &Diagnostic) -> Value {
    // A relative URI reference (RFC 3986 §4.2).
    let uri = utf8_percent_encode(&diagnostic.file, &ENCODED).to_string();
    let artifact = json!({"uri": uri});
    match (diagnostic.line, diagnostic.column) {
        // The whole file's.
        (0, _) => json!({"artifactLocation": artifact}),
        (line, column) => json!({
            "artifactLocation": artifact,
            "region": {"startLine": line, "startColumn": column},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        let uri = |file: &str| {
            let place = place(&Diagnostic {
                file: file.to_owned(),
                line: 0,
                column: 0,
                message: String::new(),
            });
            place["artifactLocation"]["uri"].as_str().map(str::to_owned)
        };
        for (file, expected) in [
            ("policy/orders.yaml", "policy/orders.yaml"),
            ("a b/ä#.yaml", "a%20b/%C3%A4%23.yaml"),
        ] {
            assert_eq!(uri(file).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_finding_is_a_result_with_its_place_and_its_rule() {
        let diagnostic = Diagnostic {
            file: "p.yaml".to_owned(),
            line: 3,
            column: 11,
            message: "what".to_owned(),
        };
        let whole_file = Diagnostic {
            line: 0,
            column: 0,
            ..diagnostic.clone()
        };
        let findings = [
            (diagnostic, Lint::InvalidDocument),
            (whole_file, Lint::AllowEverything),
        ];
        let report = Report {
            findings: findings
                .map(|(diagnostic, lint)| Finding { diagnostic, lint })
                .to_vec(),
            ..Report::default()
        };
        let json = log(&report);
        assert_eq!(json["version"], "2.1.0");
        let run = &json["runs"][0];
        let results = &run["results"];
        assert_eq!(results[0]["ruleId"], "invalid-document");
        assert_eq!(results[0]["level"], "error");
        assert_eq!(
            results[0]["locations"][0]["physicalLocation"],
            serde_json::json!({"artifactLocation": {"uri": "p.yaml"}, "region": {"startLine": 3, "startColumn": 11}})
        );
        assert_eq!(results[1]["level"], "warning");
        assert!(results[1]["locations"][0]["physicalLocation"]["region"].is_null());
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), Lint::ALL.len());
        assert!(rules.iter().any(|rule| rule["id"] == "allow-everything"));
    }
}
