//! The end of somebody's standing: once, whole, and also when the gateway dies in between.

use std::path::Path;
use std::time::Duration;

use crate::support::{World, run_named, start_in};
use corral_gateway::app::audit::EventFilter;
use corral_gateway::app::resources::ApplyOptions;
use corral_gateway::app::runs::RunFilter;
use corral_gateway::app::{App, AppError, Caller};
use corral_gateway::{Gateway, UpOptions};
use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::resource::{ExternalIdentity, Resource, UserSpec, manifest};
use corral_model::token::{TokenDigest, TokenPurpose};
use corral_model::{
    EventBody, OffboardCause, OffboardEffect, Offboarding, Principal, Secret, limits,
};
use corral_store::{Apply, Change, Put, SealSource, Store, TokenRow};
use time::OffsetDateTime;

fn name(text: &str) -> PrincipalName {
    PrincipalName::new(text).expect("a name")
}

fn offboarding(person: &str, effect: OffboardEffect, cause: OffboardCause) -> Offboarding {
    Offboarding { person: name(person), effect, cause, by: "corp".to_owned() }
}

/// What was recorded of people who lost their standing.
async fn ends(app: &App) -> Vec<EventBody> {
    let filter = EventFilter { event: Some("principal.".to_owned()), ..EventFilter::default() };
    let found = app.search_events(&Caller::Admin, filter).await.expect("reads");
    let is_end = |body: &EventBody| {
        matches!(body, EventBody::PrincipalDisabled { .. } | EventBody::PrincipalSuspended { .. })
    };
    found.into_iter().map(|event| event.body).filter(is_end).collect()
}

