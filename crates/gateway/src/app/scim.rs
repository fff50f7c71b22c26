//! What a provider does by SCIM: its people and groups as documents, and what they mean here.
//!
//! A document and the people that follow from it are kept in one transaction, with the note of
//! whoever is offboarded by it. A provider that got no answer asks again and finds all of it done
//! or nothing.

mod directory;
mod people;

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_identity::token::{digest_of, is_same};
use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::resource::{ProviderSecret, UserSpec};
use corral_model::{OffboardCause, Secret, limits};
use corral_scim::{Document, ErrorType, ListQuery, Page, Patch, ResourceKind, ScimError};
use corral_store::ScimChange;
use serde_json::{Map, Value};
use time::OffsetDateTime;

pub(super) use directory::Directory;
use directory::{Entry, Realm};

use super::resources::Author;
use super::{App, AppError};

/// A provider that showed its SCIM token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScimProvider {
    pub(super) name: ResourceName,
}

/// One document as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub etag: String,
    pub location: String,
    pub resource: Map<String, Value>,
}

/// What a provider wrote of somebody, by which other messages of it may name the person.
pub(super) struct Account {
    pub(super) id: String,
    pub(super) external_id: Option<String>,
    pub(super) emails: Vec<String>,
    pub(super) is_active: bool,
}

/// A document that a request names.
#[derive(Debug, Clone, Copy)]
pub struct Named<'r> {
    pub kind: ResourceKind,
    pub id: &'r str,
    /// The `If-Match` of the request.
    pub if_match: Option<&'r str>,
    /// The address of the service, for the addresses of documents.
    pub base: &'r str,
}

impl App {
    /// Finds out which provider's SCIM token this is.
    ///
    /// # Errors
    /// 401: whoever shows it is to blame. 503 when the store cannot be read.
    pub async fn scim_provider(&self, token: &Secret) -> Result<ScimProvider, ScimError> {
        let shown = digest_of(token.reveal());
        let config = self.config();
        let mut found: Option<ResourceName> = None;
        // All are looked at, so that the time tells nothing of which one it is.
        for provider in config.providers.values().filter(|provider| provider.scim.is_some()) {
            let secret = self.store.provider_secret(&provider.name, ProviderSecret::Scim).await;
            let secret = secret.map_err(|error| refused(AppError::from(error)))?;
            if secret.is_some_and(|secret| is_same(&digest_of(secret.reveal()), &shown)) {
                found = Some(provider.name.clone());
            }
        }
        let name = found.ok_or_else(|| {
            ScimError::new(401, "this is not the SCIM token of an identity provider")
        })?;
        Ok(ScimProvider { name })
    }

    /// The documents of one kind.
    #[must_use]
    pub fn scim_list(
        &self,
        provider: &ScimProvider,
        kind: ResourceKind,
        query: &ListQuery,
        base: &str,
    ) -> Page {
        let realms = self.directory.read();
        let Some(realm) = realms.get(&provider.name) else {
            return query.page(std::iter::empty());
        };
        let mut page = Page::begin(query);
        see_all(&mut page, realm, kind, query, base);
        page
    }

    /// The documents of several kinds, one kind after the other.
    #[must_use]
    pub fn scim_list_all(
        &self,
        provider: &ScimProvider,
        queries: &[(ResourceKind, ListQuery)],
        base: &str,
    ) -> Page {
        let realms = self.directory.read();
        let Some((_, first)) = queries.first() else { return Page::whole(Vec::new()) };
        let mut page = Page::begin(first);
        let Some(realm) = realms.get(&provider.name) else { return page };
        for (kind, query) in queries {
            see_all(&mut page, realm, *kind, query, base);
        }
        page
    }

    /// One document.
    ///
    /// # Errors
    /// 404.
    pub fn scim_show(&self, provider: &ScimProvider, named: Named<'_>) -> Result<Shown, ScimError> {
        let realms = self.directory.read();
        let realm = realms.get(&provider.name).ok_or_else(|| not_found(named))?;
        let entry = realm.get(named.kind, named.id).ok_or_else(|| not_found(named))?;
        Ok(Shown {
            etag: entry.meta(named.base).etag(),
            location: entry.location(named.base),
            resource: shown(realm, entry, named.base),
        })
    }

