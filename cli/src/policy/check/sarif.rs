//! Findings as SARIF 2.1.0, which code hosts show beside the lines of a pull request.

use countersign_policy::Diagnostic;
use countersign_policy::check::{Finding, Level, Lint, Report};
use serde_sarif::sarif::{
    ArtifactLocation, Location, Message, MultiformatMessageString, PhysicalLocation, Region,
    ReportingConfiguration, ReportingDescriptor, Result as SarifResult, ResultLevel, Run, Sarif,
    Tool, ToolComponent,
};

/// Where each kind of finding is explained.
const HELP: &str = "docs/policy-tools.md";

/// The report, as one run of this tool.
pub(super) fn log(report: &Report) -> Sarif {
    let driver = ToolComponent::builder()
        .name("countersign policy check")
        .semantic_version(env!("CARGO_PKG_VERSION"))
        .rules(Lint::ALL.map(rule).to_vec())
        .build();
    let run = Run::builder()
        .tool(Tool::builder().driver(driver).build())
        .column_kind(serde_json::json!("unicodeCodePoints"))
        .results(report.findings.iter().map(result).collect::<Vec<_>>())
        .build();
    Sarif::builder()
        .version(serde_json::json!("2.1.0"))
        .schema("https://json.schemastore.org/sarif-2.1.0.json")
        .runs(vec![run])
        .build()
}

fn rule(lint: Lint) -> ReportingDescriptor {
    let text = |text: &str| MultiformatMessageString::builder().text(text).build();
    let level = match lint.level() {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    ReportingDescriptor::builder()
        .id(lint.id())
        .short_description(text(lint.description()))
        .help(text(&format!("See {HELP}.")))
        .default_configuration(
            ReportingConfiguration::builder()
                .level(serde_json::json!(level))
                .build(),
        )
        .build()
}

fn result(finding: &Finding) -> SarifResult {
    let Finding { diagnostic, lint } = finding;
    let level = match lint.level() {
        Level::Error => ResultLevel::Error,
        Level::Warning => ResultLevel::Warning,
    };
    SarifResult::builder()
        .rule_id(lint.id())
        .level(level)
        .message(Message::builder().text(&diagnostic.message).build())
        .locations(vec![location(diagnostic)])
        .build()
}

fn location(diagnostic: &Diagnostic) -> Location {
    let artifact = ArtifactLocation::builder()
        .uri(uri(&diagnostic.file))
        .build();
    let physical = PhysicalLocation::builder().artifact_location(artifact);
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let physical = if diagnostic.line == 0 {
        physical.build()
    } else {
        let region = Region::builder()
            .start_line(number(diagnostic.line))
            .start_column(number(diagnostic.column))
            .build();
        physical.region(region).build()
    };
    Location::builder().physical_location(physical).build()
}

/// A path as a relative URI reference (RFC 3986 §4.2).
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            _ => {
                uri.push('%');
                uri.push_str(&hex::encode_upper([byte]));
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        assert_eq!(uri("policy/orders.yaml"), "policy/orders.yaml");
        assert_eq!(uri("a b/ä#.yaml"), "a%20b/%C3%A4%23.yaml");
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
        let json = serde_json::to_value(log(&report)).unwrap();
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
