//! Calls that the last of the rules are about.

use super::rules::area_and_caller;

/// One call, and what every engine has to answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What is measured with it.
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) port: u16,
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) path: String,
    /// Whether it has the token: issuer `shop/corp`, groups `staff` and `buyer`, tenant `acme`.
    pub(crate) token: bool,
    pub(crate) allowed: bool,
    /// The class of our engine's reason.
    pub(crate) class: &'static str,
}

/// The call whose rule has a condition, in CEL.
pub(crate) const CONDITION: &str = "condition";

/// One of each kind.
pub(crate) fn calls(rules: usize) -> Vec<Call> {
    let (area, caller) = area_and_caller(rules - 1);
    // The last area of which a rule denies: one in five has one.
    let (denied_area, denied_caller) = area_and_caller((rules - 1) / 50 * 50 + 9);
    let call = Call {
        kind: "allow",
        namespace: format!("ns{caller}"),
        account: format!("sa{caller}"),
        port: 8080,
        method: "GET",
        host: "orders.shop:8080",
        path: format!("/area{area}/orders/4711/items/1?full=1"),
        token: false,
        allowed: true,
        class: "allowed",
    };
    vec![
        call.clone(),
        Call {
            kind: "hosts",
            method: "OPTIONS",
            host: "eu.orders.example",
            path: format!("/area{area}/reports/7/pages/2"),
            ..call.clone()
        },
        Call {
            kind: "gRPC",
            port: 9090,
            method: "POST",
            path: format!("/shop.area{area}.Read/List"),
            ..call.clone()
        },
        Call {
            kind: "token",
            method: "PUT",
            path: format!("/area{area}/carts/7"),
            token: true,
            ..call.clone()
        },
        Call {
            kind: "deny",
            namespace: format!("ns{denied_caller}"),
            account: format!("sa{denied_caller}"),
            path: format!("/area{denied_area}/internal/x"),
            allowed: false,
            class: "denied-by-rule",
            ..call.clone()
        },
        Call {
            kind: "no rule",
            method: "DELETE",
            path: format!("/area{area}/orders"),
            allowed: false,
            class: "no-rule-matched",
            ..call.clone()
        },
        Call {
            kind: CONDITION,
            method: "PATCH",
            path: format!("/area{area}/tenants/acme/x"),
            token: true,
            ..call
        },
    ]
}

impl Call {
    pub(crate) fn peer(&self) -> String {
        format!(
            "spiffe://shop.example/ns/{}/sa/{}",
            self.namespace, self.account
        )
    }

    /// The path without its query.
    pub(crate) fn plain_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The host without its port.
    pub(crate) fn plain_host(&self) -> &str {
        self.host.split(':').next().unwrap_or_default()
    }
}
