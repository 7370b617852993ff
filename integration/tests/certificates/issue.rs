//! `cert issue` for whoever a token proves: a join token, a CI job's, a person's.

use std::fs;

use countersign_integration::mesh::{Mesh, eventually};
use countersign_integration::oidc_provider::OidcProvider;
use countersign_integration::process::Program;

use super::{Done, command, issue, issue_arguments, last_issued, run};

#[test]
fn a_join_token_brings_one_certificate_that_verifies() {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[]).unwrap();
    let _ca = mesh.start_ca().unwrap();
    mesh.join_token("shop", "orders").unwrap();
    let proof = ["--join-token-file", "orders.token", "--out", "."];
    let done = issue(&mesh, &proof, &[]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    let orders = "spiffe://shop.example/ns/shop/sa/orders";
    assert!(
        done.stdout.starts_with(&format!("issued: {orders}, ")),
        "{}",
        done.stdout
    );
    let verify = [
        "cert",
        "verify",
        "svid.pem",
        "--bundle",
        "bundle.pem",
        "--id",
        orders,
    ];
    let verified = run(command(&mesh, &verify));
    assert_eq!(verified.status, 0, "{}", verified.stdout);
    // The key is the certificate's, and nobody else's to read.
    let both =
        ["svid.pem", "svid_key.pem"].map(|name| fs::read_to_string(mesh.path(name)).unwrap());
    mesh.write("both.pem", &both.concat()).unwrap();
    let inspect = [
        "cert",
        "inspect",
        "both.pem",
        "--bundle",
        "bundle.pem",
        "-o",
        "json",
    ];
    let report = run(command(&mesh, &inspect)).json();
    assert_eq!(report["groups"][0]["private_keys"][0]["state"], "matches");

    let again = issue(&mesh, &proof, &[]);
    assert_eq!(again.status, 2);
    assert!(
        again.stderr.contains("issues nothing: "),
        "{}",
        again.stderr
    );
}

/// A CA that knows the provider's CI jobs and people.
fn ca_of(provider: &OidcProvider) -> (Mesh, Program) {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[]).unwrap();
    let more = format!(
        "issuers:\n- issuer: {0}\n  audiences: [countersign-ca]\n  algorithms: [ES256]\n  allowHttp: true\n  \
         allowPrivateAddresses: true\n  spiffeId: 'spiffe://shop.example/ns/ci/sa/{{claims.job}}'\n  allow:\n  \
         - claims.repository == \"acme/shop\" && claims.ref == \"refs/heads/main\"\n",
        provider.issuer()
    );
    mesh.append("ca.yaml", &more).unwrap();
    let ca = mesh.start_ca().unwrap();
    (mesh, ca)
}