fn shown_user(app: &App, user: &str) -> serde_json::Value {
    app.show_resource(&Caller::Admin, "user", user).expect("is there").spec
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offboarding_is_done_once_however_often_it_is_asked_for() {
    let world = World::start().await;
    let (run, _) = world.root_run().await;
    let _session = world.connect(&run.token, "orders-db").await.expect("let in");
    let ask = || offboarding("ada", OffboardEffect::Suspended, OffboardCause::Logout);
    let ended = world.app().offboard(ask()).await.expect("done");
    assert_eq!((ended.runs_ended, ended.sessions_closed), (1, 1));
    let (one, two) = tokio::join!(world.app().offboard(ask()), world.app().offboard(ask()));
    assert_eq!(one.expect("done").runs_ended + two.expect("done").runs_ended, 0);
    let expect = EventBody::PrincipalSuspended {
        name: "ada".to_owned(),
        by: "corp".to_owned(),
        cause: OffboardCause::Logout,
        runs_ended: 1,
        sessions_closed: 1,
    };
    assert_eq!(ends(world.app()).await, [expect]);
    assert_eq!(shown_user(world.app(), "ada")["suspended"], "logout");
    world.user("ada").await;
    assert!(shown_user(world.app(), "ada").get("suspended").is_none(), "a good sign-in ends it");
    let nobody = offboarding("nobody", OffboardEffect::Disabled, OffboardCause::Scim);
    assert!(matches!(world.app().offboard(nobody).await, Err(AppError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_by_hand_is_given_back_by_hand_only() {
    let world = World::start().await;
    let app = world.app();
    let by_scim = || offboarding("ada", OffboardEffect::Disabled, OffboardCause::Scim);
    app.offboard(by_scim()).await.expect("done");
    app.reinstate(&name("ada"), OffboardCause::Scim, "corp").await.expect("done");
    world.user("ada").await;

    app.offboard(by_scim()).await.expect("done");
    app.disable_user(&Caller::Admin, "ada").await.expect("done");
    app.offboard(by_scim()).await.expect("done");
    app.reinstate(&name("ada"), OffboardCause::Scim, "corp").await.expect("changes nothing");
    assert_eq!(shown_user(app, "ada")["disabled_cause"], "by_hand");
    let password = || Secret::new("ada-password".into());
    assert!(app.sign_in_user("ada", password()).await.is_err());
    app.enable_user(&Caller::Admin, "ada").await.expect("done");
    app.sign_in_user("ada", password()).await.expect("is somebody again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_disables_ends_the_tokens_too() {
    let world = World::start().await;
    let token = world.app().sign_in_user("eve", Secret::new("eve-password".into())).await;
    let token = token.expect("signs in").token;
    world.apply("kind: User\nname: eve\ngroups: [ops]\ndisabled: true\n").await.expect("applied");
    world.apply("kind: User\nname: eve\ngroups: [ops]\n").await.expect("applied");
    world.user("eve").await;
    assert!(world.app().authenticate(&token).await.is_err(), "the old token stays dead");
    assert_eq!(ends(world.app()).await.len(), 1);
}

/// Leaves what a gateway leaves that died right after the new state was stored.
async fn die_after_the_state_was_stored(directory: &Path, offboarded: Offboarding) {
    let data = directory.join("data");
    let seal = SealSource::File(data.join("seal.key"));
    let store = Store::open(&data.join("corral.db"), &seal).await.expect("opens");
    let (_, resources) = store.snapshot().await.expect("reads");
    let user = resources.into_iter().find_map(|resource| match resource {
        Resource::User(user) if user.name == offboarded.person => Some(user),
        _ => None,
    });
    let mut user = user.expect("is there");
    user.disabled = true;
    user.disabled_by = Some(offboarded.by.clone());
    user.disabled_cause = Some(offboarded.cause);
    let apply = Apply {
        changes: vec![Change::Put(Box::new(Put::new(Resource::User(user))))],
        expected: None,
        by: offboarded.by.clone(),
        at: OffsetDateTime::now_utc(),
        offboardings: vec![offboarded],
        documents: Vec::new(),
    };
    store.apply(apply).await.expect("applies");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_died_in_between_completes_it_at_its_start() {
    let World { directory, gateway } = World::start().await;
    let app = gateway.app().clone();
    let signed_in = app.sign_in_user("ada", Secret::new("ada-password".into())).await;
    let token = signed_in.expect("signs in").token;
    let caller = app.authenticate(&token).await.expect("valid");
    app.start_run(&caller, run_named("mine")).await.expect("starts");
    drop(app);
    gateway.stop().await.expect("stops");
    let offboarded = offboarding("ada", OffboardEffect::Disabled, OffboardCause::Scim);
    die_after_the_state_was_stored(directory.path(), offboarded).await;

    for _ in 0..2 {
        let gateway = start_in(directory.path()).await;
        let app = gateway.app().clone();
        let expect = EventBody::PrincipalDisabled {
            name: "ada".to_owned(),
            by: "corp".to_owned(),
            cause: Some(OffboardCause::Scim),
            runs_ended: 1,
            sessions_closed: 0,
        };
        assert_eq!(ends(&app).await, [expect], "once, also after the second start");
        app.enable_user(&Caller::Admin, "ada").await.expect("enabled");
        assert!(app.authenticate(&token).await.is_err(), "the old token stays dead");
        let runs = app.list_runs(&Caller::Admin, RunFilter::default()).await.expect("lists");
        assert!(runs.is_empty(), "{runs:?}");
        drop(app);
        gateway.stop().await.expect("stops");
    }
}

const PROVIDER: &str = "kind: IdentityProvider\nname: corp\noidc:\n  issuer: https://corp.example\n  \
                        client_id: corral\n  client_secret: {value: hunter2}\n  \
                        groups_claim: groups\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_writes_of_people_is_no_manifests_to_write() {
    let world = World::start().await;
    world.apply(PROVIDER).await.expect("applied");
    let shown = world.app().show_resource(&Caller::Admin, "identityprovider", "corp");
    assert!(!format!("{shown:?}").contains("hunter2"));
    let check = async |text: &str, expect: &str| {
        let error = world.apply(text).await.expect_err(text);
        let AppError::Invalid(problems) = &error else { panic!("{error:?}") };
        assert!(problems.iter().any(|p| p.to_string().contains(expect)), "{expect}: {error}");
    };
    let user = "kind: User\nname: zoe@example.com\n";
    check(&format!("{user}provider: nowhere\n"), "no identity provider 'nowhere'").await;
    check(&format!("{user}provider: corp\ngroups: [dba]\n"), "for 'corp' to say").await;
    check(&format!("{user}identity: {{provider: corp, subject: x}}\n"), "by the gateway").await;
    check(&format!("{user}suspended: logout\n"), "by the gateway").await;
    check(&format!("{user}disabled_cause: scim\n"), "by the gateway").await;
    let foreign = "kind: IdentityProvider\nname: x\nsaml: {metadata: {file: x}}\n";
    check(foreign, "the gateway reads no files").await;
    let moved = PROVIDER.replace("corp.example", "evil.example");
    let moved = moved.replace("  client_secret: {value: hunter2}\n", "");
    check(&moved, "oidc.client_secret must be given again").await;

    // A password that is still stored is of no use to whom a provider signs in.
    world.apply("kind: User\nname: eve\nprovider: corp\n").await.expect("applied");
    assert!(world.app().sign_in_user("eve", Secret::new("eve-password".into())).await.is_err());
    let needed = world.app().delete_resource(&Caller::Admin, "identityprovider", "corp").await;
    assert!(matches!(needed, Err(AppError::Invalid(_))), "{needed:?}");
    let none = manifest::parse(PROVIDER, "f").expect("readable");
    let options = ApplyOptions { dry_run: true, prune: true };
    let pruned = world.app().apply(&Caller::Admin, none, options).await.expect("fits");
    assert!(pruned.changes.iter().any(|change| change.name == "eve"), "she is not linked yet");
}

/// A user of a provider that nobody answers at, with a live login and a grant that the provider
/// has not answered for since then.
async fn signed_in_at_a_dead_provider(directory: &Path, unanswered_for: Duration) {
    let data = directory.join("data");
    let seal = SealSource::File(data.join("seal.key"));
    let store = Store::open(&data.join("corral.db"), &seal).await.expect("opens");
    let dead =
        "kind: IdentityProvider\nname: dead\noidc: {issuer: 'http://127.0.0.1:1', client_id: c}\n";
    let dead = manifest::parse(dead, "f").expect("readable").remove(0);
    let corp = ResourceName::new("dead").expect("a name");
    let mut lin = UserSpec::new(name("lin"));
    lin.identity = Some(ExternalIdentity { provider: corp.clone(), subject: Some("x".into()) });
    let put = |resource| Change::Put(Box::new(Put::new(resource)));
    let now = OffsetDateTime::now_utc();
    let apply = Apply {
        changes: vec![put(dead), put(Resource::User(lin))],
        expected: None,
        by: "test".to_owned(),
        at: now,
        offboardings: Vec::new(),
        documents: Vec::new(),
    };
    store.apply(apply).await.expect("applies");
    let token = TokenRow {
        digest: TokenDigest([9; 32]),
        purpose: TokenPurpose::Login(Principal::user(name("lin"))),
        created_at: now,
        expires_at: Some(now + Duration::from_secs(3600)),
        revoked_at: None,
    };
    store.insert_token(&token).await.expect("is kept");
    let long_ago = now - Duration::from_secs(100_000);
    let shown = Secret::new("refresh".to_owned());
    store.keep_grant(&name("lin"), &corp, Some(&shown), long_ago).await.expect("is kept");
    store.grant_unanswered(&name("lin"), now - unanswered_for).await.expect("is kept");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_for_too_long_counts_as_one_that_refused() {
    let almost = limits::IDENTITY_UNREACHABLE_MAX - Duration::from_secs(600);
    for (unanswered_for, is_suspended) in
        [(almost, false), (limits::IDENTITY_UNREACHABLE_MAX, true)]
    {
        let World { directory, gateway } = World::start().await;
        gateway.stop().await.expect("stops");
        let config = directory.path().join("corral.yaml");
        std::fs::write(&config, "identity_recheck_interval: 1s\n").expect("is written");
        signed_in_at_a_dead_provider(directory.path(), unanswered_for).await;
        let data_dir = Some(directory.path().join("data"));
        let options = UpOptions { config: Some(config), data_dir };
        let gateway = Gateway::start(options).await.expect("starts");
        let app = gateway.app().clone();
        let is_so = async || {
            let shown = shown_user(&app, "lin");
            shown.get("suspended").is_some_and(|cause| cause == "refresh_failed")
        };
        let asked = tokio::time::timeout(Duration::from_secs(4), async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(asked.await.is_ok(), is_suspended, "{unanswered_for:?}");
        drop(app);
        gateway.stop().await.expect("stops");
    }
}
