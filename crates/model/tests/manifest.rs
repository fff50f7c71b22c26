//! Manifests through the public API.

use corral_model::resource::manifest::{parse, to_yaml, validate};
use corral_model::resource::{LimitSubject, Resource, SecretSource, TargetTlsMode, TextSource};

const EVERY_KIND: &str = r#"
kind: Target
name: orders-db
protocol: postgres
address: db.internal:5432
database: orders
tls: {mode: verify-full, ca_file: ca.pem}
credential:
  username: svc_agents
  password: {env: ORDERS_PASSWORD}
masked_credential: {username: svc_agents_masked, password: {file: pw2}}
labels: {env: prod, team: shop}
classify:
  - columns: [public.customers.ssn, public.customers.card_number]
    class: pii
record: {rows: none, durability: synced}
listen: 127.0.0.1:5500
---
name: ada@example.com
kind: User     # the kind may stand anywhere
groups: [platform, dba]
password: {value: "p w"}
disabled: false
--- # a comment
kind: Workload
name: nightly-report
sponsor: ada@example.com
groups: [ci]
secret: {env: NIGHTLY_SECRET}
---
kind: Policy
name: shop
cedar: |
  permit (principal, action, resource);
---
kind: Policy
name: other
cedar: {file: other.cedar}
---
kind: Limit
name: agents
subject: {group: agents}
target: {label: env=prod}
sessions_max: 5
session_ttl: 30m
idle_timeout: 10m
run: {ttl_max: 1h, children_max: 50, depth_max: 4, sessions_max: 20, statements_max: 10000, rows_max: 1000000, bytes_max: 1GiB}
---
kind: Limit
name: everybody
subject: any
sessions_max: 100
---
# nothing here
...
"#;

#[test]
fn every_kind_of_the_contract_is_read() {
    let resources = parse(EVERY_KIND, "all.yaml").expect("reads");
    let names: Vec<String> =
        resources.iter().map(|r| format!("{}/{}", r.kind(), r.name())).collect();
    let expect = [
        "Target/orders-db",
        "User/ada@example.com",
        "Workload/nightly-report",
        "Policy/shop",
        "Policy/other",
        "Limit/agents",
        "Limit/everybody",
    ];
    assert_eq!(names, expect);
    let Some(Resource::Target(target)) = resources.first() else { unreachable!("a target") };
    assert_eq!(target.tls_mode(), TargetTlsMode::VerifyFull);
    assert_eq!(
        target.credential.as_ref().and_then(|c| c.password.clone()),
        Some(SecretSource::Env("ORDERS_PASSWORD".into()))
    );
    let Some(Resource::Policy(policy)) = resources.get(4) else { unreachable!("a policy") };
    assert_eq!(policy.cedar, TextSource::File { file: "other.cedar".into() });
    let Some(Resource::Limit(limit)) = resources.get(6) else { unreachable!("a limit") };
    assert_eq!(limit.subject, LimitSubject::Any(true));
}

#[test]
fn what_is_written_reads_back_the_same() {
    for resource in parse(EVERY_KIND, "all.yaml").expect("reads") {
        let yaml = to_yaml(&resource).expect("writes");
        assert!(yaml.starts_with("kind: "), "{yaml}");
        let again = parse(&yaml, "again.yaml").expect(&yaml);
        assert_eq!(again, [resource], "{yaml}");
    }
}

