//! Who gets in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corral_model::TokenDigest;
use corral_protocol_ssh::Ssh;
use corral_session::{IssueRequest, StreamEngine};
use russh::keys::{Certificate, PrivateKeyWithHashAlg};

use crate::gateway::allow;
use crate::target::key;
use crate::world::{Person, World, run};

async fn certificate(world: &World, material: &str) -> Certificate {
    let asked = IssueRequest {
        token: TokenDigest([1; 32]),
        name: "planner".into(),
        material: material.to_owned(),
        ttl_max: Duration::from_secs(60),
    };
    let issued = Ssh::new().issue(world.authority.as_ref(), &asked).await.expect("issued");
    Certificate::from_openssh(&issued.credential).expect("a certificate")
}

#[tokio::test]
async fn a_certificate_of_the_gateway_lets_in_whoever_has_its_key() {
    let world = World::new(allow).await;
    let own = Arc::new(key(1));
    let line = own.public_key().to_openssh().expect("a line");
    let certificate = certificate(&world, &line).await;

    let mut thief = world.connect(Person::default()).await;
    let stolen = thief
        .authenticate_openssh_cert("deploy@t", Arc::new(key(2)), certificate.clone())
        .await
        .expect("an answer");
    assert!(!stolen.success());

    let mut client = world.connect(Person::default()).await;
    let answer =
        client.authenticate_openssh_cert("deploy@t", own, certificate).await.expect("an answer");
    assert!(answer.success());
    assert_eq!(run(&client, "true").await.status, Some(0));
}

#[tokio::test]
async fn plain_keys_are_refused() {
    let world = World::new(allow).await;
    let mut client = world.connect(Person::default()).await;
    let plain = PrivateKeyWithHashAlg::new(Arc::new(key(1)), None);
    let answer = client.authenticate_publickey("deploy@t", plain).await.expect("an answer");
    assert!(!answer.success());
    assert_eq!(world.target.seen.passwords.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn wrong_tokens_and_names_are_told_why_and_run_out() {
    let world = World::new(allow).await;
    let person = Person::default();
    let mut client = world.connect(person.clone()).await;
    for (user, token) in [("deploy@t", "bad"), ("deploy", "good"), ("deploy@t", "")] {
        let answer = client.authenticate_password(user, token).await.expect("an answer");
        assert!(!answer.success(), "{user}");
    }
    let banners = person.0.lock().expect("no panic holds it").clone();
    assert_eq!(banners.matches("corral: ").count(), 3, "{banners}");
    assert!(banners.contains("LOGIN@TARGET"), "{banners}");
    let answer = client.authenticate_password("deploy@t", "good").await;
    assert!(!answer.is_ok_and(|answer| answer.success()), "the fourth is not asked");
    assert_eq!(world.target.seen.passwords.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn another_login_than_the_targets_is_refused() {
    let world = World::new(allow).await;
    let person = Person::default();
    let mut client = world.connect(person.clone()).await;
    let answer = client.authenticate_password("root@t", "good").await.expect("an answer");
    assert!(!answer.success());
    assert!(person.0.lock().expect("no panic holds it").contains("options.logins"));
    assert_eq!(world.target.seen.passwords.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_target_with_another_host_key_never_sees_the_password() {
    let other = key(5).public_key().to_openssh().expect("a line");
    let world = World::with_pin(allow, Some(other)).await;
    let person = Person::default();
    let mut client = world.connect(person.clone()).await;
    let answer = client.authenticate_password("deploy@t", "good").await.expect("an answer");
    assert!(!answer.success());
    assert!(person.0.lock().expect("no panic holds it").contains("another host key"));
    assert_eq!(world.target.seen.passwords.load(Ordering::Relaxed), 0);
}
