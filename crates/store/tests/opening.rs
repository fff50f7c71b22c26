//! Files, modes, keys and settings.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use corral_model::Secret;
use corral_store::{SealError, SealKey, SealSource, Store, StoreError};
use support::{Place, apply, put, user};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn every_file_is_private() {
    let place = Place::new();
    let store = place.open().await;
    store.apply(apply(vec![put(user("ada"))])).await.expect("applies");
    for name in ["corral.db", "corral.db-wal", "corral.db-shm", "seal.key"] {
        assert_eq!(mode(&place.path(name)), 0o600, "{name}");
    }
    store.close().await;
    fs::set_permissions(place.path("corral.db"), Permissions::from_mode(0o644)).expect("chmod");
    place.open().await;
    assert_eq!(mode(&place.path("corral.db")), 0o600);
}

#[tokio::test]
async fn a_store_keeps_its_gateway_and_opens_again() {
    let place = Place::new();
    let store = place.open().await;
    let gateway = store.gateway().await.expect("a gateway");
    assert_eq!(gateway.id.len(), 16);
    assert_eq!(gateway.name, gateway.id);
    store.set_gateway_name("gw-1").await.expect("named");
    store.close().await;
    let again = place.open().await.gateway().await.expect("a gateway");
    assert_eq!((again.id, again.name.as_str()), (gateway.id, "gw-1"));
}

#[tokio::test]
async fn a_key_of_the_gateways_own_is_made_once() {
    let place = Place::new();
    let made = |text: &str| Secret::new(text.to_owned());
    {
        let store = place.open().await;
        assert_eq!(store.own_key("a", &made("1")).await.expect("is made"), made("1"));
        assert_eq!(store.own_key("a", &made("2")).await.expect("is there"), made("1"));
        assert_eq!(store.own_key("b", &made("3")).await.expect("is made"), made("3"));
    }
    let store = place.open().await;
    assert_eq!(store.own_key("a", &made("4")).await.expect("is there"), made("1"));
}

#[tokio::test]
async fn another_key_is_refused_at_the_start() {
    let place = Place::new();
    place.open().await.close().await;
    let other = SealSource::Key(SealKey::from_bytes([9; 32]));
    let refused = Store::open(&place.path("corral.db"), &other).await;
    assert!(matches!(refused, Err(StoreError::Seal(SealError::WrongKey))));
}

#[tokio::test]
async fn a_lost_key_is_not_replaced() {
    let place = Place::new();
    place.open().await.close().await;
    fs::remove_file(place.path("seal.key")).expect("removed");
    let refused = Store::open(&place.path("corral.db"), &place.seal()).await;
    assert!(matches!(refused, Err(StoreError::Seal(SealError::MissingKeyFile(_)))));
    assert!(!place.path("seal.key").exists());
}

#[tokio::test]
async fn a_key_that_others_can_read_or_that_is_cut_is_refused() {
    let place = Place::new();
    place.open().await.close().await;
    let key = place.path("seal.key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).expect("chmod");
    let refused = Store::open(&place.path("corral.db"), &place.seal()).await;
    assert!(matches!(refused, Err(StoreError::Seal(SealError::OpenToOthers { .. }))));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("chmod");
    fs::write(&key, "c2hvcnQ=\n").expect("written");
    let refused = Store::open(&place.path("corral.db"), &place.seal()).await;
    assert!(matches!(refused, Err(StoreError::Seal(SealError::BadKeyFile(_)))));
}

#[tokio::test]
async fn the_key_file_opens_as_the_environment_key() {
    let place = Place::new();
    place.open().await.close().await;
    let text = fs::read_to_string(place.path("seal.key")).expect("a key");
    let source = SealSource::choose(Some(&text), place.path("unused")).expect("a key");
    Store::open(&place.path("corral.db"), &source).await.expect("opens");
    assert!(!place.path("unused").exists());
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let place = Place::new();
    fs::write(place.path("corral.db"), "this is not a database, it is only a text file")
        .expect("written");
    assert!(Store::open(&place.path("corral.db"), &place.seal()).await.is_err());
    let nowhere = place.path("no-such-directory").join("corral.db");
    let refused = Store::open(&nowhere, &place.seal()).await;
    assert!(matches!(refused, Err(StoreError::File { .. })));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let place = Place::new();
    place.open().await.close().await;
    let url = format!("sqlite://{}", place.path("corral.db").display());
    let hand = sqlx::SqlitePool::connect(&url).await.expect("connects");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of tomorrow', TRUE, x'00', 0)",
    )
    .execute(&hand)
    .await
    .expect("written");
    hand.close().await;
    let refused = Store::open(&place.path("corral.db"), &place.seal()).await;
    assert!(matches!(refused, Err(StoreError::Migration { .. })));
}

#[tokio::test]
async fn a_closed_store_refuses_everything() {
    let place = Place::new();
    let store = place.open().await;
    store.close().await;
    let refused = store.apply(apply(vec![put(user("ada"))])).await;
    assert!(matches!(refused, Err(StoreError::Database { .. })));
    assert!(store.resources(None).await.is_err());
}

/// After a kill without any goodbye: what was acknowledged is there.
#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let place = Place::new();
    let store = place.open().await;
    store.apply(apply(vec![put(user("ada"))])).await.expect("applies");
    let crashed = Place::new();
    for name in ["corral.db", "corral.db-wal", "seal.key"] {
        fs::copy(place.path(name), crashed.path(name)).expect("copied");
    }
    let found = crashed.open().await.resources(None).await.expect("reads");
    assert_eq!(found, [user("ada")]);
}
