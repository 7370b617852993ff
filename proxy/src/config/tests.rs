use super::*;

const SMALLEST: &str = "\
workload: orders
trustDomain: shop.example
identity: {ca: '127.1.2.1:15010', bundle: /mesh/bundle.pem, joinTokenFile: /mesh/token}
control: 127.1.2.1:15012
inbound: 127.1.2.11:15008
ops: 127.1.2.11:15020
";

const LARGEST: &str = "\
workload: orders
trustDomain: shop.example
identity: {ca: 'ca.countersign-system:15010', bundle: bundle.pem, jwtFile: token}
control: '[::1]:15012'
inbound: 127.1.2.11:15008
outbound:
- {listen: '127.1.2.11:16001', service: 'payments.shop:9090'}
- {listen: '127.1.2.11:16002', service: 'store.shop:6379', protocol: tcp}
ops: 127.1.2.11:15020
limits:
  headerBytes: 16KiB
  connectTimeout: 1s
  handshakeTimeout: 2s
  headerTimeout: 3s
  idleBodyTimeout: 4m
drainTimeout: 500ms
denials: {nameRule: false}
";

#[track_caller]
fn mistakes(text: &str) -> String {
    Config::parse("proxy.yaml", text)
        .expect_err("there are mistakes")
        .to_string()
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = Config::parse("proxy.yaml", SMALLEST).unwrap();
    assert_eq!(config.workload, "orders");
    assert_eq!(
        config.identity.evidence,
        EvidenceFile::JoinToken("/mesh/token".into())
    );
    assert_eq!(config.outbound, []);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert!(config.denials.name_rule);
}

#[test]
fn every_field_is_read() {
    let config = Config::parse("/etc/countersign/proxy.yaml", LARGEST).unwrap();
    let identity = IdentityConfig {
        ca: "ca.countersign-system:15010".to_owned(),
        bundle: "/etc/countersign/bundle.pem".into(),
        evidence: EvidenceFile::Jwt("/etc/countersign/token".into()),
    };
    assert_eq!(config.identity, identity);
    assert_eq!(config.control, "[::1]:15012");
    let payments = OutboundListener {
        listen: "127.1.2.11:16001".parse().unwrap(),
        service: "payments.shop:9090".to_owned(),
        protocol: DeclaredProtocol::Detect,
    };
    assert_eq!(config.outbound[0], payments);
    assert_eq!(config.outbound[1].protocol, DeclaredProtocol::Tcp);
    let limits = Limits {
        header_bytes: 16384,
        connect_timeout: Duration::from_secs(1),
        handshake_timeout: Duration::from_secs(2),
        header_timeout: Duration::from_secs(3),
        idle_body_timeout: Duration::from_secs(240),
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.drain_timeout, Duration::from_millis(500));
    assert!(!config.denials.name_rule);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "\
workload: 7
trustdomain: shop.example
identity: {ca: 127.1.2.1, bundle: bundle.pem, joinTokenFile: a, jwtFile: b}
control: http://127.1.2.1:15012
inbound: 127.1.2.11:15008
outbound:
- {listen: '127.1.2.11:15008', service: payments}
- {listen: localhost, service: 'store.shop:6379', protocol: http3}
limits: {headerBytes: 512, handshakeTimeout: 0s, headerTimeout: 10}
denials: {nameRules: false}
";
    assert_eq!(
        mistakes(text),
        "\
proxy.yaml:1:1: missing field `ops`
proxy.yaml:1:1: missing field `trustDomain`
proxy.yaml:1:11: expected a string, got the number 7: put it in quotes
proxy.yaml:2:1: unknown field `trustdomain`, did you mean `trustDomain`?
proxy.yaml:3:11: expected one of `joinTokenFile`, `jwtFile` and `certificateFile`, got several
proxy.yaml:3:16: expected a host and a port such as 127.0.0.1:15010 or orders.shop:8080, got \"127.1.2.1\"
proxy.yaml:4:10: expected a host and a port such as 127.0.0.1:15010 or orders.shop:8080, got \"http://127.1.2.1:15012\"
proxy.yaml:7:12: 127.1.2.11:15008 is taken: inbound listens on it already
proxy.yaml:7:41: expected a host and a port such as 127.0.0.1:15010 or orders.shop:8080, got \"payments\"
proxy.yaml:8:12: expected an address such as 127.0.0.1:15008, got \"localhost\": invalid socket address syntax
proxy.yaml:8:61: unknown word \"http3\", did you mean `http1`?
proxy.yaml:9:23: expected a size from 1KiB to 1MiB, got 512 bytes
proxy.yaml:9:46: expected a duration longer than nothing, got 0
proxy.yaml:9:65: expected a duration such as 500ms, 10s, 5m or 1h, got the number 10
proxy.yaml:10:11: unknown field `nameRules`, did you mean `nameRule`?"
    );
}

#[test]
fn one_kind_of_evidence_is_needed() {
    let none = SMALLEST.replace(", joinTokenFile: /mesh/token", "");
    assert_eq!(
        mistakes(&none),
        "proxy.yaml:3:11: missing field `joinTokenFile`, `jwtFile` or `certificateFile`: the CA has to be shown which workload this is"
    );
}

#[test]
fn a_certificate_comes_with_its_key() {
    let with = |evidence: &str| SMALLEST.replace("joinTokenFile: /mesh/token", evidence);
    let both = with("certificateFile: vm.pem, certificateKeyFile: /etc/vm.key");
    let config = Config::parse("/mesh/proxy.yaml", &both).unwrap();
    let files = CertificateFiles {
        chain: "/mesh/vm.pem".into(),
        key: "/etc/vm.key".into(),
    };
    assert_eq!(config.identity.evidence, EvidenceFile::Certificate(files));
    for (evidence, expected) in [
        (
            "certificateFile: vm.pem",
            "proxy.yaml:3:11: missing field `certificateKeyFile`: the key of `certificateFile`",
        ),
        (
            "certificateKeyFile: vm.key",
            "proxy.yaml:3:11: missing field `certificateFile`: the certificate of `certificateKeyFile`",
        ),
    ] {
        assert_eq!(mistakes(&with(evidence)), expected);
    }
}

#[test]
fn the_system_may_choose_ports() {
    let text = SMALLEST.replace("15008", "0").replace("15020", "0");
    let config = Config::parse("proxy.yaml", &text).unwrap();
    assert_eq!(config.inbound, config.ops);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let mistake = Config::read(Path::new("/nowhere/proxy.yaml"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        mistake,
        "/nowhere/proxy.yaml: cannot read the file: No such file or directory (os error 2)"
    );
}
