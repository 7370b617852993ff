//! What a caller is told when its call is not forwarded: one line it can act on, as RFC 9457 problem details.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Leads from an answer to its line in the decision log.
pub(crate) const DECISION_ID_HEADER: &str = "countersign-decision-id";

const MEDIA_TYPE: &str = "application/problem+json";

/// An answer that the sidecar gives in the application's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// A stable kebab-case word for programs: `no-rule-matched`, `expired-token`, `bad-request`, …
    pub(crate) reason: &'static str,
    /// One line for people.
    pub(crate) detail: String,
    pub(crate) decision: Option<Box<DecisionRef>>,
    /// The value of `www-authenticate` (RFC 6750 §3).
    pub(crate) challenge: Option<String>,
}

/// The decision behind a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecisionRef {
    pub(crate) id: String,
    /// `namespace/name` of the policy and the rule that decided, where the caller may know them.
    pub(crate) rule: Option<(String, String)>,
}

/// RFC 9457 §3.1, and extension members (§3.2).
#[derive(Serialize)]
struct Details<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

/// Whether the connection can be used after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The request was read to its end.
    KeepAlive,
    /// Part of the request is still to come, or its framing cannot be trusted.
    Close,
}

impl Problem {
    /// A problem that no decision stands behind.
    pub(crate) fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            detail: detail.into(),
            decision: None,
            challenge: None,
        }
    }

    /// 503: nobody there to take the call.
    pub(crate) fn unavailable(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, detail)
    }

    fn body(&self) -> Vec<u8> {
        let kind = match self.status {
            StatusCode::FORBIDDEN => "denied",
            StatusCode::UNAUTHORIZED => "invalid-token",
            _ => self.reason,
        };
        let rule = self
            .decision
            .as_ref()
            .and_then(|decision| decision.rule.as_ref());
        let details = Details {
            r#type: format!("https://countersign.dev/problems/{kind}"),
            title: self.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            reason: self.reason,
            decision_id: self.decision.as_ref().map(|decision| decision.id.as_str()),
            policy: rule.map(|(policy, _)| policy.as_str()),
            rule: rule.map(|(_, rule)| rule.as_str()),
        };
        // Strings and numbers only: serialising them cannot fail.
        serde_json::to_vec(&details).unwrap_or_default()
    }

    fn title(&self) -> &'static str {
        match self.status {
            StatusCode::FORBIDDEN => "The call is not allowed",
            StatusCode::UNAUTHORIZED => "The call's token is not valid",
            StatusCode::SERVICE_UNAVAILABLE => "The service cannot be reached",
            StatusCode::BAD_GATEWAY => "The service's answer cannot be forwarded",
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "The call took too long",
            _ => "The request cannot be forwarded",
        }
    }

    /// The whole HTTP/1.1 response; without its content if it answers a `HEAD`.
    fn to_http1(&self, head_only: bool, after: After) -> BytesMut {
        let body = self.body();
        let mut out = BytesMut::with_capacity(256 + body.len());
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(self.status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(self.status.canonical_reason().unwrap_or("Error").as_bytes());
        out.put_slice(b"\r\ncontent-type: ");
        out.put_slice(MEDIA_TYPE.as_bytes());
        out.put_slice(b"\r\ncontent-length: ");
        out.put_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        if let Some(decision) = &self.decision {
            out.put_slice(format!("\r\n{DECISION_ID_HEADER}: {}", decision.id).as_bytes());
        }
        if let Some(challenge) = &self.challenge {
            out.put_slice(b"\r\nwww-authenticate: ");
            out.put_slice(challenge.as_bytes());
        }
        if after == After::Close {
            out.put_slice(b"\r\nconnection: close");
        }
        out.put_slice(b"\r\n\r\n");
        if !head_only {
            out.put_slice(&body);
        }
        out
    }

    /// Writes the HTTP/1.1 response; true if the connection can carry another call.
    pub(crate) async fn write_http1<W: AsyncWrite + Unpin>(
        &self,
        to: &mut W,
        head_only: bool,
        after: After,
    ) -> bool {
        let out = self.to_http1(head_only, after);
        let sent = async {
            to.write_all(&out).await?;
            to.flush().await?;
            match after {
                After::KeepAlive => Ok(()),
                After::Close => to.shutdown().await,
            }
        };
        // Whoever went away before the answer misses nothing.
        sent.await.is_ok() && after == After::KeepAlive
    }

    /// The HTTP/2 response and its content. A gRPC call gets a trailers-only response with a gRPC status instead
    /// (gRPC over HTTP/2, "Responses").
    pub(crate) fn to_http2(&self, grpc: bool) -> (Response<()>, Option<Bytes>) {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        if let Some(decision) = &self.decision
            && let Ok(id) = HeaderValue::try_from(decision.id.as_str())
        {
            headers.insert(DECISION_ID_HEADER, id);
        }
        if let Some(challenge) = &self.challenge
            && let Ok(challenge) = HeaderValue::try_from(challenge.as_str())
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if grpc {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/grpc"),
            );
            headers.insert("grpc-status", HeaderValue::from_static(self.grpc_status()));
            if let Ok(message) = HeaderValue::try_from(grpc_message(&self.detail)) {
                headers.insert("grpc-message", message);
            }
            return (response, None);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        *response.status_mut() = self.status;
        (response, Some(self.body().into()))
    }

    /// gRPC's mapping of HTTP statuses ("HTTP to gRPC Status Code Mapping"), as its decimal code.
    fn grpc_status(&self) -> &'static str {
        match self.status {
            StatusCode::FORBIDDEN => "7",
            StatusCode::UNAUTHORIZED => "16",
            StatusCode::BAD_REQUEST => "13",
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => "14",
            _ => "2",
        }
    }
}