    /// Makes a person or group.
    ///
    /// # Errors
    /// 400 for a document that cannot be a person or group here, 409 when the name is taken.
    pub async fn scim_create(
        &self,
        provider: &ScimProvider,
        document: Document,
        base: &str,
    ) -> Result<Shown, ScimError> {
        let _one_at_a_time = self.config.changing.lock().await;
        let kind = document.kind();
        let now = now();
        let entry = Entry {
            id: uuid::Uuid::now_v7().to_string(),
            version: 1,
            created: now,
            modified: now,
            document,
        };
        self.check_count(provider, kind)?;
        self.check_document(provider, &entry, None)?;
        let id = entry.id.clone();
        self.settle(provider, None, entry).await?;
        self.scim_show(provider, Named { kind, id: &id, if_match: None, base })
    }

    /// Replaces a document.
    ///
    /// # Errors
    /// As [`App::scim_create`]; 404, 412.
    pub async fn scim_replace(
        &self,
        provider: &ScimProvider,
        named: Named<'_>,
        document: Document,
    ) -> Result<Shown, ScimError> {
        self.scim_change(provider, named, |kept| {
            *kept = document;
            Ok(())
        })
        .await
    }

    /// Patches a document.
    ///
    /// # Errors
    /// As [`App::scim_replace`]; 400 for what cannot be changed so.
    pub async fn scim_patch(
        &self,
        provider: &ScimProvider,
        named: Named<'_>,
        patch: &Patch,
    ) -> Result<Shown, ScimError> {
        self.scim_change(provider, named, |kept| patch.apply(kept)).await
    }

    async fn scim_change(
        &self,
        provider: &ScimProvider,
        named: Named<'_>,
        change: impl FnOnce(&mut Document) -> Result<(), ScimError>,
    ) -> Result<Shown, ScimError> {
        let _one_at_a_time = self.config.changing.lock().await;
        let before = self.entry(provider, named)?;
        let mut after = Entry::clone(&before);
        change(&mut after.document)?;
        if after.document != before.document {
            after.version += 1;
            after.modified = now();
            self.check_document(provider, &after, Some(&before))?;
        }
        // Also when the document is as it was: what it means may not have been done.
        self.settle(provider, Some(&before), after).await?;
        self.scim_show(provider, named)
    }

    /// Deletes a document. A person whom it described is disabled and stays so under this name.
    ///
    /// # Errors
    /// 404, 412; 503 when it cannot be kept.
    pub async fn scim_delete(
        &self,
        provider: &ScimProvider,
        named: Named<'_>,
    ) -> Result<(), ScimError> {
        let _one_at_a_time = self.config.changing.lock().await;
        let entry = self.entry(provider, named)?;
        let mut documents =
            vec![ScimChange::Delete { provider: provider.name.clone(), id: entry.id.clone() }];
        let people = match named.kind {
            ResourceKind::User => {
                documents.extend(self.without_member(provider, &entry.id));
                self.gone_person(provider, entry.document.name()).into_iter().collect()
            }
            ResourceKind::Group => {
                let members = entry.document.members().map(ToOwned::to_owned).collect();
                self.people_of(provider, &members, Some(&entry.id), None)
            }
        };
        self.keep(provider, people, documents).await
    }

    /// The names of those whose document has this id, external id or e-mail address.
    pub(super) fn scim_names_of(&self, provider: &ResourceName, key: &str) -> Vec<PrincipalName> {
        let realms = self.directory.read();
        let Some(realm) = realms.get(provider) else { return Vec::new() };
        let names =
            realm.users_known_as(key).map(|entry| PrincipalName::new(entry.document.name()));
        names.filter_map(Result::ok).collect()
    }

