//! The people and groups that providers wrote, as they are in use: read from the store at the
//! start, replaced after every change that the store kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use corral_model::ids::ResourceName;
use corral_scim::{Document, Key, Meta, ResourceKind};
use corral_store::{ScimChange, ScimRow};
use time::OffsetDateTime;

/// What every provider wrote.
#[derive(Debug, Default)]
pub(in crate::app) struct Directory {
    realms: RwLock<BTreeMap<ResourceName, Realm>>,
}

/// What one provider wrote.
#[derive(Debug, Default)]
pub(super) struct Realm {
    entries: BTreeMap<String, Arc<Entry>>,
    users: Listing,
    groups: Listing,
    by_email: Ids,
    /// The groups that each user is in.
    groups_of: Ids,
    /// In all groups together.
    memberships: usize,
}

/// The documents of one kind.
#[derive(Debug, Default)]
struct Listing {
    /// By time of creation, in which order they are listed.
    order: BTreeSet<(OffsetDateTime, String)>,
    by_name: Ids,
    by_external_id: Ids,
}

/// Ids of documents by what they are found by, which is without regard to case.
#[derive(Debug, Default)]
struct Ids(BTreeMap<String, BTreeSet<String>>);

impl Ids {
    fn add(&mut self, key: &str, id: &str) {
        self.0.entry(key.to_lowercase()).or_default().insert(id.to_owned());
    }

    fn remove(&mut self, key: &str, id: &str) {
        let key = key.to_lowercase();
        if let Some(ids) = self.0.get_mut(&key) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    fn of(&self, key: &str) -> impl Iterator<Item = &String> {
        self.0.get(&key.to_lowercase()).into_iter().flatten()
    }
}

/// One document with what the service knows of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) created: OffsetDateTime,
    pub(super) modified: OffsetDateTime,
    pub(super) document: Document,
}

impl Directory {
    /// # Errors
    /// The kind of a document that is none: the store is to blame.
    pub(in crate::app) fn load(rows: Vec<ScimRow>) -> Result<Self, String> {
        let directory = Self::default();
        {
            let mut realms = directory.write();
            for row in rows {
                let entry = Entry::of_row(&row)?;
                realms.entry(row.provider).or_default().put(entry);
            }
        }
        Ok(directory)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ResourceName, Realm>> {
        self.realms.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ResourceName, Realm>> {
        self.realms.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what the store keeps by now.
    pub(super) fn take_up(&self, changes: &[ScimChange]) -> Result<(), String> {
        let mut realms = self.write();
        for change in changes {
            match change {
                ScimChange::Put(row) => {
                    realms.entry(row.provider.clone()).or_default().put(Entry::of_row(row)?);
                }
                ScimChange::Delete { provider, id } => {
                    realms.entry(provider.clone()).or_default().remove(id);
                }
            }
        }
        Ok(())
    }

    /// A provider that is gone takes its documents with it, as in the store.
    pub(in crate::app) fn keep_only(&self, is_known: impl Fn(&ResourceName) -> bool) {
        self.write().retain(|provider, _| is_known(provider));
    }
}

impl Realm {
    pub(super) fn get(&self, kind: ResourceKind, id: &str) -> Option<&Arc<Entry>> {
        self.entries.get(id).filter(|entry| entry.document.kind() == kind)
    }

    /// The user with this `userName`, without regard to case.
    pub(super) fn user_named(&self, name: &str) -> Option<&Entry> {
        self.users.by_name.of(name).find_map(|id| self.entry(id))
    }

    /// The users whose id, external id or e-mail address this is, and perhaps others.
    pub(super) fn users_known_as(&self, key: &str) -> impl Iterator<Item = &Entry> {
        let by_id = self.get(ResourceKind::User, key).map(|entry| &**entry);
        let ids = self.users.by_external_id.of(key).chain(self.by_email.of(key));
        by_id.into_iter().chain(ids.filter_map(|id| self.entry(id)))
    }

    /// All of a kind that a filter with this key may let through, oldest first.
    pub(super) fn with_key(&self, kind: ResourceKind, key: Key<'_>) -> Vec<&Entry> {
        let listing = self.listing(kind);
        let ids: Vec<&String> = match key {
            Key::Id(id) => self.entries.get_key_value(id).map(|(id, _)| id).into_iter().collect(),
            Key::Name(name) => listing.by_name.of(name).collect(),
            Key::ExternalId(id) => listing.by_external_id.of(id).collect(),
            Key::Email(email) => self.by_email.of(email).collect(),
            Key::Member(id) => self.groups_of.of(id).collect(),
        };
        let found = ids.into_iter().filter_map(|id| self.entry(id));
        let mut found: Vec<&Entry> = found.filter(|one| one.document.kind() == kind).collect();
        found.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        found
    }

    /// All of a kind, oldest first.
    pub(super) fn all(&self, kind: ResourceKind) -> impl Iterator<Item = &Entry> {
        self.listing(kind).order.iter().filter_map(|(_, id)| self.entry(id))
    }

    /// Memberships in all groups but one.
    pub(super) fn memberships_without(&self, group: &str) -> usize {
        let own = self.entry(group).map_or(0, |group| group.document.members().count());
        self.memberships - own
    }

    pub(super) fn count(&self, kind: ResourceKind) -> usize {
        self.listing(kind).order.len()
    }

    /// The groups that a user is in, by id.
    pub(super) fn groups_of(&self, user: &str) -> impl Iterator<Item = &Entry> {
        self.groups_of.of(user).filter_map(|id| self.entry(id))
    }

    fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id).map(|entry| &**entry)
    }

    fn listing(&self, kind: ResourceKind) -> &Listing {
        match kind {
            ResourceKind::User => &self.users,
            ResourceKind::Group => &self.groups,
        }
    }

    fn put(&mut self, entry: Entry) {
        let entry = Arc::new(entry);
        let earlier = self.entries.insert(entry.id.clone(), entry.clone());
        // Who stays in a group of thousands costs nothing.
        let members = |entry: &Entry| -> BTreeSet<String> {
            entry.document.members().map(ToOwned::to_owned).collect()
        };
        let (before, after) =
            (earlier.as_deref().map(members).unwrap_or_default(), members(&entry));
        if let Some(earlier) = &earlier {
            self.index(earlier, Ids::remove);
        }
        self.index(&entry, Ids::add);
        self.memberships = self.memberships + after.len() - before.len();
        before.difference(&after).for_each(|member| self.groups_of.remove(member, &entry.id));
        after.difference(&before).for_each(|member| self.groups_of.add(member, &entry.id));
        let place = (entry.created, entry.id.clone());
        match entry.document.kind() {
            ResourceKind::User => self.users.order.insert(place),
            ResourceKind::Group => self.groups.order.insert(place),
        };
    }

    fn remove(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.index(&entry, Ids::remove);
        for member in entry.document.members() {
            self.groups_of.remove(member, id);
            self.memberships -= 1;
        }
        let place = (entry.created, entry.id.clone());
        match entry.document.kind() {
            ResourceKind::User => self.users.order.remove(&place),
            ResourceKind::Group => self.groups.order.remove(&place),
        };
    }

    /// What a document is found by, but for a group's members.
    fn index(&mut self, entry: &Entry, change: fn(&mut Ids, &str, &str)) {
        let document = &entry.document;
        let listing = match document.kind() {
            ResourceKind::User => &mut self.users,
            ResourceKind::Group => &mut self.groups,
        };
        change(&mut listing.by_name, document.name(), &entry.id);
        if let Some(external_id) = document.external_id() {
            change(&mut listing.by_external_id, external_id, &entry.id);
        }
        document.emails().for_each(|email| change(&mut self.by_email, email, &entry.id));
    }
}

impl Entry {
    fn of_row(row: &ScimRow) -> Result<Self, String> {
        let kind = ResourceKind::ALL.into_iter().find(|kind| kind.name() == row.kind);
        let kind = kind.ok_or_else(|| format!("a SCIM document of the kind '{}'", row.kind))?;
        Ok(Self {
            id: row.id.clone(),
            version: row.version,
            created: row.created_at,
            modified: row.modified_at,
            document: Document::restore(kind, row.body.clone()),
        })
    }

