//! Mesh files, good and bad, from beside the tests.

use std::path::Path;

use super::*;

const GOOD: &str = r#"
trustDomain: shop.example
policy: {repository: ./policy}
issuers:
- name: corp
  issuer: https://login.shop.example
  audiences: [shop]
  users: [{name: alice, claims: {groups: [buyer], tenant: acme}}]
workloads:
- name: web
  namespace: shop
  command: [shop, web, --listen, "${ip}:8080", --orders, "${orders.shop:8080}"]
  ports: [{port: 8080, protocol: http1}]
  calls: [orders.shop:8080]
- name: orders
  namespace: shop
  serviceAccount: orders-account
  labels: {app: orders, tier: "2"}
  command: [shop, orders]
  env: {LISTEN: "${ip}:8080", EMPTY: ""}
  ports: [{port: 8080}]
  replicas: 2
"#;

fn read_text(text: &str) -> Result<Mesh, Diagnostics> {
    yaml::read("mesh.yaml", text, |value| {
        from_yaml(value, Path::new("/meshes/shop"))
    })
}

#[test]
fn a_mesh_file_says_all_this() {
    let mesh = read_text(GOOD).unwrap();
    assert_eq!(mesh.trust_domain.as_str(), "shop.example");
    assert_eq!(
        mesh.policy.repository,
        Repository::Local("/meshes/shop/./policy".into())
    );
    assert_eq!(mesh.policy.branch, "main");
    let [corp] = mesh.issuers.as_slice() else {
        panic!("{:?}", mesh.issuers)
    };
    assert_eq!(corp.users[0].claims["groups"], serde_json::json!(["buyer"]));
    let [web, orders] = mesh.workloads.as_slice() else {
        panic!("{:?}", mesh.workloads)
    };
    assert_eq!(web.service_account, "web");
    assert_eq!(
        web.labels,
        BTreeMap::from([("app".to_owned(), "web".to_owned())])
    );
    assert_eq!(web.instances().collect::<Vec<_>>(), ["web"]);
    assert_eq!(web.service(web.ports[0]), "web.shop:8080");
    assert_eq!(orders.service_account, "orders-account");
    assert_eq!(orders.labels["tier"], "2");
    assert_eq!(
        orders.instances().collect::<Vec<_>>(),
        ["orders-1", "orders-2"]
    );
    assert_eq!(
        orders.ports,
        [Port {
            port: 8080,
            protocol: None
        }]
    );
}

#[test]
fn policy_can_be_elsewhere() {
    for url in [
        "https://git.example/policy.git",
        "git@git.example:policy.git",
        "file:///srv/policy",
    ] {
        let mesh = read_text(&GOOD.replace("./policy", &format!("\"{url}\""))).unwrap();
        assert_eq!(mesh.policy.repository, Repository::Remote(url.to_owned()));
    }
    let mesh = read_text(&GOOD.replace("./policy", "/srv/po:licy")).unwrap();
    assert_eq!(
        mesh.policy.repository,
        Repository::Local("/srv/po:licy".into())
    );
}

/// Every mistake of a file is told at once, in the order of the file. The files and what is told of
/// them are in `golden/`; `UPDATE_GOLDEN=1` writes the latter anew.
#[test]
fn mistakes_are_told_all_at_once() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/up/mesh/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(&golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let told = read_text(&std::fs::read_to_string(&path).unwrap())
            .unwrap_err()
            .to_string()
            + "\n";
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &told).unwrap();
        }
        assert_eq!(
            told,
            std::fs::read_to_string(&expected).unwrap(),
            "{}",
            path.display()
        );
    }
    assert!(seen >= 3, "golden files are missing");
}