/// Each text has one fault; its place and a part of its message.
#[test]
fn faults_are_named_with_line_and_column() {
    let user = "kind: User\nname: ada\n";
    let limit = "kind: Limit\nname: l\nsubject: {any: true}\n";
    let target = "kind: Target\nname: db\nprotocol: postgres\n";
    let provider = "kind: IdentityProvider\nname: corp\noidc:\n  issuer: https://corp.example\n  \
                    client_id: corral\n";
    let cases: &[(String, u64, u64, &str)] = &[
        (
            format!("{user}---\nkind: User\nname: bob\ngruops: [a]\n"),
            6,
            1,
            "unknown field `gruops`",
        ),
        ("kind: Usr\nname: ada\n".into(), 1, 7, "kind 'Usr' does not exist"),
        ("name: ada\n".into(), 1, 1, "has no kind"),
        (format!("{user}name: bob\n"), 3, 1, "duplicate"),
        (format!("{user}groups: [a b]\n"), 3, 10, "'a b' holds ' '"),
        (format!("{user}disabled: yes\n"), 3, 11, "bool"),
        (format!("{user}groups: &a [x]\n"), 3, 12, "anchors (&)"),
        ("kind: User\nname: Ada\n---\n<<: {a: b}\nkind: User\nname: x\n".into(), 4, 1, "erge"),
        (format!("{user}---\n{user}"), 4, 1, "stands twice"),
        (format!("{limit}session_ttl: 5 minutes\n"), 4, 14, "'5 minutes' is not a duration"),
        (format!("{limit}session_ttl: 0s\n"), 4, 14, "shorter than a second"),
        (limit.to_owned(), 2, 7, "limits nothing"),
        (format!("{limit}run: {{bytes_max: 1 parsec}}\n"), 4, 18, "not a size"),
        (format!("{limit}run:\n  ttl_max: 1ms\n"), 5, 12, "shorter than a second"),
        (format!("{limit}run: {{ttl: 1h}}\n"), 4, 7, "unknown field `ttl`"),
        ("kind: Limit\nname: l\nsubject: all\n".into(), 3, 1, "{group: NAME}"),
        ("kind: Limit\nname: l\nsubject: {grup: a}\n".into(), 3, 11, "unknown field `grup`"),
        (
            "kind: Limit\nname: l\nsubject: {group: a, user: b}\n".into(),
            3,
            10,
            "a subject is one of",
        ),
        (format!("{target}address: db\n"), 4, 10, "no port"),
        (format!("{target}address: db:1\nlisten: db:1\n"), 5, 9, "not an IP address"),
        (
            format!("{target}address: db:1\nclassify:\n  - {{columns: [ssn], class: a}}\n"),
            6,
            16,
            "schema.table.column",
        ),
        (format!("{target}address: /run/pg\nrelay: eu-1\n"), 5, 8, "not reached through a relay"),
        (format!("{target}address: db:1\ntls: {{mode: maybe}}\n"), 5, 13, "maybe"),
        ("kind: Policy\nname: p\ncedar: {flie: x}\n".into(), 3, 9, "unknown field `flie`"),
        (
            "kind: Target\nname: Orders\nprotocol: x\naddress: a:1\n".into(),
            2,
            7,
            "'Orders' holds 'O'",
        ),
        (format!("{user}provider: corp\npassword: {{value: x}}\n"), 4, 11, "has no password here"),
        ("kind: IdentityProvider\nname: corp\n".into(), 2, 7, "speaks nothing"),
        (format!("{provider}saml: {{metadata: x}}\n"), 6, 7, "both oidc and saml"),
        ("kind: IdentityProvider\nname: a/b\nsaml: {metadata: x}\n".into(), 2, 7, "of addresses"),
        (provider.replace("https://", "http://"), 4, 11, "not an https address"),
        (provider.replace("corp.example", "u@corp.example"), 4, 11, "not an https address"),
        (provider.replace("corp.example", "corp.example?x"), 4, 11, "not an https address"),
        (format!("{provider}  scopes: [email]\n"), 6, 11, "without openid"),
        (format!("{provider}  issuers: x\n"), 6, 3, "unknown field `issuers`"),
        (format!("{provider}sign_in: all\n"), 6, 10, "unknown variant `all`"),
        ("kind: User\nname: [\n".into(), 2, 7, "unclosed"),
        ("- kind: User\n".into(), 1, 1, ""),
        ("hello\n".into(), 1, 1, ""),
    ];
    let mut wrong: Vec<String> = Vec::new();
    for (text, line, column, part) in cases {
        let errors = parse(text, "f.yaml").expect_err(text);
        let [error] = errors.as_slice() else {
            wrong.push(format!("{text}\n  gives {errors:?}"));
            continue;
        };
        let is_right = (error.line, error.column) == (*line, *column) && error.text.contains(part);
        if !is_right {
            wrong.push(format!("{text}\n  gives {error}\n  not {line}:{column} {part}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_provider_on_loopback_needs_no_tls() {
    for issuer in ["http://127.0.0.1:9000", "http://localhost/a", "http://[::1]:1/x"] {
        let text = format!(
            "kind: IdentityProvider\nname: corp\noidc: {{issuer: '{issuer}', client_id: c}}\n"
        );
        assert!(parse(&text, "f.yaml").is_ok(), "{issuer}");
    }
    for issuer in
        ["http://127.0.0.1.example", "http://localhost@example", "http://[::1", "https:///x"]
    {
        let text = format!(
            "kind: IdentityProvider\nname: corp\noidc: {{issuer: '{issuer}', client_id: c}}\n"
        );
        assert!(parse(&text, "f.yaml").is_err(), "{issuer}");
    }
}

#[test]
fn every_faulty_document_of_a_file_is_named() {
    let text = "kind: User\nname: a b\n---\nkind: Nope\n---\nkind: User\nname: ok\n";
    let errors = parse(text, "f.yaml").expect_err("two faults");
    let lines: Vec<u64> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 4]);
}

#[test]
fn no_fault_shows_a_secret() {
    let user = "kind: User\nname: ada\n";
    let texts = [
        format!("{user}password: hunter2hunter2\n"),
        format!("{user}password: 770077007700\n"),
        format!("{user}password: {{value: 770077007700}}\n"),
        format!("{user}password: {{value: [hunter2hunter2]}}\n"),
        format!("{user}password: {{value: {{hunter2hunter2: 1}}}}\n"),
        format!("{user}password: {{hunter2hunter2: x}}\n"),
        format!("{user}password: {{value: hunter2hunter2, value: b}}\n"),
        format!("{user}password: {{value: hunter2hunter2}}\nx: 1\n"),
        format!("{user}password: {{value: \"hunter2hunter2}}\n"),
        format!("{user}password: [hunter2hunter2]\n"),
    ];
    for text in texts {
        let errors = parse(&text, "f.yaml").expect_err(&text);
        let shown: String = errors.iter().map(|e| format!("{e} {e:?}")).collect();
        assert!(!shown.contains("hunter2") && !shown.contains("7700"), "{text}: {shown}");
    }
    let sound = parse(&format!("{user}password: {{value: hunter2}}\n"), "f").expect("reads");
    assert!(!format!("{sound:?}").contains("hunter2"));
}

#[test]
fn hostile_files_are_refused_quickly() {
    let brackets = "[".repeat(100_000);
    let nested = format!("kind: User\nname: {brackets}");
    let long = " ".repeat(corral_model::limits::MANIFEST_BYTES_MAX + 1);
    let bomb = "a: &a [x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\nkind: User\n".to_owned();
    let wide = format!("kind: User\nname: a\ngroups: [{}]\n", "a,".repeat(60_000));
    let lines = "kind: User\n".repeat(10_000);
    for text in [nested, long, bomb, wide, lines, "\0".to_owned(), "\u{feff}x".to_owned()] {
        assert!(parse(&text, "f.yaml").is_err());
    }
    assert_eq!(parse("", "f.yaml").expect("empty"), []);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<(), TestCaseError> {
        let lines = text.split('\n').count() as u64;
        match parse(text, "f.yaml") {
            Ok(resources) => {
                for resource in resources {
                    let yaml = to_yaml(&resource).expect("writes");
                    let again = parse(&yaml, "again.yaml");
                    prop_assert_eq!(again, Ok(vec![resource]), "{}", yaml);
                }
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(error.line <= lines + 1, "{} in {:?}", error, text);
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\\n]{0,200}|\\PC{0,80}") {
            check(&text)?;
        }

        #[test]
        fn a_sound_manifest_with_a_changed_place_is_read_or_refused(
            place in 0..EVERY_KIND.len(),
            len in 0_usize..8,
            put in "[ -~\\n]{0,6}",
        ) {
            let end = (place + len).min(EVERY_KIND.len());
            let mut text = EVERY_KIND.to_owned();
            text.replace_range(place..end, &put);
            check(&text)?;
        }

        #[test]
        fn every_text_of_a_name_label_or_policy_is_written_so_that_it_reads_back(
            username in "\\PC{1,20}",
            cedar in "[ -~\\n\\t#:é]{1,60}",
        ) {
            let mut resources = parse(EVERY_KIND, "all.yaml").expect("reads");
            if let Some(Resource::Target(target)) = resources.get_mut(0) {
                target.database = Some(username);
            }
            if let Some(Resource::Policy(policy)) = resources.get_mut(3) {
                policy.cedar = TextSource::Inline(cedar);
            }
            for resource in resources.into_iter().filter(|r| validate(r).is_empty()) {
                let yaml = to_yaml(&resource).expect("writes");
                let again = parse(&yaml, "again.yaml");
                prop_assert_eq!(again, Ok(vec![resource]), "{}", yaml);
            }
        }
    }
}