    pub(super) fn row(&self, provider: &ResourceName) -> ScimRow {
        ScimRow {
            provider: provider.clone(),
            id: self.id.clone(),
            kind: self.document.kind().name().to_owned(),
            version: self.version,
            created_at: self.created,
            modified_at: self.modified,
            body: self.document.keys().clone(),
        }
    }

    /// Its address below the base of the service.
    pub(super) fn location(&self, base: &str) -> String {
        format!("{base}/{}/{}", self.document.kind().endpoint(), self.id)
    }

    pub(super) fn meta(&self, base: &str) -> Meta {
        Meta {
            id: self.id.clone(),
            version: self.version,
            created: self.created,
            modified: self.modified,
            location: self.location(base),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(id: &str, kind: &str, body: serde_json::Value) -> ScimRow {
        ScimRow {
            provider: ResourceName::new("corp").expect("a name"),
            id: id.to_owned(),
            kind: kind.to_owned(),
            version: 1,
            created_at: OffsetDateTime::UNIX_EPOCH,
            modified_at: OffsetDateTime::UNIX_EPOCH,
            body: body.as_object().cloned().unwrap_or_default(),
        }
    }

    #[test]
    fn membership_follows_the_groups_that_there_are() {
        let corp = ResourceName::new("corp").expect("a name");
        let group = |members: serde_json::Value| {
            row("g-1", "Group", json!({"displayName": "ops", "members": members}))
        };
        let directory = Directory::load(vec![
            row("u-1", "User", json!({"userName": "Ada"})),
            group(json!([{"value": "u-1"}])),
        ]);
        let directory = directory.expect("loads");
        let groups = || {
            let realms = directory.read();
            let realm = realms.get(&corp).expect("there is one");
            assert_eq!(realm.user_named("aDA").map(|entry| entry.id.as_str()), Some("u-1"));
            realm.groups_of("u-1").map(|group| group.document.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(groups(), ["ops"]);
        let put = |row| ScimChange::Put(Box::new(row));
        directory.take_up(&[put(group(json!([])))]).expect("is taken up");
        assert_eq!(groups(), Vec::<String>::new());
        directory.take_up(&[put(group(json!([{"value": "u-1"}])))]).expect("is taken up");
        let gone = ScimChange::Delete { provider: corp.clone(), id: "g-1".into() };
        directory.take_up(&[gone]).expect("is taken up");
        assert_eq!(groups(), Vec::<String>::new());
        directory.keep_only(|_| false);
        assert!(directory.read().is_empty());
    }

    #[test]
    fn a_document_of_no_kind_is_corruption() {
        assert!(Directory::load(vec![row("x", "Device", json!({}))]).is_err());
    }
}
