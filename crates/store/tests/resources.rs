//! Configuration: whole or not at all, with its history and its secrets.

mod support;

use corral_model::ids::{PolicyVersion, PrincipalName, ResourceName, TargetName};
use corral_model::principal::Principal;
use corral_model::resource::{ProviderSecret, Resource, ResourceKind, WorkloadSecret};
use corral_model::secret::Secret;
use corral_model::token::{TokenDigest, TokenPurpose};
use corral_store::{
    Apply, Change, ChangeEffect, CredentialPurpose, Put, SealError, SecretChange, StoreError,
    TokenRow,
};
use support::{Place, apply, at, put, resource, target, user};

fn set(text: &str) -> SecretChange {
    SecretChange::Set(Secret::new(text.into()))
}

fn name(text: &str) -> TargetName {
    TargetName::new(text).expect("a name")
}

fn target_with_passwords(text: &str) -> Change {
    let put = Put {
        credential: set("own-hunter2"),
        masked_credential: set("floor-hunter2"),
        ..Put::new(target(text))
    };
    Change::Put(Box::new(put))
}

fn delete(kind: ResourceKind, name: &str) -> Change {
    Change::Delete { kind, name: name.into() }
}

#[tokio::test]
async fn each_change_makes_a_version_and_an_unchanged_one_makes_none() {
    let store = Place::new();
    let store = store.open().await;
    assert_eq!(store.config_version().await.expect("reads"), PolicyVersion(0));
    let both = || vec![put(user("ada")), put(target("orders-db"))];
    let first = store.apply(apply(both())).await.expect("applies");
    assert_eq!(first.version, PolicyVersion(1));
    let shown: Vec<String> = first.changes.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["created user/ada", "created target/orders-db"]);
    let again = store.apply(apply(both())).await.expect("applies");
    assert_eq!(again.version, PolicyVersion(1));
    assert!(again.changes.iter().all(|one| one.effect == ChangeEffect::Unchanged));
    let disabled = resource("kind: User\nname: ada\ndisabled: true\n");
    let changed = store.apply(apply(vec![put(disabled.clone())])).await.expect("applies");
    assert_eq!(changed.version, PolicyVersion(2));
    let (version, resources) = store.snapshot().await.expect("reads");
    assert_eq!((version, resources), (PolicyVersion(2), vec![target("orders-db"), disabled]));
    let history = store.config_changes(10).await.expect("reads");
    let versions: Vec<u64> = history.iter().map(|change| change.version.0).collect();
    assert_eq!(versions, [2, 1]);
    assert_eq!(history[0].by, "admin");
}

#[tokio::test]
async fn one_bad_change_undoes_all_of_them() {
    let store = Place::new();
    let store = store.open().await;
    store.apply(apply(vec![put(user("ada"))])).await.expect("applies");
    let changes = vec![
        target_with_passwords("orders-db"),
        delete(ResourceKind::User, "ada"),
        delete(ResourceKind::User, "nobody"),
    ];
    let refused = store.apply(apply(changes)).await.expect_err("nobody is there");
    assert_eq!(refused.to_string(), "User 'nobody' does not exist");
    let (version, resources) = store.snapshot().await.expect("reads");
    assert_eq!((version, resources), (PolicyVersion(1), vec![user("ada")]));
    let own = CredentialPurpose::Credential;
    assert_eq!(store.credential(&name("orders-db"), own).await.expect("reads"), None);
}

#[tokio::test]
async fn changes_checked_against_another_version_are_refused() {
    let store = Place::new();
    let store = store.open().await;
    let apply_at = |version: u64, user_name: &str| Apply {
        expected: Some(PolicyVersion(version)),
        ..apply(vec![put(user(user_name))])
    };
    store.apply(apply_at(0, "ada")).await.expect("applies");
    let refused = store.apply(apply_at(0, "bob")).await;
    assert!(matches!(refused, Err(StoreError::VersionMoved { .. })));
    store.apply(apply_at(1, "bob")).await.expect("applies");
}