#[test]
fn a_ci_job_gets_its_certificate_however_its_token_comes() {
    let Some(provider) = OidcProvider::start().unwrap() else {
        return;
    };
    let (mesh, _ca) = ca_of(&provider);
    let ours = "urn:countersign-ca";
    let token = provider.token("shop-main", ours).unwrap();
    mesh.write("token.jwt", &format!("{token}\n")).unwrap();
    let url = format!("{}/actions/token?api-version=2.0", provider.issuer());
    let github = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job"),
    ];
    let deploy = "spiffe://shop.example/ns/ci/sa/deploy";
    let issued = |done: Done| {
        assert_eq!(done.status, 0, "{}", done.stderr);
        assert!(done.stdout.contains(deploy), "{}", done.stdout);
        let (kind, detail, id) = last_issued(&mesh);
        assert_eq!((kind.as_str(), id.as_str()), ("jwt", deploy));
        assert!(detail.contains("subject \"shop-main\""), "{detail}");
        fs::remove_file(mesh.path("svid.pem")).unwrap();
    };
    issued(issue(
        &mesh,
        &["--jwt-file", "token.jwt", "--out", "."],
        &[],
    ));
    let variable = [("MY_ID_TOKEN", token.as_str())];
    issued(issue(
        &mesh,
        &["--jwt-env", "MY_ID_TOKEN", "--out", "."],
        &variable,
    ));
    let ci = ["--ci", "--audience", "countersign-ca", "--out", "."];
    issued(issue(&mesh, &ci, &github));

    let refused = |done: Done, expected: &str| {
        assert_eq!(done.status, 2, "{}", done.stdout);
        assert!(
            done.stderr.contains(expected),
            "{expected}: {}",
            done.stderr
        );
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert!(!mesh.path("svid.pem").exists());
    };
    let branch = provider.token("shop-branch", ours).unwrap();
    let variable = [("MY_ID_TOKEN", branch.as_str())];
    refused(
        issue(
            &mesh,
            &["--jwt-env", "MY_ID_TOKEN", "--out", "."],
            &variable,
        ),
        "no rule of `allow` lets it in",
    );
    refused(
        issue(
            &mesh,
            &["--ci", "--audience", "vault", "--out", "."],
            &github,
        ),
        "the token is for \"vault\"; expected \"countersign-ca\"",
    );
    let other_job = [
        github[0],
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-another-job"),
    ];
    refused(
        issue(&mesh, &ci, &other_job),
        "GitHub gives no token for this job: it answered 401",
    );
}

/// A CA that knows the provider's people.
fn ca_of_people(provider: &OidcProvider) -> (Mesh, Program) {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[]).unwrap();
    let more = format!(
        "issuers:\n- issuer: {}\n  audiences: [countersign-cli]\n  allowHttp: true\n  allowPrivateAddresses: true\n  \
         spiffeId: 'spiffe://shop.example/ns/people/sa/{{claims.sub}}'\n  allow: ['claims.sub == \"alice\"']\n",
        provider.issuer()
    );
    mesh.append("ca.yaml", &more).unwrap();
    let ca = mesh.start_ca().unwrap();
    (mesh, ca)
}

/// A login that waits for somebody to enter its code, and that code.
fn login(mesh: &Mesh, provider: &OidcProvider) -> (Program, String) {
    let ca = mesh.ca().to_string();
    let proof = [
        "--device",
        provider.issuer(),
        "--client-id",
        "countersign-cli",
        "--out",
        ".",
    ];
    let command = command(mesh, &issue_arguments(&ca, &proof));
    let login = Program::start_command("login", command, &mesh.path("")).unwrap();
    let code = || {
        let told = login.stderr().unwrap();
        let mut lines = told.lines().skip_while(|line| !line.contains("the code"));
        lines.nth(1).map(|line| line.trim().to_owned())
    };
    eventually("the code", || code().is_some()).unwrap();
    let code = code().unwrap();
    (login, code)
}

#[test]
fn a_person_logs_in_on_another_device_or_says_no() {
    let Some(provider) = OidcProvider::start().unwrap() else {
        return;
    };
    let (mesh, _ca) = ca_of_people(&provider);
    let (mut refused, code) = login(&mesh, &provider);
    provider.refuse(&code).unwrap();
    assert_eq!(refused.wait().unwrap().code(), Some(2));
    let told = refused.stderr().unwrap();
    assert!(told.contains("the OpenID provider refuses: "), "{told}");
    assert!(!mesh.path("svid.pem").exists());

    let (mut accepted, code) = login(&mesh, &provider);
    provider.log_in(&code).unwrap();
    let ended = accepted.wait().unwrap();
    assert!(ended.success(), "{}", accepted.stderr().unwrap());
    let alice = "spiffe://shop.example/ns/people/sa/alice";
    assert!(accepted.stdout().unwrap().contains(alice));
    let (kind, detail, id) = last_issued(&mesh);
    assert_eq!((kind.as_str(), id.as_str()), ("jwt", alice));
    assert!(detail.contains("subject \"alice\""), "{detail}");
}
