//! Policy follows a branch: a commit changes the answer, and a broken one changes nothing.

use std::{
    io,
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{StepError, Story};
use crate::{
    account::{Account, Seen, Step},
    decisions::short,
    wait,
};

/// How soon the answer must change.
const SOON: Duration = Duration::from_secs(1);

impl Story<'_> {
    pub(super) async fn a_change_of_policy(
        &self,
        account: &mut Account<io::Stdout>,
    ) -> io::Result<()> {
        let step = Step {
            title: "A commit allows to cancel; nothing is restarted",
            tried: "git commit, then DELETE /orders/1 by web until the answer changes".to_owned(),
            expected: "200 within a second of the commit",
        };
        account.step(step, self.good_commit()).await?;

        let step = Step {
            title: "A commit with a mistake in it",
            tried: "git commit of a policy that does not compile, then GET /orders/2".to_owned(),
            expected: "nothing changes, and the control plane says why",
        };
        account.step(step, self.broken_commit()).await
    }

    async fn good_commit(&self) -> Result<Seen, StepError> {
        let before = self.decisions.mark()?;
        let commit = self.mesh.policy.change(
            "orders.yaml",
            "methods: [GET]",
            "methods: [GET, DELETE]",
            "Let buyers cancel their orders",
        )?;
        let committed = Instant::now();
        let changed = wait::until(Duration::from_secs(10), async || {
            let cancel = self
                .ask_by("web", Method::DELETE, "/orders/1", Some(&self.alice))
                .await;
            match cancel {
                Ok(answer) if answer.status == StatusCode::FORBIDDEN => None,
                other => Some(other),
            }
        })
        .await;
        let took = committed.elapsed();
        let answer = match changed {
            Ok(answer) => answer?,
            Err(source) => {
                let what = format!("still denied after commit {}", short(&commit));
                return Err(StepError::Waited { what, source });
            }
        };
        let what = "of web at orders by the new commit";
        let decision = self
            .decisions
            .after(&before, what, |d| {
                d.allowed() && d.revision.as_deref() == Some(&*commit)
            })
            .await?;
        Ok(Seen::new(format!(
            "{}, {} ms after the commit",
            answer.status,
            took.as_millis()
        ))
        .fact("allowed", decision.origin())
        .check(answer.status == StatusCode::OK, "expected 200")
        .check(
            took < SOON,
            format_args!("expected it within {} s", SOON.as_secs()),
        ))
    }

    async fn broken_commit(&self) -> Result<Seen, StepError> {
        let good = self.mesh.status().await.as_ref().and_then(revision);
        let broken = self.mesh.policy.change(
            "orders.yaml",
            "action: allow",
            "action: alow",
            "Allow what is allowed already, with a slip of the pen",
        )?;
        let rejected = wait::until(Duration::from_secs(10), async || {
            let status = self.mesh.status().await?;
            let rejected = status.pointer("/policy/rejected")?.clone();
            let of = rejected.get("revision").and_then(Value::as_str);
            (of == Some(broken.as_str())).then_some((status, rejected))
        })
        .await;
        let (status, rejected) = rejected.map_err(|source| {
            let what = format!(
                "the control plane does not report commit {}",
                short(&broken)
            );
            StepError::Waited { what, source }
        })?;
        let errors: Vec<&str> = rejected
            .get("errors")
            .and_then(Value::as_array)
            .map(|errors| errors.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();

        // Order 1 is cancelled by now; that it is not there is an answer of the application.
        let order = self
            .ask_by("web", Method::POST, "/orders", Some(&self.alice))
            .await?;
        let look = self
            .ask_by("web", Method::GET, "/orders/2", Some(&self.alice))
            .await?;
        let in_force = revision(&status);
        let shown = in_force.as_deref().map_or("none", short);
        Ok(Seen::new(format!(
            "{}; in force: {shown}; rejected: {}",
            look.status,
            short(&broken)
        ))
        .fact("reported", errors.join("\n"))
        .check(
            order.status == StatusCode::CREATED,
            "alice cannot order any more",
        )
        .check(
            look.status == StatusCode::OK,
            "alice cannot look at her order any more",
        )
        .check(
            good.is_some() && in_force == good,
            "another revision is in force than before",
        )
        .check(
            errors.iter().any(|error| error.contains("orders.yaml:")),
            "no reported mistake names the file and line",
        ))
    }
}

fn revision(status: &Value) -> Option<String> {
    status
        .pointer("/policy/revision")?
        .as_str()
        .map(str::to_owned)
}