#[tokio::test]
async fn of_many_racing_changes_to_one_version_exactly_one_wins() {
    let store = Place::new();
    let store = store.open().await;
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        racing.spawn(async move {
            let changes = vec![put(user(&format!("user{number}")))];
            let expected = Some(PolicyVersion(0));
            store.apply(Apply { expected, ..apply(changes) }).await.is_ok()
        });
    }
    let won = racing.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(store.resources(Some(ResourceKind::User)).await.expect("reads").len(), 1);
}

#[tokio::test]
async fn a_resource_named_twice_is_refused() {
    let store = Place::new();
    let store = store.open().await;
    let refused = store.apply(apply(vec![put(user("ada")), delete(ResourceKind::User, "ada")]));
    assert!(matches!(refused.await, Err(StoreError::ChangedTwice { .. })));
}

#[tokio::test]
async fn every_earlier_version_can_be_read() {
    let store = Place::new();
    let store = store.open().await;
    let policy = |text: &str| resource(&format!("kind: Policy\nname: p\ncedar: {text}\n"));
    store.apply(apply(vec![put(policy("one"))])).await.expect("applies");
    store.apply(apply(vec![put(policy("two")), put(user("ada"))])).await.expect("applies");
    store.apply(apply(vec![delete(ResourceKind::Policy, "p")])).await.expect("applies");
    store.apply(apply(vec![put(policy("four"))])).await.expect("applies");
    let expect: [(u64, Vec<Resource>); 6] = [
        (0, vec![]),
        (1, vec![policy("one")]),
        (2, vec![policy("two")]),
        (3, vec![]),
        (4, vec![policy("four")]),
        (99, vec![policy("four")]),
    ];
    for (version, policies) in expect {
        let found = store.resources_at(PolicyVersion(version), Some(ResourceKind::Policy)).await;
        assert_eq!(found.expect("reads"), policies, "version {version}");
    }
    assert_eq!(store.resources_at(PolicyVersion(3), None).await.expect("reads"), [user("ada")]);
}

#[tokio::test]
async fn credentials_come_back_and_go_with_their_target() {
    let store = Place::new();
    let store = store.open().await;
    let target_name = name("orders-db");
    let read = async |purpose: CredentialPurpose| {
        let found = store.credential(&target_name, purpose).await.expect("reads");
        found.map(|secret| secret.reveal().to_owned())
    };
    let (own, floor) = (CredentialPurpose::Credential, CredentialPurpose::MaskedCredential);
    store.apply(apply(vec![target_with_passwords("orders-db")])).await.expect("applies");
    assert_eq!(read(own).await.as_deref(), Some("own-hunter2"));
    assert_eq!(read(floor).await.as_deref(), Some("floor-hunter2"));

    store.apply(apply(vec![put(target("orders-db"))])).await.expect("applies");
    assert_eq!(read(own).await.as_deref(), Some("own-hunter2"), "kept");

    let one = Put { credential: set("next"), ..Put::new(target("orders-db")) };
    let applied = store.apply(apply(vec![Change::Put(Box::new(one))])).await.expect("applies");
    assert_eq!(applied.changes[0].effect, ChangeEffect::Changed);
    assert_eq!(read(own).await.as_deref(), Some("next"));

    let without_floor = resource(
        "kind: Target\nname: orders-db\nprotocol: postgres\naddress: db:5432\n\
         credential: {username: agents}\n",
    );
    store.apply(apply(vec![put(without_floor)])).await.expect("applies");
    assert_eq!(read(floor).await, None, "gone with its key in the spec");

    store.apply(apply(vec![delete(ResourceKind::Target, "orders-db")])).await.expect("applies");
    store.apply(apply(vec![put(target("orders-db"))])).await.expect("applies");
    assert_eq!(read(own).await, None, "a name that is given again inherits nothing");
}

