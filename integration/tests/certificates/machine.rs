//! A machine with a certificate of its own: the sidecar and `cert issue` prove it to the CA.

use std::fs;
use std::process::Command;

use countersign_integration::http;
use countersign_integration::mesh::{Mesh, eventually, until_ready};
use countersign_integration::programs::program;
use countersign_integration::shop::{ORDERS, POLICY};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SerialNumber,
};

use super::{issue, last_issued};

/// An authority that has nothing to do with the mesh.
struct Machines(CertifiedIssuer<'static, KeyPair>);

impl Machines {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "machines");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `vm.pem` and `vm.key` for the machine `orders`; gives the key, a secret.
    fn certify(&self, mesh: &Mesh, serial: u8) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "orders");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(vec![serial; 4]));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        mesh.write("vm.key", &key.serialize_pem()).unwrap();
        mesh.write("vm.pem", &certificate.pem()).unwrap();
        key.serialize_pem()
    }

    /// Has the mesh's CA accept these machines.
    fn accept(&self, mesh: &Mesh) {
        mesh.write("vm-roots.pem", &self.0.pem()).unwrap();
        let roots = mesh.path("vm-roots.pem");
        let more = format!(
            "x509Proof:\n- name: vms\n  rootsFile: {}\n  \
             spiffeId: 'spiffe://shop.example/ns/shop/sa/{{certificate.subject.commonName}}'\n",
            roots.display()
        );
        mesh.append("ca.yaml", &more).unwrap();
    }
}

/// The serial of a certificate by [`Machines::certify`], as the log writes it.
fn serial(byte: u8) -> String {
    format!("roots \"vms\", serial {}", format!("{byte:02x}").repeat(4))
}

/// The base64 of a PEM text, which nobody else may write.
fn secret(pem: &str) -> &str {
    pem.lines().nth(1).unwrap()
}

#[test]
fn a_sidecar_proves_its_machines_certificate_whenever_it_has_no_svid() {
    let mesh = Mesh::new("{defaultTtl: 6s, minTtl: 2s}", &[ORDERS]).unwrap();
    mesh.write("policy/orders.yaml", POLICY).unwrap();
    let machines = Machines::new();
    machines.accept(&mesh);
    let ca = mesh.start_ca().unwrap();
    let _control = mesh.start_control().unwrap();
    let config = fs::read_to_string(mesh.path("orders.yaml")).unwrap();
    let evidence = "certificateFile: vm.pem, certificateKeyFile: vm.key";
    let config = config.replace("joinTokenFile: orders.token", evidence);
    mesh.write("orders.yaml", &config).unwrap();

    let ops = mesh.address(ORDERS.host, 15020);
    let says = |text: &str| http::get(ops, "/ready").is_ok_and(|(_, said)| said.contains(text));
    let mut secrets = vec![Machines::new().certify(&mesh, 1)];
    let sidecar = mesh.start_sidecar("orders").unwrap();
    eventually("the stranger's certificate to be refused", || {
        says("the certificate is not accepted by the roots \"vms\"")
    })
    .unwrap();

    // The files are read anew: nobody has to start the sidecar again.
    secrets.push(machines.certify(&mesh, 2));
    until_ready("the sidecar", ops).unwrap();
    let proofs = || {
        let log = mesh.issuance_log().unwrap();
        let of_kind = |kind| {
            let records = log.iter();
            let records = records.filter(move |record| record["attestation"]["kind"] == kind);
            records
                .filter(|record| record["spiffe_id"] == "spiffe://shop.example/ns/shop/sa/orders")
        };
        let details = of_kind("x509-proof")
            .map(|record| record["attestation"]["detail"].as_str().unwrap().to_owned());
        (details.collect::<Vec<_>>(), of_kind("renewal").count())
    };
    assert_eq!(proofs().0, [serial(2)]);
    eventually("a renewal by the SVID", || proofs().1 > 0).unwrap();

    // An outage that outlasts the SVID, in which the machine's certificate is replaced.
    assert!(ca.terminate().unwrap().success());
    secrets.push(machines.certify(&mesh, 3));
    eventually("the SVID to expire", || says("the SVID has expired")).unwrap();
    let ca = mesh.start_ca().unwrap();
    eventually("a proof by the new certificate", || {
        proofs().0 == [serial(2), serial(3)]
    })
    .unwrap();
    until_ready("the sidecar", ops).unwrap();
    for program in [&sidecar, &ca] {
        let told = program.stdout().unwrap() + &program.stderr().unwrap();
        assert!(secrets.iter().all(|pem| !told.contains(secret(pem))));
    }
}