    /// The account of a person, by name.
    pub(super) fn scim_account(&self, provider: &ResourceName, name: &str) -> Option<Account> {
        let realms = self.directory.read();
        let entry = realms.get(provider)?.user_named(name)?;
        Some(Account {
            id: entry.id.clone(),
            external_id: entry.document.external_id().map(ToOwned::to_owned),
            emails: entry.document.emails().map(ToOwned::to_owned).collect(),
            is_active: entry.document.is_active(),
        })
    }

    /// Everybody whose groups are not what documents and mapping say, by provider: after a change
    /// of the mapping.
    pub(super) fn scim_projection(&self) -> Vec<(Author, Vec<UserSpec>)> {
        let providers: Vec<(ScimProvider, BTreeSet<String>)> = {
            let realms = self.directory.read();
            let of_realm = |(name, realm): (&ResourceName, &Realm)| {
                let ids = realm.all(ResourceKind::User).map(|user| user.id.clone()).collect();
                (ScimProvider { name: name.clone() }, ids)
            };
            realms.iter().map(of_realm).collect()
        };
        let projected = providers.into_iter().map(|(provider, ids)| {
            let people = self.people_of(&provider, &ids, None, None);
            (provider.author(), people)
        });
        projected.filter(|(_, people)| !people.is_empty()).collect()
    }

    /// Does what a document means, and keeps it. The caller holds the lock for changes, so that
    /// people are not changed by anybody else meanwhile.
    async fn settle(
        &self,
        provider: &ScimProvider,
        before: Option<&Entry>,
        after: Entry,
    ) -> Result<(), ScimError> {
        let people = match after.document.kind() {
            ResourceKind::User => {
                let earlier = before.map(|before| before.document.name());
                let earlier = earlier.filter(|name| *name != after.document.name());
                // Whoever has another name is another principal here, and the old one is over.
                let gone = earlier.and_then(|name| self.gone_person(provider, name));
                let person = self.person_of(provider, &after, earlier)?;
                gone.into_iter().chain(person).collect()
            }
            ResourceKind::Group => {
                let members = concerned(before.map(|before| &before.document), &after);
                self.people_of(provider, &members, Some(&after.id), Some(&after.document))
            }
        };
        let is_changed = before.is_none_or(|before| before.version != after.version);
        let put = ScimChange::Put(Box::new(after.row(&provider.name)));
        let documents: Vec<ScimChange> = is_changed.then_some(put).into_iter().collect();
        self.keep(provider, people, documents).await
    }

    async fn keep(
        &self,
        provider: &ScimProvider,
        people: Vec<UserSpec>,
        documents: Vec<ScimChange>,
    ) -> Result<(), ScimError> {
        if people.is_empty() && documents.is_empty() {
            return Ok(());
        }
        let author = provider.author();
        self.put_people(&author, people, documents.clone()).await.map_err(refused)?;
        self.directory.take_up(&documents).map_err(|text| {
            tracing::error!(text, "a SCIM document that was kept cannot be used");
            ScimError::new(500, "the document cannot be used")
        })
    }

    fn entry(&self, provider: &ScimProvider, named: Named<'_>) -> Result<Arc<Entry>, ScimError> {
        let realms = self.directory.read();
        let realm = realms.get(&provider.name);
        let entry = realm.and_then(|realm| realm.get(named.kind, named.id));
        let entry = entry.ok_or_else(|| not_found(named))?;
        let etag = entry.meta(named.base).etag();
        match named.if_match {
            Some(wanted) if !etag_matches(wanted, &etag) => {
                let detail = format!("the resource has changed; its version is {etag}");
                Err(ScimError::new(412, detail))
            }
            Some(_) | None => Ok(entry.clone()),
        }
    }

    fn check_count(&self, provider: &ScimProvider, kind: ResourceKind) -> Result<(), ScimError> {
        let realms = self.directory.read();
        let count = realms.get(&provider.name).map_or(0, |realm| realm.count(kind));
        let most = match kind {
            ResourceKind::User => limits::SCIM_USERS_MAX,
            ResourceKind::Group => limits::SCIM_GROUPS_MAX,
        };
        if count < most {
            return Ok(());
        }
        let detail = format!("this provider has {count} {}; at most {most}", kind.endpoint());
        Err(ScimError { status: 400, kind: Some(ErrorType::TooMany), detail })
    }
}