#[tokio::test]
async fn a_renewed_credential_replaces_the_one_that_it_was_asked_with_and_no_other() {
    let store = Place::new();
    let store = store.open().await;
    let target_name = name("orders-db");
    let (own, floor) = (CredentialPurpose::Credential, CredentialPurpose::MaskedCredential);
    let secret = |text: &str| Secret::new(text.to_owned());
    let replace = async |before: &str, after: &str| {
        let pair = (&secret(before), secret(after));
        store.replace_credential(&target_name, own, pair).await.expect("writes")
    };
    assert!(!replace("own-hunter2", "new").await, "there is no target");
    store.apply(apply(vec![target_with_passwords("orders-db")])).await.expect("applies");
    assert!(!replace("floor-hunter2", "new").await, "it is another one");
    assert!(replace("own-hunter2", "new").await);
    assert!(!replace("own-hunter2", "newer").await, "somebody was faster");
    let read = store.credential(&target_name, own).await.expect("reads");
    assert_eq!(read, Some(secret("new")));
    let read = store.credential(&target_name, floor).await.expect("reads");
    assert_eq!(read, Some(secret("floor-hunter2")), "the other one stays");
}

#[tokio::test]
async fn a_kept_password_does_not_follow_its_target_elsewhere() {
    let store = Place::new();
    let store = store.open().await;
    let at_address = |address: &str, more: &str| {
        resource(&format!(
            "kind: Target\nname: orders-db\nprotocol: postgres\naddress: {address}\n\
             credential: {{username: agents}}\n{more}"
        ))
    };
    store.apply(apply(vec![put(at_address("db:5432", ""))])).await.expect("applies");
    store.apply(apply(vec![put(at_address("db:5433", ""))])).await.expect("without a password");
    let give = |resource: Resource| {
        Change::Put(Box::new(Put { credential: set("hunter2"), ..Put::new(resource) }))
    };
    store.apply(apply(vec![give(at_address("db:5432", ""))])).await.expect("with a password");
    let refused = [
        at_address("evil:5432", ""),
        at_address("db:5432", "tls: {mode: disable}\n"),
        at_address("db:5432", "tls: {mode: verify-full, ca_file: evil.pem}\n"),
    ];
    for resource in refused {
        let found = store.apply(apply(vec![put(resource.clone())])).await;
        let error = found.expect_err("the password must be given again").to_string();
        assert!(error.contains("credential.password must be given again"), "{error}");
        store.apply(apply(vec![give(resource)])).await.expect("given again");
        store.apply(apply(vec![give(at_address("db:5432", ""))])).await.expect("and back");
    }
    let harmless = [
        at_address("db:5432", "tls: {mode: verify-full}\n"),
        at_address("db:5432", "labels: {env: prod}\n"),
    ];
    for resource in harmless {
        store.apply(apply(vec![put(resource)])).await.expect("kept");
    }
}

#[tokio::test]
async fn no_secret_stands_in_the_files() {
    let place = Place::new();
    let store = place.open().await;
    let leaking = resource(
        "kind: Target\nname: leaky\nprotocol: postgres\naddress: db:5432\n\
         credential: {username: agents, password: {value: spec-hunter2}}\n",
    );
    let user = resource("kind: User\nname: ada\npassword: {value: user-hunter2}\n");
    let changes = vec![target_with_passwords("orders-db"), put(leaking), put(user)];
    store.apply(apply(changes)).await.expect("applies");
    store.close().await;
    for file in ["corral.db", "corral.db-wal"] {
        let bytes = std::fs::read(place.path(file)).unwrap_or_default();
        let is_leaking = bytes.windows(7).any(|window| window == b"hunter2");
        assert!(!is_leaking, "{file}");
    }
}

#[tokio::test]
async fn a_sealed_row_moved_to_another_target_does_not_open() {
    let place = Place::new();
    let store = place.open().await;
    let changes = vec![target_with_passwords("orders-db"), target_with_passwords("evil-db")];
    store.apply(apply(changes)).await.expect("applies");
    let url = format!("sqlite://{}", place.path("corral.db").display());
    let hand = sqlx::SqlitePool::connect(&url).await.expect("connects");
    sqlx::query(
        "UPDATE credentials SET sealed = (SELECT sealed FROM credentials
             WHERE target = 'orders-db' AND purpose = 'credential')
         WHERE target = 'evil-db'",
    )
    .execute(&hand)
    .await
    .expect("moved");
    for purpose in [CredentialPurpose::Credential, CredentialPurpose::MaskedCredential] {
        let opened = store.credential(&name("evil-db"), purpose).await;
        assert!(matches!(opened, Err(StoreError::Seal(SealError::DoesNotOpen))), "{purpose:?}");
    }
    store.credential(&name("orders-db"), CredentialPurpose::Credential).await.expect("opens");
}

