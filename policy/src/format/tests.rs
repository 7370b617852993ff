use super::*;

mod policy_tests;
mod properties;

fn formatted(text: &str) -> String {
    let once = format("p.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    assert_eq!(
        format("p.yaml", &once).as_ref(),
        Ok(&once),
        "once and twice"
    );
    once
}

#[track_caller]
fn is_laid_out_as(text: &str, expected: &str) {
    let found = formatted(text);
    assert!(found == expected, "expected:\n{expected}\nfound:\n{found}");
}

#[test]
fn the_examples_are_laid_out_already() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shop/policy");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = crate::files::kind(path.file_name().unwrap().to_str().unwrap());
        if kind == Some(crate::files::Kind::Policy) {
            count += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            is_laid_out_as(&text, &text);
        }
    }
    assert!(count > 3, "{count}");
}

#[test]
fn the_documents_of_the_reference_are_laid_out_already() {
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let blocks = reference
        .split("```yaml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    let documents: Vec<&str> = blocks
        .filter(|block| block.starts_with("apiVersion"))
        .collect();
    assert!(documents.len() > 4, "{documents:?}");
    for document in documents {
        is_laid_out_as(document, document);
    }
}

#[test]
fn a_policy_gets_its_canonical_layout() {
    let text = r#"
# License of the file
---   # the shop's
# Who may call orders.

kind:   AccessPolicy
apiVersion: "countersign.dev/v1"   # version
spec:
    rules:
      # first rule
      - action: allow   # why allowed
        name: "one"
        to:
          - paths: [ '/orders',
                "/orders/{id}" ]   # both
            ports:
              - 8080
        from:
          - workload: shop/web
          # the tester
          - cidr: 10.0.0.0/8
            namespace: "test"
        # when: false

      # second rule


      # and more
      - name: two
        action: deny
        when: >-
              request.method == "A"
              && true
      # - name: three
      #   action: deny
    target:
      labels: {app: orders, tier: "1"}
    mode: enforce
metadata:
  namespace: shop
  name: orders
# the end
"#;
    let expected = r#"# License of the file

# the shop's
# Who may call orders.

apiVersion: countersign.dev/v1  # version
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  target: {labels: {app: orders, tier: "1"}}
  mode: enforce
  rules:
  # first rule
  - name: one
    action: allow  # why allowed
    from:
    - {workload: shop/web}
    # the tester
    - {namespace: test, cidr: 10.0.0.0/8}
    to:
    - ports: [8080]
      paths: ["/orders", "/orders/{id}"]  # both
    # when: false

  # second rule

  # and more
  - name: two
    action: deny
    when: >-
      request.method == "A"
      && true
  # - name: three
  #   action: deny
# the end
"#;
    is_laid_out_as(text, expected);
}

const HEAD: &str = "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: a, namespace: b}\nspec:\n";

#[track_caller]
fn rule_is_laid_out_as(rule: &str, expected: &str) {
    let text = |rule: &str| format!("{HEAD}  rules:\n{rule}");
    is_laid_out_as(&text(rule), &text(expected));
}

#[test]
fn comments_in_brackets_break_the_brackets() {
    let rule = r#"  - {name: a, # the name
     action: deny, from: [ # who
       {workload: a/b}, # one
       # before two
       {workload: c/d}
       # behind two
     ], # end
     subject: {claims: {a: [x, # an x
       z]}}}
"#;
    let expected = r#"  - name: a  # the name
    action: deny
    # end
    from:  # who
    - {workload: a/b}  # one
    # before two
    - {workload: c/d}
      # behind two
    subject:
      claims:
        a:
        - x  # an x
        - z
"#;
    rule_is_laid_out_as(rule, expected);
}

#[test]
fn what_is_too_long_for_a_line_gets_several() {
    let paths: Vec<String> = (10..30).map(|n| format!("\"/orders/{n}\"")).collect();
    let rule = format!(
        "  - {{name: a, action: deny, to: [{{ports: [80], paths: [{}]}}]}}\n",
        paths.join(", ")
    );
    let lines: String = paths
        .iter()
        .map(|path| format!("      - {path}\n"))
        .collect();
    let expected =
        format!("  - name: a\n    action: deny\n    to:\n    - ports: [80]\n      paths:\n{lines}");
    rule_is_laid_out_as(&rule, &expected);
}