impl ScimProvider {
    fn author(&self) -> Author {
        Author { by: format!("scim {}", self.name), cause: OffboardCause::Scim }
    }
}

impl App {
    /// Every group that this user is a member of, without the user.
    fn without_member(&self, provider: &ScimProvider, user: &str) -> Vec<ScimChange> {
        let realms = self.directory.read();
        let Some(realm) = realms.get(&provider.name) else { return Vec::new() };
        let without = |group: &Entry| {
            let mut group = group.clone();
            group.document.remove_member(user);
            group.version += 1;
            group.modified = now();
            ScimChange::Put(Box::new(group.row(&provider.name)))
        };
        realm.groups_of(user).map(without).collect()
    }
}

/// The members whose groups may differ by a change of a group.
fn concerned(before: Option<&Document>, after: &Entry) -> BTreeSet<String> {
    let now: BTreeSet<&str> = after.document.members().collect();
    let Some(before) = before else { return now.into_iter().map(ToOwned::to_owned).collect() };
    let earlier: BTreeSet<&str> = before.members().collect();
    let only_members_differ = now != earlier && before.name() == after.document.name();
    let concerned: Vec<&&str> = if only_members_differ {
        now.symmetric_difference(&earlier).collect()
    } else {
        now.union(&earlier).collect()
    };
    concerned.into_iter().map(|id| (*id).to_owned()).collect()
}

/// Looks at all documents of a kind that may answer a query, oldest first.
fn see_all(page: &mut Page, realm: &Realm, kind: ResourceKind, query: &ListQuery, base: &str) {
    let key = query.filter.as_ref().and_then(|filter| filter.key(kind));
    let mut see = |entry: &Entry| page.see(query, || shown(realm, entry, base));
    match key {
        Some(key) => realm.with_key(kind, key).into_iter().for_each(&mut see),
        None => realm.all(kind).for_each(&mut see),
    }
}

/// A document with what the service adds.
fn shown(realm: &Realm, entry: &Entry, base: &str) -> Map<String, Value> {
    let groups: Vec<(String, String, String)> = match entry.document.kind() {
        ResourceKind::User => realm
            .groups_of(&entry.id)
            .map(|group| (group.id.clone(), group.document.name().to_owned(), group.location(base)))
            .collect(),
        ResourceKind::Group => Vec::new(),
    };
    entry.document.shown(&entry.meta(base), &groups)
}

/// Whether one of the validators is this one (RFC 9110 section 13.1.1, compared weakly as RFC
/// 7644 section 3.14 does).
#[must_use]
pub fn etag_matches(wanted: &str, etag: &str) -> bool {
    let plain = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    wanted.split(',').any(|one| one.trim() == "*" || plain(one) == plain(etag))
}

/// To the millisecond, as the store keeps it.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_millisecond(now.millisecond()).unwrap_or(now)
}

fn not_found(named: Named<'_>) -> ScimError {
    let id: String = named.id.chars().take(limits::ID_BYTES_MAX).collect();
    ScimError::new(404, format!("there is no {} '{id}'", named.kind.name()))
}

/// What the app refused, in SCIM's words.
pub(super) fn refused(error: AppError) -> ScimError {
    let status = match &error {
        AppError::Unauthenticated(_) | AppError::BadProof(_) => 401,
        AppError::Denied(_) => 403,
        AppError::NotFound { .. } => 404,
        AppError::Invalid(_) | AppError::Conflict(_) => 409,
        AppError::LimitReached(_) => 429,
        AppError::Unavailable(_) => 503,
    };
    ScimError::new(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_compared_weakly() {
        let check = |wanted: &str, expect: bool| {
            assert_eq!(etag_matches(wanted, "W/\"3\""), expect, "{wanted}");
        };
        check("W/\"3\"", true);
        check("\"3\"", true);
        check("W/\"2\", W/\"3\"", true);
        check("*", true);
        check("W/\"33\"", false);
        check("", false);
    }
}
