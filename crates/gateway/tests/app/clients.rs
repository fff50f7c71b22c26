//! What clients are told, and who may ask for it.

use std::time::Duration;

use corral_gateway::app::{AppError, Caller};
use corral_identity::Token;
use corral_model::limits;
use corral_model::native::{Lifetime, Listener};

use crate::support::{World, run_named};

fn targets(world: &World, caller: &Caller) -> Vec<String> {
    let facts = world.app().client_facts(caller, Lifetime::Process);
    let postgres = facts.into_iter().find(|facts| facts.protocol == "postgres");
    let reach = postgres.expect("is listened for").reach;
    assert_eq!(reach.listener, Listener::Shared);
    reach.targets.into_iter().map(|target| target.name).collect()
}

#[tokio::test]
async fn a_caller_is_led_to_the_targets_that_it_may_use() {
    let world = World::start().await;
    let both = ["orders-db", "other-db"];
    assert_eq!(targets(&world, &world.user("ada").await), both);
    assert_eq!(targets(&world, &world.user("eve").await), [""; 0], "policy lets eve nowhere");
    let mut ask = run_named("narrow");
    ask.targets = vec!["other-db".to_owned()];
    let nightly = world.workload("nightly").await;
    let (_, run) = world.run(&nightly, ask).await.expect("starts");
    assert_eq!(targets(&world, &run), ["other-db"]);
    let facts = world.app().connect_facts(&run, "other-db", Lifetime::Kept).expect("is known");
    assert_eq!(facts.reach.lifetime, Lifetime::Kept);
    assert_eq!(facts.reach.named_target().map(|target| target.username.as_str()), Some("svc"));
}

#[tokio::test]
async fn credentials_are_for_those_who_open_sessions() {
    let world = World::start().await;
    let digest = Token::generate().expect("random").digest();
    let ask = async |caller: &Caller, protocol: &str, material: &str| {
        world.app().issue_credential(caller, digest, protocol, material.to_owned()).await
    };
    let ada = world.user("ada").await;
    assert!(matches!(ask(&Caller::Admin, "postgres", "x").await, Err(AppError::Denied(_))));
    assert!(matches!(ask(&ada, "postgres", "x").await, Err(AppError::Invalid(_))));
    assert!(matches!(ask(&ada, "gopher", "x").await, Err(AppError::NotFound { .. })));
    let large = "x".repeat(limits::CREDENTIAL_BYTES_MAX + 1);
    assert!(matches!(ask(&ada, "postgres", &large).await, Err(AppError::Invalid(_))));
}

/// Somebody's public key.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILNqVyOB/R5LQ4AXAqh+5woQXpXLO0lansohUm0xIGJW";

#[tokio::test]
async fn a_credential_outlives_neither_its_run_nor_five_minutes() {
    let world = World::start().await;
    let nightly = world.workload("nightly").await;
    let ask = async |ttl_s: u64, material: &str| {
        let mut ask = run_named("short");
        ask.ttl = Some(Duration::from_secs(ttl_s));
        let (started, run) = world.run(&nightly, ask).await.expect("starts");
        let token = Token::parse(started.token.reveal()).expect("a token").digest();
        world.app().issue_credential(&run, token, "ssh", material.to_owned()).await
    };
    let long = ask(3600, KEY).await.expect("is issued");
    assert!(long.credential.starts_with("ssh-ed25519-cert-v01@openssh.com AAAA"));
    assert_eq!(long.ttl, limits::CLIENT_CREDENTIAL_TTL);
    let short = ask(20, KEY).await.expect("is issued");
    assert!(short.ttl <= Duration::from_secs(20), "{:?}", short.ttl);
    assert!(matches!(ask(60, "no key").await, Err(AppError::Invalid(_))));
    assert!(matches!(ask(60, "").await, Err(AppError::Invalid(_))));
}

#[tokio::test]
async fn a_host_that_would_break_a_line_is_refused() {
    let world = World::start().await;
    let told = world.app().published("ssh", "gate.example", 22).await.expect("is published");
    assert!(told.clients.starts_with("gate.example ssh-ed25519 AAAA"), "{}", told.clients);
    assert!(told.targets.expect("an authority").starts_with("ssh-ed25519 AAAA"));
    let long = "x".repeat(limits::HOST_BYTES_MAX + 1);
    for host in ["", "a b", "a\nb", "a,b", "*", long.as_str()] {
        let refused = world.app().published("ssh", host, 22).await;
        assert!(matches!(refused, Err(AppError::Invalid(_))), "{host:?}");
    }
}

#[tokio::test]
async fn only_the_administrator_sees_what_a_target_presents() {
    let world = World::start().await;
    let ada = world.user("ada").await;
    let presents =
        async |caller: &Caller, name: &str| world.app().target_presents(caller, name).await;
    assert!(matches!(presents(&ada, "orders-db").await, Err(AppError::Denied(_))));
    assert!(matches!(presents(&Caller::Admin, "nowhere").await, Err(AppError::NotFound { .. })));
    let told = presents(&Caller::Admin, "orders-db").await.expect_err("has no keys");
    assert!(told.to_string().contains("no keys of its own"), "{told}");
}
