//! One person or group as a document: read whole, checked, shown.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bounds;
use crate::error::{ErrorType, ScimError};
use crate::path::same;
use crate::schema::{COMMON_ATTRIBUTES, Mutability, ResourceKind, find};
use crate::shape::{Unknown, shape, shape_parts};

/// What a provider wrote, in the table's spelling; what the service itself adds (`id`, `schemas`,
/// `meta`, a person's `groups`) is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub(crate) kind: ResourceKind,
    pub(crate) keys: Map<String, Value>,
}

/// What the service knows of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub id: String,
    /// Grows with every change.
    pub version: u64,
    pub created: OffsetDateTime,
    pub modified: OffsetDateTime,
    /// Its address.
    pub location: String,
}

impl Meta {
    /// The weak validator of RFC 7644 section 3.14.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }
}

impl Document {
    /// Reads a whole document, as a creation or a replacement sends it. What nobody may write and
    /// what the table does not have is left out.
    ///
    /// # Errors
    /// `invalidSyntax`, `invalidValue`, `tooMany`: whoever sent it is to blame.
    pub fn read(kind: ResourceKind, body: Value) -> Result<Self, ScimError> {
        let Value::Object(sent) = body else {
            return Err(ScimError::bad(ErrorType::InvalidSyntax, "the body must be an object"));
        };
        check_schema(kind, &sent)?;
        let mut keys = Map::new();
        for (key, value) in sent {
            let extension = kind.extension().filter(|(schema, _)| same(schema, &key));
            if let Some((schema, attributes)) = extension {
                let Value::Object(parts) = value else { continue };
                let parts = shape_parts(attributes, parts, schema, Unknown::LeftOut)?;
                if !parts.is_empty() {
                    keys.insert(schema.to_owned(), Value::Object(parts));
                }
                continue;
            }
            let known = find(kind.attributes(), &key).or_else(|| find(&COMMON_ATTRIBUTES, &key));
            let Some(attribute) = known.filter(|known| known.mutability != Mutability::ReadOnly)
            else {
                continue;
            };
            if let Some(value) = shape(attribute, value, Unknown::LeftOut)? {
                keys.insert(attribute.name.to_owned(), value);
            }
        }
        if kind == ResourceKind::User {
            // Said, so that a provider that takes it away later sees that it is gone.
            keys.entry("active").or_insert(Value::Bool(true));
        }
        let mut document = Self { kind, keys };
        document.settle()?;
        Ok(document)
    }

    /// Takes a document back from where [`Document::keys`] was kept.
    #[must_use]
    pub fn restore(kind: ResourceKind, keys: Map<String, Value>) -> Self {
        Self { kind, keys }
    }

    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        self.kind
    }

    #[must_use]
    pub fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    /// `userName` or `displayName`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text(self.kind.name_attribute()).unwrap_or_default()
    }

    #[must_use]
    pub fn external_id(&self) -> Option<&str> {
        self.text("externalId")
    }

    /// A person is active unless the provider says otherwise.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.keys.get("active") != Some(&Value::Bool(false))
    }

    /// The ids of a group's members.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.values_of("members")
    }

    /// A person's e-mail addresses.
    pub fn emails(&self) -> impl Iterator<Item = &str> {
        self.values_of("emails")
    }

    /// Takes a member out of a group; says whether it was in.
    pub fn remove_member(&mut self, id: &str) -> bool {
        let Some(Value::Array(members)) = self.keys.get_mut("members") else { return false };
        let before = members.len();
        members.retain(|member| member.get("value").and_then(Value::as_str) != Some(id));
        let is_changed = members.len() != before;
        if members.is_empty() {
            self.keys.remove("members");
        }
        is_changed
    }

    /// The document as it is shown; `groups` are those that a person is in, as id and name.
    #[must_use]
    pub fn shown(&self, meta: &Meta, groups: &[(String, String, String)]) -> Map<String, Value> {
        let mut schemas = vec![self.kind.schema()];
        let extension = self.kind.extension().map(|(schema, _)| schema);
        schemas.extend(extension.filter(|schema| self.keys.contains_key(*schema)));
        let mut shown = Map::new();
        shown.insert("schemas".to_owned(), json!(schemas));
        shown.insert("id".to_owned(), meta.id.as_str().into());
        shown.extend(self.keys.clone());
        if self.kind == ResourceKind::User {
            let group = |(id, name, location): &(String, String, String)| json!({"value": id, "display": name, "$ref": location, "type": "direct"});
            if !groups.is_empty() {
                shown.insert("groups".to_owned(), groups.iter().map(group).collect());
            }
        }
        let time = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        shown.insert(
            "meta".to_owned(),
            json!({
                "resourceType": self.kind.name(),
                "created": time(meta.created),
                "lastModified": time(meta.modified),
                "location": meta.location,
                "version": meta.etag(),
            }),
        );
        shown
    }

    /// Brings a document that was read or patched into order, and checks what must hold of it.
    pub(crate) fn settle(&mut self) -> Result<(), ScimError> {
        let name = self.kind.name_attribute();
        if self.name().trim().is_empty() {
            let detail = format!("'{name}' is missing or empty; every resource needs one");
            return Err(ScimError::bad(ErrorType::InvalidValue, detail));
        }
        if let Some(Value::Array(members)) = self.keys.get_mut("members") {
            if members.iter().any(|member| member.get("value").and_then(Value::as_str).is_none()) {
                let detail = "a member has no 'value'; write the id of a user there";
                return Err(ScimError::bad(ErrorType::InvalidValue, detail));
            }
            let mut seen: BTreeSet<String> = BTreeSet::new();
            members.retain(|member| {
                let id = member.get("value").and_then(Value::as_str).unwrap_or_default();
                seen.insert(id.to_owned())
            });
            let count = members.len();
            crate::shape::check_count("members", count)?;
        }
        self.check_size()
    }

    fn check_size(&self) -> Result<(), ScimError> {
        let others = self.keys.iter().filter(|(key, _)| key.as_str() != "members");
        let size: usize = others.map(|(key, value)| key.len() + value.to_string().len()).sum();
        if size <= bounds::DOCUMENT_BYTES_MAX {
            return Ok(());
        }
        let most = bounds::DOCUMENT_BYTES_MAX;
        let detail = format!("the resource has {size} bytes; at most {most} are kept");
        Err(ScimError::bad(ErrorType::TooMany, detail))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(Value::as_str)
    }

    fn values_of(&self, key: &str) -> impl Iterator<Item = &str> {
        let values = self.keys.get(key).and_then(Value::as_array);
        values
            .into_iter()
            .flatten()
            .filter_map(|value| value.get("value"))
            .filter_map(Value::as_str)
    }
}

