//! What holds for any text whatever, as functions: tests call them with examples and with random texts, the fuzzer with
//! what it finds. Built for these only. [`crate::istio::laws`] has those of Istio's documents.

#![expect(clippy::panic, reason = "a broken law ends the test")]

use std::time::UNIX_EPOCH;

use countersign_identity::TrustDomain;

use crate::call::{Call, Request, Workload};
use crate::condition::{Expression, Facts};
use crate::document::AmbiguousPaths;
use crate::normal_path::normal_path;
use crate::pattern::PathPattern;
use crate::readings::Readings;
use crate::{Diagnostics, Policy, document};

/// Any text is policy that compiles and judges calls, or is refused with places in the text.
pub fn any_policy(text: &str) {
    let files = [("text".to_owned(), text.to_owned())];
    let Ok(domain) = TrustDomain::parse("shop.example") else {
        return;
    };
    let compiled =
        document::parse(files).and_then(|documents| Policy::compile("r1", &domain, documents));
    match compiled {
        Err(mistakes) => check_places(text, &mistakes),
        Ok(policy) => judge(&policy),
    }
}

/// Every mistake has a place in the text, and is told in one line.
pub(crate) fn check_places(text: &str, mistakes: &Diagnostics) {
    let lines = text.split(['\n', '\r']).count();
    for mistake in mistakes.iter() {
        let placed = (1..=lines).contains(&mistake.line) && mistake.column > 0;
        if !placed || mistake.message.contains('\n') {
            panic!("no place, or several lines: {mistake}");
        }
    }
}

fn judge(policy: &Policy) {
    let workload = Workload {
        namespace: "shop".to_owned(),
        ..Workload::default()
    };
    let policy = policy.for_workload(&workload);
    let peer = "spiffe://shop.example/ns/shop/sa/web".parse().ok();
    for request in [None, Some("/orders/1")] {
        let call = Call {
            peer: peer.as_ref(),
            source_ip: Some([10, 0, 0, 7].into()),
            destination_ip: None,
            port: 8080,
            sni: None,
            request: request.map(|path| Request {
                method: "GET",
                host: "orders.shop",
                path,
                headers: &(),
            }),
            subjects: &[],
            intent: None,
            time: UNIX_EPOCH,
        };
        let reason = policy.decide(&call).reason.to_string();
        if reason.is_empty() || reason.contains('\n') {
            panic!("a reason is one line: {reason:?}");
        }
    }
}

/// A path is refused, or has a normal form that is its own normal form, and readings. A pattern that the path is as
/// well matches it as it is read.
pub fn any_path(text: &str) {
    for ambiguous in [AmbiguousPaths::Refuse, AmbiguousPaths::Accept] {
        let Ok(normal) = normal_path(text, ambiguous) else {
            continue;
        };
        match normal_path(&normal, ambiguous) {
            Ok(again) if again == normal => {}
            other => panic!("{text:?} is {normal:?}, and that is {other:?}"),
        }
        let Ok(readings) = Readings::of(text, ambiguous) else {
            panic!("{text:?} has a normal form and no readings");
        };
        let readings: Vec<Option<&str>> = readings.iter().collect();
        let absolute = |reading: &Option<&str>| reading.is_none_or(|path| path.starts_with('/'));
        if readings.is_empty() || !readings.iter().all(absolute) {
            panic!("{text:?} is read as {readings:?}");
        }
        if let Ok(pattern) = normal.parse::<PathPattern>()
            && pattern.names().next().is_none()
            && let [Some(reading)] = readings.as_slice()
            && !pattern.matches(reading)
        {
            panic!("{pattern} does not match itself, {reading:?}");
        }
    }
    if let Ok(pattern) = text.parse::<PathPattern>()
        && pattern.to_string() != text
    {
        panic!("{text:?} is written as {pattern}");
    }
}

/// An expression is refused in lines, or evaluated to an answer or an error of one line.
pub fn any_condition(text: &str) {
    match Expression::compile(text, &["id"]) {
        Err(mistakes) if mistakes.is_empty() => panic!("{text:?} is refused without a reason"),
        Err(_) => {}
        Ok(expression) => {
            let Ok(local) = TrustDomain::parse("shop.example") else {
                return;
            };
            let facts = Facts {
                peer: None,
                source_ip: None,
                sni: None,
                destination_ip: None,
                local: &local,
                subject: None,
                intent: None,
                request: None,
                path: Some("/orders/1"),
                captures: &[("id", "1")],
                destination: &Workload::default(),
                port: 8080,
                time: UNIX_EPOCH,
            };
            let _ = expression.evaluate(&facts);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_keep_the_laws() {
        for text in [
            "",
            "/",
            "*",
            "/a/../b%2F;c",
            "/%61/**",
            "/a%",
            "apiVersion: countersign.dev/v1",
            "request.path == path.id",
            "[1].map(a, a / 0)[0] == 1",
        ] {
            any_policy(text);
            any_path(text);
            any_condition(text);
        }
        any_policy(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: a, namespace: shop}\nspec: {rules: [{name: a, action: deny, when: 'int(request.path) > 1'}]}\n",
        );
    }

    proptest! {
        #[test]
        fn any_text_keeps_the_laws(text in "[-\\[\\]{}:,&*!|>'\"%@`?#/;.=+<\\\\\n a1\r]{0,80}") {
            any_policy(&text);
            any_path(&text);
            any_condition(&text);
        }
    }
}