#[test]
fn a_machines_certificate_brings_one_by_hand_and_what_is_wrong_is_told() {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[]).unwrap();
    let machines = Machines::new();
    machines.accept(&mesh);
    let _ca = mesh.start_ca().unwrap();
    let proof = [
        "--x509-proof",
        "vm.pem",
        "--x509-key",
        "vm.key",
        "--out",
        ".",
    ];
    let refused = |expected: &str| {
        let done = issue(&mesh, &proof, &[]);
        assert_eq!(done.status, 2, "{}", done.stdout);
        assert!(
            done.stderr.contains(expected),
            "{expected}: {}",
            done.stderr
        );
        assert!(!mesh.path("svid.pem").exists());
    };
    refused("vm.pem: No such file");
    Machines::new().certify(&mesh, 1);
    refused("issues nothing: the certificate is not accepted by the roots \"vms\"");
    let good = machines.certify(&mesh, 2);
    mesh.write("vm.key", &KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    refused("the key in vm.key is not that of the first certificate in vm.pem");
    mesh.write("vm.key", &good).unwrap();
    let done = issue(&mesh, &proof, &[]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    let orders = "spiffe://shop.example/ns/shop/sa/orders";
    let logged = ("x509-proof".to_owned(), serial(2), orders.to_owned());
    assert_eq!(last_issued(&mesh), logged);
    assert!(!(done.stdout + &done.stderr).contains(secret(&good)));
}

/// `docs/attestation.md`, executed as written.
#[test]
fn the_worked_example_works() {
    const DOCUMENT: &str = include_str!("../../../docs/attestation.md");
    let blocks = |language: &str| {
        let opening = format!("```{language} x509-proof\n");
        let blocks = DOCUMENT.split(opening.as_str()).skip(1);
        let blocks = blocks.map(|rest| rest.split("\n```").next().unwrap());
        blocks.collect::<Vec<_>>()
    };
    let ([machine, svid], [ca_config, sidecar_config]) = (&blocks("sh")[..], &blocks("yaml")[..])
    else {
        panic!("expected two blocks of each kind")
    };
    let mesh = Mesh::new("{defaultTtl: 1h}", &[ORDERS]).unwrap();
    mesh.write("policy/orders.yaml", POLICY).unwrap();
    let countersign = program("countersign").unwrap();
    let path = format!(
        "{}:{}",
        countersign.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let sh = |block: &str| {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(mesh.path(""))
            .env("PATH", &path)
            .env("CA", mesh.ca().to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{block}\n{said}");
        said
    };
    sh(machine);
    mesh.append("ca.yaml", &format!("{ca_config}\n")).unwrap();
    // Paths in the CA's configuration are of its working directory; here everything has one.
    let config = fs::read_to_string(mesh.path("ca.yaml")).unwrap();
    let roots = mesh.path("vm-roots.pem").display().to_string();
    mesh.write("ca.yaml", &config.replace("vm-roots.pem", &roots))
        .unwrap();
    let _ca = mesh.start_ca().unwrap();
    fs::copy(mesh.path("ca/bundle.pem"), mesh.path("bundle.pem")).unwrap();
    let said = sh(svid);
    assert!(
        said.contains("verified: spiffe://shop.example/ns/vms/sa/vm7"),
        "{said}"
    );

    let _control = mesh.start_control().unwrap();
    let config = fs::read_to_string(mesh.path("orders.yaml")).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("identity:"));
    let sidecar_config = sidecar_config.replace("ca.shop.example:15010", &mesh.ca().to_string());
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    mesh.write("orders.yaml", &format!("{config}{sidecar_config}\n"))
        .unwrap();
    let _sidecar = mesh.start_sidecar("orders").unwrap();
    eventually("the sidecar's SVID", || {
        let (kind, _, id) = last_issued(&mesh);
        kind == "x509-proof"
            && id == "spiffe://shop.example/ns/vms/sa/vm7"
            && mesh.issuance_log().unwrap().len() > 2
    })
    .unwrap();
}
