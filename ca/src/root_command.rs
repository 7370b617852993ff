//! `countersign-ca root`: replaces the root, step by step.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::authority::rotation::Next;
use crate::authority::state::{Root as RootRecord, State, time};
use crate::authority::{Authorities, read_chain};
use crate::ceremony_command::{authorities, read_file};
use crate::{Failure, runtime};

/// `root`.
#[derive(Args)]
pub(crate) struct Root {
    #[command(subcommand)]
    step: Step,
    /// The configuration of the CA, a YAML file.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        required = false,
        default_value = "ca.yaml"
    )]
    config: PathBuf,
    /// How the result is written.
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        global = true
    )]
    output: Output,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

/// Each step is safe to repeat.
#[derive(Subcommand)]
enum Step {
    /// Add a new root to the bundle. It signs nothing yet.
    Prepare {
        /// The certificate of an external root, in PEM, instead of a root that is made here.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
    },
    /// Have the prepared root sign from now on.
    Activate {
        /// Even if not everybody has the bundle with it yet: their calls fail until they have.
        #[arg(long)]
        force: bool,
    },
    /// Have everybody renew at once what an old root signed.
    Taint {
        /// The root; may be left out if there is one.
        root: Option<String>,
    },
    /// Take a tainted root out of the bundle: what it signed is not believed any more.
    Revoke {
        /// The root; may be left out if there is one.
        root: Option<String>,
        /// Even if what it signed may be in use: those calls fail.
        #[arg(long)]
        force: bool,
    },
    /// Take the prepared root out of the bundle again.
    Abandon,
    /// Show the roots, and what comes next.
    #[command(visible_alias = "list")]
    Status,
}

/// Does one step, and shows how things stand.
pub(crate) fn run(arguments: &Root) -> Result<(), Failure> {
    let authorities = authorities(&arguments.config)?;
    let now = SystemTime::now();
    let certificate = match &arguments.step {
        Step::Prepare {
            certificate: Some(path),
        } => Some(read_chain(&read_file(path)?)?.0),
        _ => None,
    };
    let runtime = runtime()?;
    let outcome = match &arguments.step {
        Step::Prepare { .. } => Some(runtime.block_on(authorities.prepare(certificate, now))?),
        Step::Activate { force } => Some(runtime.block_on(authorities.activate(*force, now))?),
        Step::Taint { root } => Some(runtime.block_on(authorities.taint(root.as_deref(), now))?),
        Step::Revoke { root, force } => {
            Some(runtime.block_on(authorities.revoke(root.as_deref(), *force, now))?)
        }
        Step::Abandon => Some(runtime.block_on(authorities.abandon(now))?),
        Step::Status => None,
    };
    let state = authorities.state()?;
    let next = authorities.next(&state);
    let message = outcome.as_ref().map(|outcome| outcome.message.as_str());
    let text = match arguments.output {
        Output::Text => text(message, &state, &next, now),
        Output::Json => {
            let changed = outcome.as_ref().map(|outcome| outcome.changed);
            let json = status(&authorities, &state, &next, message.zip(changed));
            format!("{json:#}\n")
        }
    };
    write!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

fn text(message: Option<&str>, state: &State, next: &Next, now: SystemTime) -> String {
    let mut text = String::new();
    if let Some(message) = message {
        text = format!("{message}\n\n");
    }
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<14}{:<11}{:<22}{:<22}{:<10}",
        "ROOT", "PHASE", "SINCE", "VALID UNTIL", "KEY"
    );
    for root in &state.roots {
        let (until, key) = (valid_until(root), key(root));
        let (id, phase, since) = (&root.id, root.phase.name(), rfc3339(since(root)));
        let _ = writeln!(text, "{id:<14}{phase:<11}{since:<22}{until:<22}{key:<10}");
    }
    let safe = match next.safe_at.duration_since(now) {
        Ok(left) if !left.is_zero() => format!(
            "safe from {} on (in {} s)",
            rfc3339(next.safe_at),
            left.as_secs().saturating_add(1)
        ),
        _ => "safe now".to_owned(),
    };
    let _ = writeln!(text, "\nbundle sequence {}", state.sequence);
    let _ = writeln!(text, "next: {}   {safe}\n      {}", next.command, next.why);
    text
}

fn status(
    authorities: &Authorities,
    state: &State,
    next: &Next,
    outcome: Option<(&str, bool)>,
) -> Value {
    let date = |seconds: Option<u64>| seconds.map(|seconds| rfc3339(time(seconds)));
    let roots: Vec<Value> = state
        .roots
        .iter()
        .map(|root| {
            json!({
                "id": root.id,
                "phase": root.phase.name(),
                "inBundle": root.phase.is_published(),
                "key": key(root),
                "validUntil": valid_until(root),
                "preparedAt": date(Some(root.prepared_at)),
                "activatedAt": date(root.activated_at),
                "replacedAt": date(root.replaced_at),
                "taintedAt": date(root.tainted_at),
                "leftAt": date(root.left_at),
            })
        })
        .collect();
    json!({
        "trustDomain": authorities.trust_domain().as_str(),
        "sequence": state.sequence,
        "message": outcome.map(|(message, _)| message),
        "changed": outcome.map(|(_, changed)| changed),
        "roots": roots,
        "intermediate": state.current().map(|current| json!({"id": current.id, "root": current.root})),
        "next": {"command": next.command, "safeAt": rfc3339(next.safe_at), "why": next.why},
    })
}

fn key(root: &RootRecord) -> &'static str {
    match (&root.key, root.phase.is_published()) {
        (Some(_), _) => "here",
        (None, true) => "elsewhere",
        (None, false) => "gone",
    }
}

fn since(root: &RootRecord) -> SystemTime {
    let latest = [
        root.left_at,
        root.tainted_at,
        root.replaced_at,
        root.activated_at,
    ];
    let latest = latest.into_iter().flatten().next();
    time(latest.unwrap_or(root.prepared_at))
}

fn valid_until(root: &RootRecord) -> String {
    root.not_after().map(rfc3339).unwrap_or_default()
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}
