//! YAML read with positions, where every mistake is reported at once.
//!
//! [`read`] and [`read_file`] read a file that is one document, such as a program's configuration.
//! A mapping is read field by field; what is wrong is noted with its line and column and reading goes on.
//! In the end there is either the whole value or the list of all mistakes.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use countersign_policy::yaml::{self, Value};
//!
//! struct Config { listen: SocketAddr, drain: Duration, limits: Option<Limits>, peers: Vec<String> }
//! struct Limits { header_bytes: u64 }
//!
//! fn limits(value: Value<'_>) -> Option<Limits> {
//!     value.mapping(|fields| {
//!         let header_bytes = fields.default("headerBytes", 65536, Value::size);
//!         Some(Limits { header_bytes: header_bytes? })
//!     })
//! }
//!
//! fn config(value: Value<'_>) -> Option<Config> {
//!     value.mapping(|fields| {
//!         // First read every field, then ask (`?`) whether all went well: so all mistakes are found.
//!         let listen = fields.required("listen", |v| v.parsed("an address such as 127.0.0.1:8080"));
//!         let drain = fields.default("drainTimeout", Duration::from_secs(30), Value::duration);
//!         let limits = fields.optional("limits", limits);
//!         let peers = fields.default("peers", Vec::new(), Value::strings);
//!         Some(Config { listen: listen?, drain: drain?, limits: limits?, peers: peers? })
//!     })
//! }
//!
//! let good = yaml::read("proxy.yaml", "listen: 127.0.0.1:0\ndrainTimeout: 5s\n", config)?;
//! assert_eq!(good.drain, Duration::from_secs(5));
//!
//! let text = "listen: 127.0.0.1\ndrainTimout: 5s\nlimits: {headerBytes: big}\npeers: 8080\n";
//! let mistakes = yaml::read("proxy.yaml", text, config).err().ok_or("there are mistakes")?;
//! assert_eq!(mistakes.to_string(), "\
//! proxy.yaml:1:9: expected an address such as 127.0.0.1:8080, got \"127.0.0.1\": invalid socket address syntax
//! proxy.yaml:2:1: unknown field `drainTimout`, did you mean `drainTimeout`?
//! proxy.yaml:3:23: expected a size such as 512, 64KiB or 2MiB, got \"big\"
//! proxy.yaml:4:8: expected a list of strings, got the number 8080");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is accepted
//! YAML 1.2 with its core schema, less what makes configuration ambiguous: anchors, aliases and tags are
//! refused, keys must be strings or whole numbers, a key must not be given twice, and a field must not be given
//! without a value (`rules:` and nothing after it), because it cannot be told from one whose lines
//! were commented out. Texts are limited to [`MAX_TEXT_BYTES`] and [`MAX_DEPTH`] levels.

mod diagnostic;
mod load;
mod node;
mod suggest;
mod units;
mod value;

use std::io::Read as _;
use std::path::Path;

pub use diagnostic::{Diagnostic, Diagnostics};
#[cfg(feature = "tools")]
pub(crate) use load::is_string;
pub use load::{Documents, MAX_DEPTH, MAX_TEXT_BYTES, read_documents};
pub use node::{Node, Position};
pub use suggest::closest;
pub use units::duration as parse_duration;
pub use value::{Fields, Report, Value};

/// Reads a text that is exactly one YAML document.
///
/// `file` is the name that mistakes are reported under. `build` makes the value; it returns `None`
/// after it has reported a mistake.
///
/// # Errors
/// Every mistake that was found, in the order of the text.
pub fn read<T>(
    file: &str,
    text: &str,
    build: impl FnOnce(Value<'_>) -> Option<T>,
) -> Result<T, Diagnostics> {
    let report = Report::new(file);
    let nodes: Vec<Node> = read_documents(text, &report).collect();
    if !report.is_empty() {
        return Err(Diagnostics::new(report.into_diagnostics()));
    }
    let mut nodes = nodes.iter();
    let Some(node) = nodes.next() else {
        return Err(Diagnostics::new(vec![Diagnostic {
            file: file.to_owned(),
            line: 1,
            column: 1,
            message: "the file is empty".to_owned(),
        }]));
    };
    let built = build(report.value(node));
    if let Some(second) = nodes.next() {
        report
            .value(second)
            .note("expected one YAML document, but a second one starts here");
    }
    report.finish(built)
}

/// [`read`] for a file. The file is named in messages as `path` names it.
///
/// # Errors
/// Every mistake that was found, in the order of the text; or, without line and column, why the
/// file cannot be read.
pub fn read_file<T>(
    path: &Path,
    build: impl FnOnce(Value<'_>) -> Option<T>,
) -> Result<T, Diagnostics> {
    let file = path.display().to_string();
    let mut text = String::new();
    let limit = MAX_TEXT_BYTES.saturating_add(1) as u64;
    let result = std::fs::File::open(path).and_then(|f| f.take(limit).read_to_string(&mut text));
    match result {
        Ok(_) => read(&file, &text, build),
        Err(error) => Err(Diagnostics::new(vec![Diagnostic {
            file,
            line: 0,
            column: 0,
            message: format!("cannot read the file: {error}"),
        }])),
    }
}

#[cfg(test)]
mod tests;
