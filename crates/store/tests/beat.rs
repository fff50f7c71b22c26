//! A store that is no longer the store is noticed.

mod support;

use corral_store::StoreError;
use support::Place;

#[tokio::test]
async fn a_store_beats_until_another_file_stands_in_its_place() {
    let place = Place::new();
    let store = place.open().await;
    store.beat().await.expect("reads and writes");
    store.beat().await.expect("and again");
    let path = place.path("corral.db");
    std::fs::rename(&path, place.path("aside.db")).expect("renamed");
    assert!(matches!(store.beat().await, Err(StoreError::File { .. })), "it is gone");
    std::fs::write(&path, b"").expect("written");
    let error = store.beat().await.expect_err("another file");
    assert!(error.to_string().contains("another file stands in its place"), "{error}");
    std::fs::rename(place.path("aside.db"), &path).expect("renamed");
    store.beat().await.expect("it is back");
}
