//! Grants and sessions at providers: sealed, newest only, gone with their person.

mod support;

use std::collections::BTreeSet;

use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::principal::Principal;
use corral_model::resource::ResourceKind;
use corral_model::secret::Secret;
use corral_model::token::{TokenDigest, TokenPurpose};
use corral_store::{Change, Store, TokenRow};
use support::{Place, apply, at, put, user};

fn ada() -> PrincipalName {
    PrincipalName::new("ada").expect("a name")
}

fn corp() -> ResourceName {
    ResourceName::new("corp").expect("a name")
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

async fn sign_in(store: &Store) {
    let token = TokenRow {
        digest: TokenDigest([1; 32]),
        purpose: TokenPurpose::Login(Principal::user(ada())),
        created_at: at(0),
        expires_at: Some(at(1000)),
        revoked_at: None,
    };
    store.insert_token(&token).await.expect("is kept");
}

#[tokio::test]
async fn only_people_with_a_live_login_are_due_and_the_newest_token_stays() {
    let place = Place::new();
    let store = place.open().await;
    let none = BTreeSet::new();
    store.apply(apply(vec![put(user("ada"))])).await.expect("applies");
    store.keep_grant(&ada(), &corp(), Some(&secret("first-hunter2")), at(0)).await.expect("kept");
    assert_eq!(store.grants_due(at(500), at(500), &none, 10).await.expect("reads"), []);
    sign_in(&store).await;
    let due = store.grants_due(at(500), at(500), &none, 10).await.expect("reads");
    assert_eq!(due[0].refresh_token, secret("first-hunter2"));
    let busy = BTreeSet::from([corp()]);
    assert_eq!(store.grants_due(at(500), at(500), &busy, 10).await.expect("reads"), []);
    assert_eq!(
        store.grants_due(at(-1), at(500), &none, 10).await.expect("reads"),
        [],
        "looked at since"
    );
    assert_eq!(
        store.grants_due(at(500), at(2000), &none, 10).await.expect("reads"),
        [],
        "login over"
    );

    let since = store.grant_unanswered(&ada(), at(10)).await.expect("written");
    let later = store.grant_unanswered(&ada(), at(20)).await.expect("written");
    assert_eq!((since, later), (at(10), at(10)));
    store.renew_grant(&due[0], Some(&secret("second-hunter2")), at(30)).await.expect("written");
    let renewed = store.grants_due(at(500), at(500), &none, 10).await.expect("reads");
    assert_eq!(renewed[0].refresh_token, secret("second-hunter2"));
    assert_eq!(renewed[0].failing_since, Some(at(10)), "a grant is not all that is asked after");
    store.grant_answered(&ada()).await.expect("written");
    let answered = store.grants_due(at(500), at(500), &none, 10).await.expect("reads");
    assert_eq!(answered[0].failing_since, None);
    assert!(store.holds_grant(&renewed[0]).await.expect("reads"));
    assert!(!store.holds_grant(&due[0]).await.expect("reads"));
    // A slow answer for an earlier token does not take the place of a newer one.
    store.renew_grant(&due[0], Some(&secret("late-hunter2")), at(40)).await.expect("ignored");
    let kept = store.grants_due(at(500), at(500), &none, 10).await.expect("reads");
    assert_eq!(kept[0].refresh_token, secret("second-hunter2"));

    let gone = Change::Delete { kind: ResourceKind::User, name: "ada".into() };
    store.apply(apply(vec![gone])).await.expect("applies");
    assert_eq!(store.grants_due(at(500), at(500), &none, 10).await.expect("reads"), []);
    store.close().await;
    for file in ["corral.db", "corral.db-wal"] {
        let bytes = std::fs::read(place.path(file)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{file}");
    }
}

#[tokio::test]
async fn a_session_at_a_provider_is_found_until_it_is_over() {
    let place = Place::new();
    let store = place.open().await;
    let keep = async |sid: &str, until: i64, now: i64| {
        store.keep_provider_session(&corp(), sid, &ada(), at(until), at(now)).await.expect("kept");
    };
    keep("one", 10, 0).await;
    let found = store.person_of_provider_session(&corp(), "one").await.expect("reads");
    assert_eq!(found, Some(ada()));
    keep("two", 30, 20).await;
    let found = store.person_of_provider_session(&corp(), "one").await.expect("reads");
    assert_eq!(found, None);
}
