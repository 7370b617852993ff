//! The steps of the demo, in the order in which they are shown.

mod calls;
mod change;
mod strangers;

use std::io;

use hyper::{Method, StatusCode, header};

use crate::{
    DemoError,
    account::{Account, Seen},
    decisions::{Decisions, FindError},
    http::{Answer, Ask, AskError, ask},
    mesh::{Mesh, MeshError},
    stranger::StrangerError,
};

/// What a customer sends to have an order.
const KETTLE: &str = r#"{"item": "kettle", "cents": 2900}"#;

/// Why a step could not be done at all.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    #[error(transparent)]
    Stranger(#[from] StrangerError),
    #[error("payments cannot be called")]
    Grpc(#[from] tonic::transport::Error),
    #[error("{what}")]
    Waited {
        what: String,
        source: crate::wait::TimedOut,
    },
}

/// What the steps work with.
struct Story<'a> {
    mesh: &'a Mesh,
    decisions: Decisions,
    alice: String,
}

/// Goes through all steps.
pub(crate) async fn all(mesh: &Mesh, account: &mut Account<io::Stdout>) -> Result<(), DemoError> {
    let decisions = Decisions::of(&mesh.state);
    let story = Story {
        mesh,
        decisions,
        alice: mesh.token(&["alice"]).await?,
    };
    account.section("What is allowed")?;
    story.an_order(account).await?;
    account.section("Who is calling")?;
    story.the_wrong_workload(account).await?;
    account.section("On whose behalf")?;
    story.the_wrong_token(account).await?;
    account.section("What it is about")?;
    story.the_wrong_method(account).await?;
    account.section("Policy is a branch in git")?;
    story.a_change_of_policy(account).await?;
    account.section("Strangers")?;
    story.strangers(account).await?;
    Ok(())
}

impl Story<'_> {
    /// Sends a request to the front of `workload`, which passes it on to orders through its sidecar.
    async fn ask_by(
        &self,
        workload: &str,
        method: Method,
        path: &str,
        token: Option<&str>,
    ) -> Result<Answer, StepError> {
        let to = self.mesh.addresses.workload(workload)?.address()?;
        let body = if method == Method::POST { KETTLE } else { "" };
        Ok(ask(
            to,
            Ask {
                method,
                path,
                token,
                body,
            },
        )
        .await?)
    }

    /// What there is to see of a denial: its problem document, and the line of the decision log that it leads to.
    async fn denied(
        &self,
        answer: &Answer,
        status: StatusCode,
        reason: &str,
    ) -> Result<Seen, StepError> {
        let document = answer.json();
        let text = |key: &str| document.get(key).and_then(|value| value.as_str());
        let got = text("reason").unwrap_or("no reason");
        let mut seen = Seen::new(format!("{}, {got}", answer.status))
            .check(answer.status == status, format_args!("expected {status}"))
            .check(got == reason, format_args!("expected the reason {reason}"))
            .check(
                answer.header(header::CONTENT_TYPE) == "application/problem+json",
                "the answer is not a problem document (RFC 9457)",
            );
        if let Some(detail) = text("detail") {
            seen = seen.fact("because", in_lines(detail));
        }
        let challenge = answer.header(header::WWW_AUTHENTICATE);
        if !challenge.is_empty() {
            seen = seen.fact("asks for", challenge);
        }
        let Some(id) = text("decision_id") else {
            return Ok(seen.check(false, "the document names no decision"));
        };
        let decision = self.decisions.by_id(id).await?;
        Ok(seen
            .fact("decision", format_args!("{id}, {}", decision.origin()))
            .check(
                !decision.allowed(),
                "the decision log says that it was allowed",
            )
            .check(
                decision.reason_class == reason,
                "the decision log has another reason",
            ))
    }
}

/// A reason, with the rule that came closest on a line of its own.
fn in_lines(reason: &str) -> String {
    reason.replacen("; closest is ", "\nclosest is ", 1)
}