#[test]
fn blocks_of_lines_stay_blocks() {
    let literal = "  - name: a\n    action: deny\n    when: |  # why\n      true\n        && false\n\n      || true\n";
    rule_is_laid_out_as(literal, literal);
    let moved = literal
        .replace("when: |  #", "when:   |   #")
        .replace("\n      ", "\n         ");
    rule_is_laid_out_as(&moved, literal);
    // What needs an indicator of its indentation is quoted.
    rule_is_laid_out_as(
        "  - name: a\n    action: deny\n    when: |2-\n         true\n      || true\n",
        "  - name: a\n    action: deny\n    when: \"   true\\n|| true\"\n",
    );
    rule_is_laid_out_as(
        "  - name: a\n    action: deny\n    when: >\n      true\n\n      || true\n",
        "  - name: a\n    action: deny\n    when: \"true\\n|| true\\n\"\n",
    );
}

#[test]
fn comments_below_a_list_stay_below_it() {
    rule_is_laid_out_as(
        "  - name: a\n    to:\n      - ports: [80]\n      # or 81\n    action: deny\n",
        "  - name: a\n    action: deny\n    to: [{ports: [80]}]\n"
            .replace(" [{ports: [80]}]", "\n    - {ports: [80]}\n    # or 81")
            .as_str(),
    );
    rule_is_laid_out_as(
        "  - name: a\n    from:\n      - cidr: 10.0.0.1\n      # or 2\n    action: deny\n    when: 'true == true'\n",
        "  - name: a\n    action: deny\n    from:\n    - {cidr: 10.0.0.1}\n      # or 2\n    when: true == true\n",
    );
}

#[test]
fn documents_of_others_stay_byte_for_byte() {
    let other =
        "---\n# mine\napiVersion:   v1\nkind: \"Service\"\nspec: {a: 1,   b: [ &x 2, *x ]}\n...\n";
    let own = format!("{HEAD}    rules: [{{action: deny, name: x}}]\n");
    let laid_out = format!("{HEAD}  rules:\n  - name: x\n    action: deny\n");
    let only_other = "# a\n---\n\n\n---\nx:   1\n";
    assert!(
        format("p.yaml", &format!("{other}---\n{own}")).is_err(),
        "anchors are mistakes, whoever's"
    );
    let other = other.replace("&x 2, *x", "2 ");
    is_laid_out_as(
        &format!("{own}{other}---\n{own}")
            .replace("name: a,", "name:   a,")
            .replacen("name:   a", "name: z", 1),
        &format!("{laid_out}{other}---\n{laid_out}").replacen("name: a", "name: z", 1),
    );
    let kubernetes = format!(
        "# license\n---\n{}",
        only_other.replace("x:   1", "apiVersion:   v1")
    );
    is_laid_out_as(&kubernetes, &kubernetes);
}

#[test]
fn separators_are_between_documents() {
    let issuer = "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: a, namespace: b}\nspec:\n  issuer: https://x\n  audiences: [a]\n";
    let second = issuer.replace("name: a", "name: b");
    let third = issuer.replace("name: a", "name: c");
    is_laid_out_as(
        &format!("---\n\n\n{issuer}\n\n...\n---\n---\n# alone\n---\n{second}...\n{third}---\n"),
        &format!("{issuer}---\n# alone\n---\n{second}---\n{third}"),
    );
    is_laid_out_as(&issuer.replace('\n', "\r\n"), issuer);
}

#[test]
fn mistakes_are_told_with_their_places() {
    let mistakes = |text: &str| format("p.yaml", text).unwrap_err().to_string();
    assert_eq!(
        mistakes(&format!("{HEAD}  rules: []\n  mood: x\n")),
        "p.yaml:5:10: expected at least one of the rules, got an empty list: leave the field out or fill it\n\
         p.yaml:6:3: unknown field `mood`, expected `target`, `mode` or `default`"
    );
    let directive = format!("%YAML 1.2\n---\n{HEAD}  rules: [{{name: a, action: deny}}]\n");
    let told = mistakes(&directive);
    assert!(
        told.starts_with("p.yaml:1:1: this cannot be laid out: "),
        "{told}"
    );
}