#[tokio::test]
async fn a_deleted_user_leaves_no_login_behind() {
    let store = Place::new();
    let store = store.open().await;
    let ada = Principal::user(PrincipalName::new("ada").expect("a name"));
    let with_login = Put { login_hash: set("$argon2id$x"), ..Put::new(user("ada")) };
    store.apply(apply(vec![Change::Put(Box::new(with_login))])).await.expect("applies");
    let token = TokenRow {
        digest: TokenDigest([1; 32]),
        purpose: TokenPurpose::Login(ada.clone()),
        created_at: at(0),
        expires_at: Some(at(60)),
        revoked_at: None,
    };
    store.insert_token(&token).await.expect("kept");
    assert!(store.login_hash(&ada).await.expect("reads").is_some());
    let workload = Principal::workload(ada.name.clone());
    assert_eq!(store.login_hash(&workload).await.expect("reads"), None, "another kind");
    store.apply(apply(vec![delete(ResourceKind::User, "ada")])).await.expect("applies");
    assert_eq!(store.login_hash(&ada).await.expect("reads"), None);
    assert_eq!(store.token(&token.digest).await.expect("reads"), None);
}

fn provider(issuer: &str, scim: &str) -> Resource {
    resource(&format!(
        "kind: IdentityProvider\nname: corp\noidc: {{issuer: '{issuer}', client_id: c}}\n{scim}"
    ))
}

