//! Applying: all or nothing, without showing a secret, with every problem named.

use crate::support::{MANIFEST, World};
use corral_gateway::app::resources::{ApplyOptions, ChangeKind};
use corral_gateway::app::{AppError, Caller};
use corral_model::resource::manifest;

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_together_changes_nothing_and_is_named() {
    let world = World::start().await;
    let check = async |text: &str, expect: &str| {
        let good = "kind: User\nname: carol\n---\n";
        let error = world.apply(&format!("{good}{text}")).await.expect_err(text);
        let AppError::Invalid(problems) = &error else { panic!("{error:?}") };
        assert!(problems.iter().any(|p| p.to_string().contains(expect)), "{expect}: {error}");
        let carol = world.app().show_resource(&Caller::Admin, "user", "carol");
        assert!(matches!(carol, Err(AppError::NotFound { .. })), "all or nothing");
    };
    check("kind: Workload\nname: job\nsponsor: nobody\n", "there is no user 'nobody'").await;
    check("kind: Workload\nname: ada\nsponsor: bob\n", "same name").await;
    check("kind: Target\nname: t\nprotocol: telnet\naddress: h:1\n", "telnet").await;
    check("kind: Target\nname: t\nprotocol: postgres\naddress: h:1\n", "credential").await;
    let listen = |name: &str| {
        format!(
            "kind: Target\nname: {name}\nprotocol: postgres\naddress: h:1\ncredential: \
             {{username: u}}\nlisten: 127.0.0.1:5999\n---\n"
        )
    };
    check(&format!("{}{}", listen("a"), listen("b")), "also the listener of target 'a'").await;
    check("kind: Limit\nname: l\nsubject: {user: nobody}\nsessions_max: 1\n", "'nobody'").await;
    check("kind: Policy\nname: p\ncedar: 'permit (nonsense'\n", "line 1, column").await;
    check("kind: User\nname: dora\npassword: {env: HOME}\n", "reads no variables").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_kept_when_it_is_absent_and_never_shown() {
    let world = World::start().await;
    let resources = manifest::parse(MANIFEST, "test.yaml").expect("readable");
    let without: Vec<_> = resources.iter().cloned().map(|r| r.without_secrets()).collect();
    let options = ApplyOptions { dry_run: true, prune: false };
    let applied = world.app().apply(&Caller::Admin, without, options).await.expect("fits");
    assert!(applied.changes.iter().all(|change| change.change == ChangeKind::Unchanged));
    world.user("ada").await;

    let applied = world.app().apply(&Caller::Admin, resources, options).await.expect("fits");
    let shown = format!("{applied:?}");
    for secret in ["target-password", "ada-password", "nightly-secret"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    for kind in ["target", "user", "workload"] {
        let views = world.app().list_resources(&Caller::Admin, kind).expect("listed");
        let shown = format!("{views:?}");
        assert!(!shown.contains("password\""), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_deletes_what_is_not_named_and_a_needed_resource_stays() {
    let world = World::start().await;
    let needed = world.app().delete_resource(&Caller::Admin, "user", "ada").await;
    assert!(matches!(needed, Err(AppError::Invalid(_))), "{needed:?}");
    let few = manifest::parse("kind: User\nname: ada\ngroups: [dba]\n", "f").expect("readable");
    let options = ApplyOptions { dry_run: false, prune: true };
    let applied = world.app().apply(&Caller::Admin, few, options).await.expect("applied");
    let deleted = applied.changes.iter().filter(|c| c.change == ChangeKind::Deleted).count();
    assert_eq!(deleted, 6);
    assert_eq!(world.app().list_resources(&Caller::Admin, "target").expect("listed").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_administrator_changes_and_others_see_their_targets() {
    let world = World::start().await;
    let ada = world.user("ada").await;
    let denied = world.app().apply(&ada, Vec::new(), ApplyOptions::default()).await;
    assert!(matches!(denied, Err(AppError::Denied(_))));
    let denied = world.app().disable_user(&ada, "bob").await;
    assert!(matches!(denied, Err(AppError::Denied(_))));
    assert!(matches!(world.app().list_resources(&ada, "user"), Err(AppError::Denied(_))));
    let targets = world.app().list_resources(&ada, "targets").expect("listed");
    assert_eq!(targets.len(), 2);
    assert!(targets.iter().all(|target| target.spec.get("address").is_none()));
    let eve = world.user("eve").await;
    assert_eq!(world.app().list_resources(&eve, "target").expect("listed").len(), 0);
}
