//! Callers that cannot prove an identity of the mesh never get as far as a decision.

use std::io;

use rustls::AlertDescription;

use super::{StepError, Story};
use crate::{
    account::{Account, Seen, Step},
    stranger::{End, call_in_plain_text, call_over_tls, forge, nobody},
};

impl Story<'_> {
    pub(super) async fn strangers(&self, account: &mut Account<io::Stdout>) -> io::Result<()> {
        let step = Step {
            title: "A caller that speaks plain HTTP to the mutual-TLS port of orders",
            tried: "GET /orders/1, not encrypted".to_owned(),
            expected: "the connection is closed without an HTTP answer",
        };
        let plain = async {
            let orders = self.mesh.addresses.workload("orders")?;
            Ok::<_, StepError>(match call_in_plain_text(orders.wire).await? {
                End::Answered(answer) => {
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    Seen::new(format!("{answer:?}")).check(false, "it was answered")
                }
                _ => Seen::new("closed"),
            })
        };
        account.step(step, plain).await?;

        let step = Step {
            title: "A caller that speaks TLS, and has no certificate",
            tried: "GET /orders/1 over TLS 1.3; the sidecar has proved to be orders".to_owned(),
            expected: "refused at the handshake",
        };
        let anonymous = async {
            let orders = self.mesh.addresses.workload("orders")?;
            let nobody = nobody(&self.mesh.addresses)?;
            let end = call_over_tls(&nobody, orders.wire, &orders.spiffe_id).await?;
            Ok::<_, StepError>(refused(&end, &[AlertDescription::CertificateRequired]))
        };
        account.step(step, anonymous).await?;

        let step = Step {
            title: "A forger, with web's very name in a certificate of another CA",
            tried: "the same, as spiffe://shop.example/ns/shop/sa/web by a CA of its own"
                .to_owned(),
            expected: "refused at the handshake",
        };
        let forged = async {
            let orders = self.mesh.addresses.workload("orders")?;
            let web = self.mesh.addresses.workload("web")?;
            let forger = forge(&self.mesh.addresses, &web.spiffe_id)?;
            let end = call_over_tls(&forger, orders.wire, &orders.spiffe_id).await?;
            let alerts = [
                AlertDescription::UnknownCA,
                AlertDescription::BadCertificate,
                AlertDescription::DecryptError,
            ];
            Ok::<_, StepError>(refused(&end, &alerts))
        };
        account.step(step, forged).await
    }
}

/// Refused by TLS itself, with one of these alerts.
fn refused(end: &End, alerts: &[AlertDescription]) -> Seen {
    match end {
        End::Alert(alert) => Seen::new(format!("TLS alert {alert:?}")).check(
            alerts.contains(alert),
            format_args!("expected one of {alerts:?}"),
        ),
        End::Closed => Seen::new("closed").check(false, "expected a TLS alert that says why"),
        End::Answered(answer) => Seen::new(format!("{:?}", String::from_utf8_lossy(answer)))
            .check(false, "it was answered"),
    }
}
