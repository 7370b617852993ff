//! `countersign-ca root`: replaces the root, step by step.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use countersign_identity::TrustDomain;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::authority::state::{Root as RootRecord, State, time};
use crate::authority::step::{Next, Outcome, StepError};
use crate::authority::{read_chain, replicas};
use crate::ceremony_command::{Opened, read_file};
use crate::config::Config;
use crate::log::in_use::{InUse, in_use};
use crate::store::authority_state::Replica;
use crate::{Failure, runtime, store};

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
    let config = Config::read(&arguments.config)?;
    let now = SystemTime::now();
    let certificate = match &arguments.step {
        Step::Prepare {
            certificate: Some(path),
        } => Some(read_chain(&read_file(path)?)?.0),
        _ => None,
    };
    let text = runtime()?.block_on(async {
        let opened = Opened::new(&config).await?;
        let done = take(arguments, &opened, certificate, now).await;
        opened.close().await;
        done
    })?;
    write!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Takes the step; what there is to say then.
async fn take(
    arguments: &Root,
    opened: &Opened<'_>,
    certificate: Option<CertificateDer<'static>>,
    now: SystemTime,
) -> Result<String, Failure> {
    let authorities = &opened.authorities;
    if let Step::Revoke { root, force: false } = &arguments.step {
        refuse_in_use(opened, root.as_deref(), now).await?;
    }
    let outcome = match &arguments.step {
        Step::Prepare { .. } => Some(authorities.prepare(certificate, now).await?),
        Step::Activate { force } => Some(authorities.activate(*force, now).await?),
        Step::Taint { root } => Some(authorities.taint(root.as_deref(), now).await?),
        Step::Revoke { root, force } => {
            Some(authorities.revoke(root.as_deref(), *force, now).await?)
        }
        Step::Abandon => Some(authorities.abandon(now).await?),
        Step::Status => None,
    };
    let shown = Shown {
        trust_domain: authorities.trust_domain(),
        state: authorities.state().await?,
        replicas: match &opened.shared {
            Some(store) => Some(replicas::all(store).await?),
            None => None,
        },
        outcome,
        now,
    };
    let next = authorities.next(&shown.state);
    Ok(match arguments.output {
        Output::Text => shown.text(&next),
        Output::Json => format!("{:#}\n", shown.json(&next)),
    })
}

/// A root stays while the log shows that what it signed is in use. The lifetimes that are configured say so too, but they may
/// have been longer.
async fn refuse_in_use(
    opened: &Opened<'_>,
    root: Option<&str>,
    now: SystemTime,
) -> Result<(), Failure> {
    let Some(signed) = opened.authorities.signed_by_revocable(root).await? else {
        return Ok(());
    };
    let store = opened.store().await?;
    let is_of = |issuer: Option<&str>| issuer.is_none_or(|it| signed.intermediates.contains(it));
    let until = signed.until.unwrap_or(now);
    let found = in_use(&store, until, is_of, now).await?;
    match found {
        None => Ok(()),
        Some(InUse { count, last }) => {
            let root = signed.root;
            Err(StepError::InUse { root, count, last }.into())
        }
    }
}

/// How things stand.
struct Shown<'a> {
    trust_domain: &'a TrustDomain,
    state: State,
    /// None without a database that is shared.
    replicas: Option<Vec<Replica>>,
    /// Of a step.
    outcome: Option<Outcome>,
    now: SystemTime,
}

impl Shown<'_> {
    fn text(&self, next: &Next) -> String {
        let mut text = String::new();
        if let Some(outcome) = &self.outcome {
            text = format!("{}\n\n", outcome.message);
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<14}{:<11}{:<22}{:<22}{:<10}",
            "ROOT", "PHASE", "SINCE", "VALID UNTIL", "KEY"
        );
        for root in &self.state.roots {
            let (until, key) = (valid_until(root), key(root));
            let (id, phase, since) = (&root.id, root.phase.name(), rfc3339(since(root)));
            let _ = writeln!(text, "{id:<14}{phase:<11}{since:<22}{until:<22}{key:<10}");
        }
        if let Some(replicas) = &self.replicas {
            let _ = writeln!(
                text,
                "\n{:<36}{:<22}{:<14}{:<10}",
                "REPLICA", "SEEN", "INTERMEDIATE", "BUNDLE"
            );
            for replica in replicas {
                let (name, seen) = (&replica.name, rfc3339(store::time(replica.seen_at)));
                let (intermediate, bundle) = (&replica.intermediate, self.bundle_of(replica));
                let _ = writeln!(text, "{name:<36}{seen:<22}{intermediate:<14}{bundle:<10}");
            }
        }
        let safe = match next.safe_at.duration_since(self.now) {
            Ok(left) if !left.is_zero() => format!(
                "safe from {} on (in {} s)",
                rfc3339(next.safe_at),
                left.as_secs().saturating_add(1)
            ),
            _ => "safe now".to_owned(),
        };
        let _ = writeln!(text, "\nbundle sequence {}", self.state.sequence);
        let _ = writeln!(text, "next: {}   {safe}\n      {}", next.command, next.why);
        text
    }

    fn bundle_of(&self, replica: &Replica) -> &'static str {
        if !replica.is_there(self.now) {
            "silent"
        } else if replica.has(self.state.sequence) {
            "current"
        } else {
            "behind"
        }
    }

    fn json(&self, next: &Next) -> Value {
        let date = |seconds: Option<u64>| seconds.map(|seconds| rfc3339(time(seconds)));
        let roots: Vec<Value> = self
            .state
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
        let replica = |replica: &Replica| {
            json!({
                "name": replica.name,
                "seenAt": rfc3339(store::time(replica.seen_at)),
                "intermediate": replica.intermediate,
                "sequence": replica.sequence,
                "bundle": self.bundle_of(replica),
            })
        };
        let replicas = self.replicas.as_ref();
        let replicas =
            replicas.map(|replicas| replicas.iter().map(replica).collect::<Vec<Value>>());
        let outcome = self.outcome.as_ref();
        let current = self.state.current();
        json!({
            "trustDomain": self.trust_domain.as_str(),
            "sequence": self.state.sequence,
            "message": outcome.map(|outcome| &outcome.message),
            "changed": outcome.map(|outcome| outcome.changed),
            "roots": roots,
            "intermediate": current.map(|current| json!({"id": current.id, "root": current.root})),
            "replicas": replicas,
            "next": {"command": next.command, "safeAt": rfc3339(next.safe_at), "why": next.why},
        })
    }
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
