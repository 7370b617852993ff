//! Calls within the mesh: the allowed one, hop by hop, and those that lack one proof or another.

use std::io;

use countersign_example_shop::payments_api::{ChargeRequest, payments_client::PaymentsClient};
use hyper::{Method, StatusCode, Uri, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, transport::Endpoint};

use super::{StepError, Story, in_lines};
use crate::{
    DemoError,
    account::{Account, Seen, Step},
};

type Out = Account<io::Stdout>;

impl Story<'_> {
    /// One order, and what each of its three hops was judged by.
    pub(super) async fn an_order(&self, account: &mut Out) -> Result<(), DemoError> {
        let step = Step {
            title: "Alice orders a kettle: web calls orders",
            tried: "POST /orders, with alice's token".to_owned(),
            expected: "201, and a rule that allows it",
        };
        let before = self.decisions.mark()?;
        let order = async {
            let answer = self
                .ask_by("web", Method::POST, "/orders", Some(&self.alice))
                .await?;
            let seen = Seen::new(format!(
                "{}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body).trim_end()
            ))
            .check(answer.status == StatusCode::CREATED, "expected 201");
            let what = "of web at orders";
            let decision = self
                .decisions
                .after(&before, what, |d| {
                    d.destination == "shop/orders" && d.allowed()
                })
                .await?;
            Ok::<_, StepError>(seen.fact("allowed", decision.origin()))
        };
        account.step(step, order).await?;

        for (title, to, protocol) in [
            (
                "On the way, orders has charged payments over gRPC",
                "shop/payments",
                "grpc",
            ),
            (
                "… and written to the store, a protocol of its own over TCP",
                "shop/store",
                "tcp",
            ),
        ] {
            let step = Step {
                title,
                tried: format!("part of the same order, from orders to {to}"),
                expected: "a judged call of its own, by another rule",
            };
            let hop = async {
                let what = format!("of orders at {to}");
                let decision = self
                    .decisions
                    .after(&before, &what, |d| d.destination == to)
                    .await?;
                Ok::<_, StepError>(
                    Seen::new(decision.to_string())
                        .fact("allowed", decision.origin())
                        .check(decision.allowed(), "it was denied")
                        .check(
                            decision.protocol == protocol,
                            format_args!("expected it to be judged as {protocol}"),
                        ),
                )
            };
            account.step(step, hop).await?;
        }

        let step = Step {
            title: "Alice looks at her order",
            tried: "GET /orders/1, with alice's token".to_owned(),
            expected: "200, and the order from the store",
        };
        let look = async {
            let answer = self
                .ask_by("web", Method::GET, "/orders/1", Some(&self.alice))
                .await?;
            let item = answer.json().get("item").cloned();
            let body = String::from_utf8_lossy(&answer.body).trim_end().to_owned();
            Ok::<_, StepError>(
                Seen::new(format!("{}: {body}", answer.status))
                    .check(answer.status == StatusCode::OK, "expected 200")
                    .check(item == Some("kettle".into()), "expected the kettle"),
            )
        };
        Ok(account.step(step, look).await?)
    }

    /// The same program, the same request, the same token, but another identity.
    pub(super) async fn the_wrong_workload(&self, account: &mut Out) -> io::Result<()> {
        let step = Step {
            title: "An intruder in the mesh sends the very same order, with alice's token",
            tried: "POST /orders, by spiffe://…/ns/guest/sa/intruder".to_owned(),
            expected: "403: whoever has the token, that is not web",
        };
        let http = async {
            let answer = self
                .ask_by("intruder", Method::POST, "/orders", Some(&self.alice))
                .await?;
            let seen = self
                .denied(&answer, StatusCode::FORBIDDEN, "no-rule-matched")
                .await?;
            let document = serde_json::to_string_pretty(&answer.json()).unwrap_or_default();
            Ok::<_, StepError>(seen.fact("document", document))
        };
        account.step(step, http).await?;

        let step = Step {
            title: "The intruder calls payments over gRPC",
            tried: "shop.payments.v1.Payments/Charge".to_owned(),
            expected: "the gRPC status PERMISSION_DENIED",
        };
        account.step(step, self.charge_by_intruder()).await?;

        let step = Step {
            title: "The intruder opens a connection to the store",
            tried: "GET 1, in the store's own protocol".to_owned(),
            expected: "no answer: the connection is reset",
        };
        account.step(step, self.read_store_by_intruder()).await
    }

    async fn charge_by_intruder(&self) -> Result<Seen, StepError> {
        let before = self.decisions.mark()?;
        let intruder = self.mesh.addresses.workload("intruder")?;
        let to = intruder.outbound("payments.shop:9090")?;
        let channel = Endpoint::from_shared(format!("http://{to}"))?
            .origin(Uri::from_static("http://payments.shop:9090"))
            .connect()
            .await?;
        let charge = ChargeRequest {
            order_id: "1".to_owned(),
            cents: 1,
        };
        let seen = match PaymentsClient::new(channel).charge(charge).await {
            Ok(_) => return Ok(Seen::new("OK").check(false, "the intruder has charged somebody")),
            Err(status) => Seen::new(format!("{:?}", status.code()))
                .fact("because", in_lines(status.message()))
                .check(
                    status.code() == Code::PermissionDenied,
                    "expected PERMISSION_DENIED",
                ),
        };
        let what = "of the intruder at payments";
        let decision = self
            .decisions
            .after(&before, what, |d| d.destination == "shop/payments")
            .await?;
        Ok(seen
            .fact(
                "decision",
                format_args!("{}, {}", decision.decision_id, decision.origin()),
            )
            .check(
                !decision.allowed(),
                "the decision log says that it was allowed",
            ))
    }

    async fn read_store_by_intruder(&self) -> Result<Seen, StepError> {
        let before = self.decisions.mark()?;
        let intruder = self.mesh.addresses.workload("intruder")?;
        let store = intruder.outbound("store.shop:7070")?;
        let mut answer = Vec::new();
        // The sidecar need not wait for a word to deny: the reset may come at any moment, that of connecting included.
        let ended = async {
            let mut stream = TcpStream::connect(store).await?;
            stream.write_all(b"GET 1\n").await?;
            stream.read_to_end(&mut answer).await
        }
        .await;
        let got = match ended {
            Err(error) => error.to_string(),
            Ok(_) if answer.is_empty() => "connection closed without an answer".to_owned(),
            Ok(_) => format!("{:?}", String::from_utf8_lossy(&answer)),
        };
        let reset = got.to_lowercase().contains("reset");
        let what = "of the intruder at the store";
        let decision = self
            .decisions
            .after(&before, what, |d| d.destination == "shop/store")
            .await?;
        Ok(Seen::new(got)
            .fact("because", in_lines(&decision.reason))
            .fact(
                "decision",
                format_args!("{}, {}", decision.decision_id, decision.origin()),
            )
            .check(answer.is_empty(), "the store has answered")
            .check(
                reset,
                "expected a reset, which no program takes for the end of an answer",
            )
            .check(
                !decision.allowed(),
                "the decision log says that it was allowed",
            ))
    }

    /// web itself, but without a customer who may have an order.
    pub(super) async fn the_wrong_token(&self, account: &mut Out) -> io::Result<()> {
        let unauthorized = StatusCode::UNAUTHORIZED;
        for (title, minted, tried, expected, status, reason) in [
            (
                "Nobody has signed in",
                None,
                "no token",
                "403: the rule asks for a signed-in buyer",
                StatusCode::FORBIDDEN,
                "no-rule-matched",
            ),
            (
                "Bob has signed in, but is no buyer",
                Some(vec!["bob"]),
                "bob's token",
                "403: the rule asks for the group buyer",
                StatusCode::FORBIDDEN,
                "no-rule-matched",
            ),
            (
                "Alice signed in too long ago",
                Some(vec!["alice", "--ttl", "-1h"]),
                "a token of alice that expired an hour ago",
                "401: expired",
                unauthorized,
                "token-expired",
            ),
            (
                "Alice has signed in, but to another service",
                Some(vec!["alice", "--audience", "bank"]),
                "a token of alice for the audience bank",
                "401: not for us",
                unauthorized,
                "token-wrong-audience",
            ),
        ] {
            let step = Step {
                title,
                tried: format!("POST /orders by web, with {tried}"),
                expected,
            };
            let call = async {
                let token = match minted {
                    Some(arguments) => Some(self.mesh.token(&arguments).await?),
                    None => None,
                };
                let answer = self
                    .ask_by("web", Method::POST, "/orders", token.as_deref())
                    .await?;
                let challenged = answer
                    .header(header::WWW_AUTHENTICATE)
                    .starts_with("Bearer ");
                let seen = self.denied(&answer, status, reason).await?;
                Ok::<_, StepError>(seen.check(
                    challenged == (status == unauthorized),
                    "a 401, and only that, has a challenge (RFC 9110, section 11.6.1)",
                ))
            };
            account.step(step, call).await?;
        }
        Ok(())
    }

    /// The right caller on behalf of the right customer, but for something else.
    pub(super) async fn the_wrong_method(&self, account: &mut Out) -> io::Result<()> {
        let step = Step {
            title: "Alice cancels her order, which the program could do and no rule allows",
            tried: "DELETE /orders/1 by web, with alice's token".to_owned(),
            expected: "403: no rule has the method",
        };
        let cancel = async {
            let answer = self
                .ask_by("web", Method::DELETE, "/orders/1", Some(&self.alice))
                .await?;
            self.denied(&answer, StatusCode::FORBIDDEN, "no-rule-matched")
                .await
        };
        account.step(step, cancel).await
    }
}
