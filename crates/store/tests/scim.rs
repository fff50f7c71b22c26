//! Documents of providers: kept with the people that they describe, or not at all.

mod support;

use corral_model::ids::ResourceName;
use corral_model::resource::ResourceKind;
use corral_store::{Apply, Change, ScimChange, ScimRow, StoreError};
use serde_json::json;
use support::{Place, apply, at, put, resource, user};

fn corp() -> ResourceName {
    ResourceName::new("corp").expect("a name")
}

fn row(id: &str, version: u64) -> ScimRow {
    ScimRow {
        provider: corp(),
        id: id.to_owned(),
        kind: "User".to_owned(),
        version,
        created_at: at(1),
        modified_at: at(i64::try_from(version).unwrap_or_default()),
        body: json!({"userName": id}).as_object().cloned().unwrap_or_default(),
    }
}

fn kept(row: &ScimRow) -> ScimChange {
    ScimChange::Put(Box::new(row.clone()))
}

#[tokio::test]
async fn a_document_is_kept_with_its_person_and_read_back() {
    let place = Place::new();
    let store = place.open().await;
    let documents = vec![kept(&row("ada", 1)), kept(&row("bob", 1))];
    store.apply(Apply { documents, ..apply(vec![put(user("ada"))]) }).await.expect("applies");
    assert_eq!(store.scim_documents().await.expect("reads"), [row("ada", 1), row("bob", 1)]);
    let gone = ScimChange::Delete { provider: corp(), id: "bob".to_owned() };
    store.change_scim_documents(&[kept(&row("ada", 2)), gone]).await.expect("is kept");
    assert_eq!(store.scim_documents().await.expect("reads"), [row("ada", 2)]);
}

#[tokio::test]
async fn a_refused_change_keeps_no_document() {
    let place = Place::new();
    let store = place.open().await;
    let missing = Change::Delete { kind: ResourceKind::User, name: "nobody".to_owned() };
    let change = Apply { documents: vec![kept(&row("ada", 1))], ..apply(vec![missing]) };
    let error = store.apply(change).await.expect_err("is refused");
    assert!(matches!(error, StoreError::NoSuchResource { .. }), "{error}");
    assert_eq!(store.scim_documents().await.expect("reads"), []);
}

#[tokio::test]
async fn a_provider_that_is_deleted_takes_its_documents_with_it() {
    let place = Place::new();
    let store = place.open().await;
    let provider = resource(
        "kind: IdentityProvider\nname: corp\n\
         oidc: {issuer: 'https://idp.example', client_id: corral}\nscim: {}\n",
    );
    let documents = vec![kept(&row("ada", 1))];
    store.apply(Apply { documents, ..apply(vec![put(provider)]) }).await.expect("applies");
    let gone = Change::Delete { kind: ResourceKind::IdentityProvider, name: "corp".to_owned() };
    store.apply(apply(vec![gone])).await.expect("applies");
    assert_eq!(store.scim_documents().await.expect("reads"), []);
}

#[tokio::test]
async fn what_was_taken_once_is_known() {
    let place = Place::new();
    let store = place.open().await;
    assert!(!store.was_taken("event corp", "j-1").await.expect("reads"));
    assert!(store.once("event corp", "j-1", at(10), at(1)).await.expect("is kept"));
    assert!(store.was_taken("event corp", "j-1").await.expect("reads"));
    assert!(!store.was_taken("event other", "j-1").await.expect("reads"));
    assert!(!store.once("event corp", "j-1", at(10), at(1)).await.expect("is kept"));
}
