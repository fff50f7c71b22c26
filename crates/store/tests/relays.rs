//! Join tokens are good once and not for long; certificates end with their relay.

mod support;

use corral_model::resource::ResourceKind;
use corral_model::token::TokenDigest;
use corral_store::{Change, JoinToken, JoinVerdict, RelayCertificateRow, Store};
use support::{Place, apply, at, put, resource};

const DIGEST: TokenDigest = TokenDigest([7; 32]);

fn token(digest: TokenDigest) -> JoinToken {
    JoinToken { digest, relay: "eu-1".into(), created_at: at(0), expires_at: at(60) }
}

fn certificate(serial: &str) -> RelayCertificateRow {
    RelayCertificateRow {
        serial: serial.into(),
        relay: "eu-1".into(),
        issued_at: at(0),
        expires_at: at(3600),
        revoked_at: None,
    }
}

async fn revoked(store: &Store, serial: &str) -> bool {
    let row = store.relay_certificate(serial).await.expect("reads").expect("is there");
    row.revoked_at.is_some()
}

#[tokio::test]
async fn a_join_token_is_good_once() {
    let place = Place::new();
    let store = place.open().await;
    store.insert_join_token(&token(DIGEST)).await.expect("written");
    let relay = "eu-1".to_owned();
    let both =
        tokio::join!(store.use_join_token(&DIGEST, at(1)), store.use_join_token(&DIGEST, at(1)));
    let mut both = [both.0.expect("answers"), both.1.expect("answers")];
    both.sort_by_key(|verdict| matches!(verdict, JoinVerdict::Replayed { .. }));
    let expect = [
        JoinVerdict::Joins { relay: relay.clone() },
        JoinVerdict::Replayed { relay: relay.clone() },
    ];
    assert_eq!(both, expect);
    let later = store.use_join_token(&DIGEST, at(100)).await.expect("answers");
    assert_eq!(later, JoinVerdict::Replayed { relay });
}

#[tokio::test]
async fn a_join_token_that_is_late_or_unknown_is_worth_nothing() {
    let place = Place::new();
    let store = place.open().await;
    store.insert_join_token(&token(DIGEST)).await.expect("written");
    let late = store.use_join_token(&DIGEST, at(60)).await.expect("answers");
    assert_eq!(late, JoinVerdict::Expired { relay: "eu-1".into() });
    let other = store.use_join_token(&TokenDigest([8; 32]), at(1)).await.expect("answers");
    assert_eq!(other, JoinVerdict::Unknown);
}

#[tokio::test]
async fn a_relay_that_is_revoked_has_neither_certificates_nor_tokens() {
    let place = Place::new();
    let store = place.open().await;
    store.insert_join_token(&token(DIGEST)).await.expect("written");
    store.insert_relay_certificate(&certificate("0a")).await.expect("written");
    store.insert_relay_certificate(&certificate("0b")).await.expect("written");
    assert!(store.insert_relay_certificate(&certificate("0a")).await.is_err(), "one each");
    assert!(!revoked(&store, "0a").await);
    assert_eq!(store.revoke_relay("us-1", at(1)).await.expect("written"), 0);
    assert_eq!(store.revoke_relay("eu-1", at(1)).await.expect("written"), 2);
    assert!(revoked(&store, "0a").await && revoked(&store, "0b").await);
    let joins = store.use_join_token(&DIGEST, at(2)).await.expect("answers");
    assert_eq!(joins, JoinVerdict::Unknown);
}

#[tokio::test]
async fn a_relay_of_the_same_name_inherits_nothing() {
    let place = Place::new();
    let store = place.open().await;
    let relay = resource("kind: Relay\nname: eu-1\naddresses: [db.internal:5432]\n");
    store.apply(apply(vec![put(relay.clone())])).await.expect("applied");
    store.insert_join_token(&token(DIGEST)).await.expect("written");
    store.insert_relay_certificate(&certificate("0a")).await.expect("written");
    let gone = Change::Delete { kind: ResourceKind::Relay, name: "eu-1".into() };
    store.apply(apply(vec![gone])).await.expect("deleted");
    store.apply(apply(vec![put(relay)])).await.expect("applied again");
    assert!(store.relay_certificate("0a").await.expect("reads").is_none());
    let joins = store.use_join_token(&DIGEST, at(1)).await.expect("answers");
    assert_eq!(joins, JoinVerdict::Unknown);
}