/// A request that cannot be read or passed on for its form.
pub(crate) fn malformed(status: u16, error: &dyn std::fmt::Display) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = match status {
        StatusCode::REQUEST_TIMEOUT => "request-timeout",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "headers-too-large",
        _ => "bad-request",
    };
    Problem::new(status, reason, error.to_string())
}

/// Percent-encodes what `grpc-message` may not carry (gRPC over HTTP/2, "Percent-Encoded").
fn grpc_message(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b'%' | ..=0x1f | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
                printable => out.push(char::from(printable)),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Problem {
        Problem {
            status: StatusCode::FORBIDDEN,
            reason: "no-rule-matched",
            detail: "no rule allows GET /orders".to_owned(),
            decision: Some(Box::new(DecisionRef {
                id: "d1".to_owned(),
                rule: Some(("shop/orders".to_owned(), "web reads".to_owned())),
            })),
            challenge: None,
        }
    }

    #[test]
    fn an_http1_denial_is_a_problem_document_that_leads_to_the_log() {
        let out = denied().to_http1(false, After::KeepAlive);
        let text = std::str::from_utf8(&out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(head.contains("content-type: application/problem+json"));
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(!head.contains("connection"));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "https://countersign.dev/problems/denied",
                "title": "The call is not allowed",
                "status": 403,
                "detail": "no rule allows GET /orders",
                "reason": "no-rule-matched",
                "decision_id": "d1",
                "policy": "shop/orders",
                "rule": "web reads",
            })
        );
    }

    #[test]
    fn head_gets_no_content_and_a_broken_request_closes() {
        let out = denied().to_http1(true, After::Close);
        let text = std::str::from_utf8(&out).unwrap();
        assert!(text.ends_with("\r\nconnection: close\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_grpc_denial_is_trailers_only() {
        let (response, content) = denied().to_http2(true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(
            response.headers()["grpc-message"],
            "no rule allows GET /orders"
        );
        assert!(content.is_none());
    }

    #[test]
    fn grpc_messages_are_percent_encoded() {
        assert_eq!(grpc_message("50% größer\n"), "50%25 gr%C3%B6%C3%9Fer%0A");
    }
}
