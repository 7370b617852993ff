//! The workloads and the policy that most tests can do with.

use crate::mesh::Workload;

/// A workload that is called.
pub const ORDERS: Workload<'static> = Workload {
    name: "orders",
    host: 11,
    port: 8080,
    calls: &[],
};

/// A workload that calls [`ORDERS`].
pub const WEB: Workload<'static> = Workload {
    name: "web",
    host: 13,
    port: 80,
    calls: &[(16001, "orders.shop:8080")],
};

/// The policy by which [`WEB`] may call every workload of the namespace; nobody else may.
pub const POLICY: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - {name: web, action: allow, from: [{workload: shop/web}]}
";