#[tokio::test]
async fn a_provider_keeps_its_secrets_sealed_and_only_for_where_they_were_given() {
    let place = Place::new();
    let store = place.open().await;
    let corp = ResourceName::new("corp").expect("a name");
    let secret = |text: &str| Secret::new(text.to_owned());
    let given = vec![
        (ProviderSecret::OidcClient, secret("client-hunter2")),
        (ProviderSecret::Scim, secret("scim-hunter2")),
    ];
    let with_scim = || provider("https://a.example", "scim: {}\n");
    let first = Put { provider_secrets: given, ..Put::new(with_scim()) };
    store.apply(apply(vec![Change::Put(Box::new(first))])).await.expect("applies");
    store.apply(apply(vec![put(with_scim())])).await.expect("applies");
    let found = store.provider_secret(&corp, ProviderSecret::OidcClient).await.expect("opens");
    assert_eq!(found, Some(secret("client-hunter2")));
    let found = store.provider_secret(&corp, ProviderSecret::Signals).await.expect("reads");
    assert_eq!(found, None);

    let elsewhere = put(provider("https://b.example", "scim: {}\n"));
    let refused = store.apply(apply(vec![elsewhere])).await;
    assert!(matches!(refused, Err(StoreError::SecretNeeded { .. })), "{refused:?}");
    let without_scim = put(provider("https://a.example", ""));
    store.apply(apply(vec![without_scim])).await.expect("applies");
    store.apply(apply(vec![put(with_scim())])).await.expect("applies");
    let found = store.provider_secret(&corp, ProviderSecret::Scim).await.expect("reads");
    assert_eq!(found, None, "a part that comes back inherits nothing");
    store
        .apply(apply(vec![delete(ResourceKind::IdentityProvider, "corp"), put(user("ada"))]))
        .await
        .expect("applies");
    let found = store.provider_secret(&corp, ProviderSecret::OidcClient).await.expect("reads");
    assert_eq!(found, None);
    store.close().await;
    for file in ["corral.db", "corral.db-wal"] {
        let bytes = std::fs::read(place.path(file)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{file}");
    }
}

#[tokio::test]
async fn a_webhooks_secret_is_sealed_and_goes_with_the_webhook() {
    let place = Place::new();
    let store = place.open().await;
    let ci = PrincipalName::new("ci").expect("a name");
    let workload = |webhook: &str| {
        resource(&format!(
            "kind: Workload\nname: ci\nsponsor: ada\ntrust: [{{issuer: 'https://ci.example', \
             audience: corral, match: {{sub: x}}}}]\n{webhook}"
        ))
    };
    let with = || workload("webhook: {}\n");
    let given = || Put {
        workload_secrets: vec![(
            WorkloadSecret::Webhook,
            Secret::new("hunter2-and-more".to_owned()),
        )],
        ..Put::new(with())
    };
    store.apply(apply(vec![Change::Put(Box::new(given()))])).await.expect("applies");
    store.apply(apply(vec![put(with())])).await.expect("applies");
    let found = async || store.workload_secret(&ci, WorkloadSecret::Webhook).await.expect("opens");
    assert_eq!(found().await, Some(Secret::new("hunter2-and-more".to_owned())), "is kept");
    store.apply(apply(vec![put(workload(""))])).await.expect("applies");
    store.apply(apply(vec![put(with())])).await.expect("applies");
    assert_eq!(found().await, None, "a webhook that comes back inherits nothing");
    store.apply(apply(vec![Change::Put(Box::new(given()))])).await.expect("applies");
    store.apply(apply(vec![delete(ResourceKind::Workload, "ci")])).await.expect("applies");
    assert_eq!(found().await, None);
    store.close().await;
    for file in ["corral.db", "corral.db-wal"] {
        let bytes = std::fs::read(place.path(file)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{file}");
    }
}

#[tokio::test]
async fn a_token_of_an_api_is_sealed_and_shown_to_no_other_api() {
    let place = Place::new();
    let store = place.open().await;
    let ci = PrincipalName::new("ci").expect("a name");
    let workload = |more: &str| {
        resource(&format!(
            "kind: Workload\nname: ci\nsponsor: ada\ntrust: [{{platform: gitlab, \
             issuer: 'https://ci.example', audience: corral, match: {{sub: x}}}}]\n{more}"
        ))
    };
    let poll = |api: &str| workload(&format!("poll: {{api: 'https://{api}'}}\n"));
    let token = Secret::new("hunter2-and-more".to_owned());
    let with = |api: &str| Put {
        workload_secrets: vec![(WorkloadSecret::Poll, token.clone())],
        ..Put::new(poll(api))
    };
    let found = async || store.workload_secret(&ci, WorkloadSecret::Poll).await.expect("opens");
    store.apply(apply(vec![Change::Put(Box::new(with("one")))])).await.expect("applies");
    store.apply(apply(vec![put(poll("one"))])).await.expect("applies");
    assert_eq!(found().await, Some(token.clone()), "is kept");
    let of_webhook = store.workload_secret(&ci, WorkloadSecret::Webhook).await.expect("is read");
    assert_eq!(of_webhook, None, "one secret is not the other");
    let refused = store.apply(apply(vec![put(poll("two"))])).await;
    assert!(matches!(refused, Err(StoreError::PollTokenNeeded { .. })), "{refused:?}");
    store.apply(apply(vec![Change::Put(Box::new(with("two")))])).await.expect("applies");
    store.apply(apply(vec![put(workload(""))])).await.expect("applies");
    store.apply(apply(vec![put(poll("three"))])).await.expect("there is no token to be shown");
    assert_eq!(found().await, None);
    store.close().await;
    for file in ["corral.db", "corral.db-wal"] {
        let bytes = std::fs::read(place.path(file)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{file}");
    }
}

#[tokio::test]
async fn what_happens_once_does_not_happen_again_until_it_is_over() {
    let place = Place::new();
    let store = place.open().await;
    let once = async |scope: &str, id: &str, until: i64, now: i64| {
        store.once(scope, id, at(until), at(now)).await.expect("is written")
    };
    assert!(once("a", "1", 10, 0).await);
    assert!(!once("a", "1", 20, 1).await);
    assert!(once("b", "1", 10, 1).await);
    assert!(!once("a", "1", 20, 10).await);
    assert!(once("a", "1", 20, 11).await);
}
