//! The people and groups that providers wrote, as they are in use: read from the store at the
//! start, replaced after every change that the store kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use corral_model::ids::ResourceName;
use corral_scim::{Document, Meta, ResourceKind};
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
    entries: BTreeMap<String, Entry>,
    /// By time of creation, in which order they are listed.
    order: BTreeSet<(OffsetDateTime, String)>,
    user_ids: BTreeMap<String, String>,
    /// The groups that each user is in.
    groups_of: BTreeMap<String, BTreeSet<String>>,
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
    pub(super) fn get(&self, kind: ResourceKind, id: &str) -> Option<&Entry> {
        self.entries.get(id).filter(|entry| entry.document.kind() == kind)
    }

    /// The user with this `userName`, without regard to case.
    pub(super) fn user_named(&self, name: &str) -> Option<&Entry> {
        self.user_ids.get(&name.to_lowercase()).and_then(|id| self.entries.get(id))
    }

    /// All of a kind, oldest first.
    pub(super) fn all(&self, kind: ResourceKind) -> impl Iterator<Item = &Entry> {
        let entries = self.order.iter().filter_map(|(_, id)| self.entries.get(id));
        entries.filter(move |entry| entry.document.kind() == kind)
    }

    pub(super) fn count(&self, kind: ResourceKind) -> usize {
        match kind {
            ResourceKind::User => self.user_ids.len(),
            ResourceKind::Group => self.entries.len() - self.user_ids.len(),
        }
    }

    /// The groups that a user is in, by id.
    pub(super) fn groups_of(&self, user: &str) -> impl Iterator<Item = &Entry> {
        let ids = self.groups_of.get(user).into_iter().flatten();
        ids.filter_map(|id| self.entries.get(id))
    }

    fn put(&mut self, entry: Entry) {
        self.remove(&entry.id);
        match entry.document.kind() {
            ResourceKind::User => {
                let name = entry.document.name().to_lowercase();
                self.user_ids.insert(name, entry.id.clone());
            }
            ResourceKind::Group => {
                for member in entry.document.members() {
                    let groups = self.groups_of.entry(member.to_owned()).or_default();
                    groups.insert(entry.id.clone());
                }
            }
        }
        self.order.insert((entry.created, entry.id.clone()));
        self.entries.insert(entry.id.clone(), entry);
    }

    fn remove(&mut self, id: &str) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.order.remove(&(entry.created, entry.id.clone()));
        match entry.document.kind() {
            ResourceKind::User => drop(self.user_ids.remove(&entry.document.name().to_lowercase())),
            ResourceKind::Group => {
                for member in entry.document.members() {
                    if let Some(groups) = self.groups_of.get_mut(member) {
                        groups.remove(id);
                        if groups.is_empty() {
                            self.groups_of.remove(member);
                        }
                    }
                }
            }
        }
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
