use super::*;
use proptest::prelude::*;

fn claims() -> Value {
    json!({
        "sub": "system:serviceaccount:shop:orders",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "orders", "uid": "u-1"},
            "pod": {"name": "orders-7d9", "uid": "u-2"},
            "node": {"name": "node1", "uid": "u-3"},
        },
    })
}

fn of_claims(claims: Value) -> Result<BoundPod, UnboundError> {
    BoundPod::of_claims(claims.as_object().unwrap())
}

fn review() -> Value {
    json!({
        "authenticated": true,
        "audiences": ["countersign-ca"],
        "user": {
            "username": "system:serviceaccount:shop:orders",
            "uid": "u-1",
            "groups": ["system:serviceaccounts"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["orders-7d9"],
                "authentication.kubernetes.io/pod-uid": ["u-2"],
                "authentication.kubernetes.io/node-name": ["node1"],
                "authentication.kubernetes.io/node-uid": ["u-3"],
            },
        },
    })
}

fn of_review(review: Value) -> Result<BoundPod, PodError> {
    let status = serde_json::from_value(review).unwrap();
    BoundPod::of_review(&status, &["countersign-ca".to_owned()])
}

fn found(uid: &str, account: &str, phase: &str) -> Option<FoundPod> {
    let pod = json!({
        "metadata": {"uid": uid}, "spec": {"serviceAccountName": account}, "status": {"phase": phase},
    });
    Some(serde_json::from_value(pod).unwrap())
}

#[test]
fn claims_and_review_tell_of_one_pod() {
    let claimed = of_claims(claims()).unwrap();
    assert_eq!(claimed, of_review(review()).unwrap());
    assert!(claimed.is_same(&of_review(review()).unwrap()));
    assert_eq!(
        claimed.to_string(),
        "pod orders-7d9 (uid u-2), node node1 (uid u-3), service account uid u-1"
    );
    let mut unscheduled = claims();
    unscheduled["kubernetes.io"]["node"] = Value::Null;
    let unscheduled = of_claims(unscheduled).unwrap();
    assert!(unscheduled.is_same(&claimed));
    assert_eq!(unscheduled.facts().get("node"), None);
    let mut other = review();
    other["user"]["extra"]["authentication.kubernetes.io/pod-uid"] = json!(["u-9"]);
    assert!(!claimed.is_same(&of_review(other).unwrap()));
}

#[test]
fn an_unbound_token_proves_nobody() {
    let mut unbound = claims();
    unbound["kubernetes.io"]
        .as_object_mut()
        .unwrap()
        .remove("pod");
    assert_eq!(of_claims(unbound), Err(UnboundError::NoPod));
    let mut legacy = claims();
    legacy.as_object_mut().unwrap().remove("kubernetes.io");
    assert_eq!(of_claims(legacy), Err(UnboundError::NoPod));
    let mut unbound = review();
    unbound["user"]["extra"] = json!({});
    assert_eq!(of_review(unbound), Err(UnboundError::NoPod.into()));
    let mut person = review();
    person["user"] = json!({"username": "jane", "uid": ""});
    assert_eq!(
        of_review(person),
        Err(UnboundError::NotAServiceAccount("jane".to_owned()).into())
    );
}

#[test]
fn what_the_api_server_does_not_vouch_for_is_refused() {
    let refused = of_review(json!({"authenticated": false, "error": "[invalid\ntoken]"}));
    assert_eq!(
        refused,
        Err(PodError::NotAuthenticated("[invalid\\ntoken]".to_owned()))
    );
    for audiences in [json!([]), json!(["https://kubernetes"])] {
        let mut review = review();
        review["audiences"] = audiences;
        assert!(matches!(
            of_review(review),
            Err(PodError::WrongAudience { .. })
        ));
    }
    // `authenticated` left out, an empty answer.
    assert!(matches!(
        of_review(json!({})),
        Err(PodError::NotAuthenticated(_))
    ));
    // Two pods are none.
    let mut two = review();
    two["user"]["extra"]["authentication.kubernetes.io/pod-name"] = json!(["a", "b"]);
    assert!(of_review(two).is_err());
}

#[test]
fn the_pod_must_be_the_one_that_exists() {
    let pod = of_claims(claims()).unwrap();
    assert_eq!(pod.check_found(found("u-2", "orders", "Running")), Ok(()));
    assert_eq!(pod.check_found(found("u-2", "orders", "")), Ok(()));
    assert!(matches!(pod.check_found(None), Err(PodError::NoPod { .. })));
    assert!(matches!(
        pod.check_found(found("u-9", "orders", "Running")),
        Err(PodError::OtherPod { .. })
    ));
    assert!(matches!(
        pod.check_found(found("u-2", "default", "Running")),
        Err(PodError::OtherServiceAccount { .. })
    ));
    for phase in ["Succeeded", "Failed"] {
        assert!(matches!(
            pod.check_found(found("u-2", "orders", phase)),
            Err(PodError::Ended { .. })
        ));
    }
}

#[test]
fn names_that_could_lead_elsewhere_are_refused() {
    for bad in [
        "",
        "..",
        ".",
        "a/b",
        "a b",
        "a%2fb",
        "a\n",
        &"x".repeat(254),
    ] {
        for pointer in [
            "/kubernetes.io/pod/name",
            "/kubernetes.io/pod/uid",
            "/kubernetes.io/node/name",
        ] {
            let mut claims = claims();
            *claims.pointer_mut(pointer).unwrap() = json!(bad);
            assert!(of_claims(claims).is_err(), "{pointer} {bad:?}");
        }
        let mut claims = claims();
        claims["sub"] = json!(format!("system:serviceaccount:{bad}:orders"));
        claims["kubernetes.io"]["namespace"] = json!(bad);
        assert!(of_claims(claims).is_err(), "{bad:?}");
    }
    let mut differing = claims();
    differing["kubernetes.io"]["namespace"] = json!("other");
    assert!(matches!(
        of_claims(differing),
        Err(UnboundError::Unusable(_))
    ));
}

proptest! {
    /// Whatever JSON an API server or a token has, it is understood as one pod with proper names, or refused.
    #[test]
    fn odd_names_never_panic_and_are_never_taken(text in ".{0,40}") {
        let mut odd = claims();
        odd["kubernetes.io"]["pod"]["name"] = json!(text);
        if let Ok(pod) = of_claims(odd) {
            prop_assert!(pod.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'));
            prop_assert_eq!(pod.name, text);
        }
    }
}