/// A document says which kind it is (RFC 7643 section 3).
fn check_schema(kind: ResourceKind, sent: &Map<String, Value>) -> Result<(), ScimError> {
    let named = sent.iter().find(|(key, _)| same(key, "schemas")).map(|(_, value)| value);
    let is_named = named
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|schema| same(schema, kind.schema()));
    if is_named {
        return Ok(());
    }
    let detail = format!("'schemas' must name {}", kind.schema());
    Err(ScimError::bad(ErrorType::InvalidSyntax, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ENTERPRISE_USER, GROUP, USER};

    fn user(body: Value) -> Result<Document, ScimError> {
        Document::read(ResourceKind::User, body)
    }

    #[test]
    fn names_are_read_without_regard_to_case_and_kept_in_one_spelling() {
        let read = user(json!({
            "Schemas": [USER.to_uppercase()], "USERNAME": "ada", "Active": "False",
            "name": {"FamilyName": "Lovelace", "nonsense": 1},
            "emails": {"value": "ada@example.com"},
            ENTERPRISE_USER: {"Department": "Engines", "manager": "m-1"},
        }));
        let read = read.expect("is a user");
        assert_eq!(read.name(), "ada");
        assert!(!read.is_active());
        assert_eq!(read.keys()["name"], json!({"familyName": "Lovelace"}));
        assert_eq!(read.emails().collect::<Vec<_>>(), ["ada@example.com"]);
        let enterprise = &read.keys()[ENTERPRISE_USER];
        assert_eq!(*enterprise, json!({"department": "Engines", "manager": {"value": "m-1"}}));
    }

    #[test]
    fn what_nobody_may_write_is_left_out() {
        let read = user(json!({
            "schemas": [USER], "userName": "ada", "id": "x", "meta": {}, "password": "hunter2",
            "groups": [{"value": "admins"}], "unknown": true, "title": null,
        }));
        let read = read.expect("is a user");
        let expect = json!({"userName": "ada", "active": true});
        assert_eq!(Value::Object(read.keys().clone()), expect);
    }

    #[test]
    fn what_is_not_a_document_is_refused() {
        let check = |body: Value, kind: ErrorType| {
            let error = user(body.clone()).expect_err("is refused");
            assert_eq!((error.status, error.kind), (400, Some(kind)), "{body}: {error}");
        };
        check(json!([]), ErrorType::InvalidSyntax);
        check(json!({"userName": "ada"}), ErrorType::InvalidSyntax);
        check(json!({"schemas": [GROUP], "userName": "ada"}), ErrorType::InvalidSyntax);
        check(json!({"schemas": [USER]}), ErrorType::InvalidValue);
        check(json!({"schemas": [USER], "userName": " "}), ErrorType::InvalidValue);
        check(json!({"schemas": [USER], "userName": 7}), ErrorType::InvalidValue);
        check(json!({"schemas": [USER], "userName": "a", "active": "no"}), ErrorType::InvalidValue);
        let emails = json!([{"value": "a", "primary": true}, {"value": "b", "primary": true}]);
        let body = json!({"schemas": [USER], "userName": "a", "emails": emails});
        check(body, ErrorType::InvalidValue);
        let many = vec![json!({"value": "a"}); bounds::VALUES_MAX + 1];
        check(json!({"schemas": [USER], "userName": "a", "emails": many}), ErrorType::TooMany);
        let display = "x".repeat(bounds::DOCUMENT_BYTES_MAX / 20);
        let email = |n: usize| json!({"value": format!("{n}"), "display": display});
        let large: Vec<Value> = (0..20).map(email).collect();
        check(json!({"schemas": [USER], "userName": "a", "emails": large}), ErrorType::TooMany);
        let long = "x".repeat(bounds::TEXT_BYTES_MAX + 1);
        check(json!({"schemas": [USER], "userName": long}), ErrorType::InvalidValue);
    }

    #[test]
    fn a_group_has_at_most_ten_thousand_members_and_each_once() {
        let member = |n: usize| json!({"value": format!("u-{n}")});
        let group = |members: Vec<Value>| {
            let body = json!({"schemas": [GROUP], "displayName": "ops", "members": members});
            Document::read(ResourceKind::Group, body)
        };
        let full = group((0..bounds::MEMBERS_MAX).map(member).collect()).expect("is a group");
        assert_eq!(full.members().count(), bounds::MEMBERS_MAX);
        let error = group((0..=bounds::MEMBERS_MAX).map(member).collect()).expect_err("is full");
        assert_eq!(error.kind, Some(ErrorType::TooMany));
        let twice = group(vec![member(1), member(1)]).expect("is a group");
        assert_eq!(twice.members().count(), 1);
        assert!(group(vec![json!({"display": "nobody"})]).is_err());
    }
}
