//! Patches (RFC 7644 section 3.5.2): all operations, or none.

use scim_v2::filter::PatchPath;
use serde_json::{Map, Value};

use crate::bounds;
use crate::document::Document;
use crate::error::{ErrorType, ScimError};
use crate::members::{self, Members};
use crate::path::same;
use crate::schema::{ResourceKind, find};
use crate::shape::{Unknown, shape};

mod place;
mod values;

use place::apply_at;

const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// What is to be changed of a document.
#[derive(Debug, Clone)]
pub struct Patch {
    operations: Vec<Operation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Remove,
    Replace,
}

#[derive(Debug, Clone)]
struct Operation {
    op: Op,
    path: Option<PatchPath>,
    value: Option<Value>,
}

impl Patch {
    /// # Errors
    /// `invalidSyntax`, `invalidPath`, `tooMany`: whoever sent it is to blame.
    ///
    /// # Limits
    /// [`bounds::PATCH_OPERATIONS_MAX`].
    pub fn read(body: Value) -> Result<Self, ScimError> {
        let syntax = |detail: &str| ScimError::bad(ErrorType::InvalidSyntax, detail);
        let Value::Object(mut keys) = body else {
            return Err(syntax("the body must be an object"));
        };
        let schemas = take(&mut keys, "schemas");
        let is_patch = schemas.as_ref().and_then(Value::as_array).is_some_and(|schemas| {
            schemas.iter().filter_map(Value::as_str).any(|schema| same(schema, SCHEMA))
        });
        if !is_patch {
            return Err(syntax(&format!("'schemas' must name {SCHEMA}")));
        }
        let Some(Value::Array(operations)) = take(&mut keys, "Operations") else {
            return Err(syntax("'Operations' must be a list of operations"));
        };
        if operations.is_empty() {
            return Err(syntax("'Operations' is empty; name what is to be changed"));
        }
        if operations.len() > bounds::PATCH_OPERATIONS_MAX {
            let most = bounds::PATCH_OPERATIONS_MAX;
            let detail = format!("{} operations; at most {most} at once", operations.len());
            return Err(ScimError::bad(ErrorType::TooMany, detail));
        }
        let operations: Result<Vec<Operation>, ScimError> =
            operations.into_iter().map(Operation::read).collect();
        Ok(Self { operations: operations? })
    }

    /// Changes the document; when one operation cannot be done, none is.
    ///
    /// # Errors
    /// `invalidPath`, `noTarget`, `mutability`, `invalidValue`, `tooMany`: whoever sent the patch
    /// is to blame.
    pub fn apply(&self, document: &mut Document) -> Result<(), ScimError> {
        let mut next = document.clone();
        let mut members: Option<Members> = None;
        for operation in &self.operations {
            match operation.of_members(document.kind)? {
                Some(change) => {
                    let members = members.get_or_insert_with(|| Members::take(&mut next));
                    change.apply(members)?;
                }
                None => {
                    if let Some(members) = members.take() {
                        members.put_back(&mut next);
                    }
                    operation.apply(&mut next)?;
                }
            }
        }
        if let Some(members) = members {
            members.put_back(&mut next);
        }
        next.settle()?;
        *document = next;
        Ok(())
    }
}

/// A key of a message, without regard to case.
fn take(keys: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let key = keys.keys().find(|key| same(key, name)).cloned()?;
    keys.remove(&key)
}

fn read_path(text: &str) -> Result<PatchPath, ScimError> {
    let invalid = |detail: String| ScimError::bad(ErrorType::InvalidPath, detail);
    if text.len() > bounds::FILTER_BYTES_MAX {
        return Err(invalid(format!("the path is longer than {} bytes", bounds::FILTER_BYTES_MAX)));
    }
    text.parse().map_err(|error| invalid(format!("'{text}' is no path: {error}")))
}

impl Operation {
    fn read(value: Value) -> Result<Self, ScimError> {
        let syntax = |detail: &str| ScimError::bad(ErrorType::InvalidSyntax, detail);
        let Value::Object(mut keys) = value else {
            return Err(syntax("an operation must be an object"));
        };
        let op = take(&mut keys, "op");
        let op = match op.as_ref().and_then(Value::as_str) {
            Some(op) if same(op, "add") => Op::Add,
            Some(op) if same(op, "remove") => Op::Remove,
            Some(op) if same(op, "replace") => Op::Replace,
            Some(_) | None => return Err(syntax("'op' must be add, remove or replace")),
        };
        let path = match take(&mut keys, "path") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) => Some(read_path(&text)?),
            Some(_) => return Err(syntax("'path' must be a text")),
        };
        let value = take(&mut keys, "value");
        match (op, &path, &value) {
            (Op::Remove, None, _) => {
                Err(ScimError::bad(ErrorType::NoTarget, "'remove' needs a 'path'"))
            }
            (Op::Add | Op::Replace, _, None) => {
                Err(ScimError::bad(ErrorType::InvalidValue, "'add' and 'replace' need a 'value'"))
            }
            (_, _, _) => Ok(Self { op, path, value }),
        }
    }

    /// What it changes of a group's members, where that is all that it does.
    ///
    /// # Errors
    /// `invalidValue`, `tooMany`.
    fn of_members(&self, kind: ResourceKind) -> Result<Option<OfMembers>, ScimError> {
        let Some(path) = &self.path else { return Ok(None) };
        if self.op == Op::Remove
            && let Some(id) = members::one_of_path(kind, path)
        {
            return Ok(Some(OfMembers::RemoveOne(id)));
        }
        let Some(value) = self.value.as_ref().filter(|_| members::is_path_of_all(kind, path))
        else {
            return Ok(None);
        };
        let Some(attribute) = find(kind.attributes(), "members") else { return Ok(None) };
        let shaped = |value: &Value| shape(attribute, value.clone(), Unknown::Refused);
        Ok(match self.op {
            Op::Replace => None,
            Op::Add => array(shaped(value)?).map(OfMembers::Add),
            // Entra ID names the members to be removed in `value`.
            Op::Remove => array(shaped(value)?).map(OfMembers::RemoveAll),
        })
    }

    fn apply(&self, document: &mut Document) -> Result<(), ScimError> {
        match &self.path {
            Some(path) => apply_at(document, self.op, path, self.value.clone()),
            None => {
                let Some(Value::Object(keys)) = &self.value else {
                    let detail = "without a 'path', 'value' must be an object of attributes";
                    return Err(ScimError::bad(ErrorType::InvalidValue, detail));
                };
                for (key, value) in keys {
                    // Some providers send the whole of what they know back.
                    if ["schemas", "id", "meta"].iter().any(|own| same(own, key)) {
                        continue;
                    }
                    apply_at(document, self.op, &read_path(key)?, Some(value.clone()))?;
                }
                Ok(())
            }
        }
    }
}

/// A change of members that does not look at those whom it does not name.
enum OfMembers {
    Add(Vec<Value>),
    RemoveAll(Vec<Value>),
    RemoveOne(String),
}

impl OfMembers {
    fn apply(self, members: &mut Members) -> Result<(), ScimError> {
        match self {
            Self::Add(values) => return members.add(values),
            Self::RemoveAll(values) => members.remove_all(&values),
            Self::RemoveOne(id) => members.remove(&id),
        }
        Ok(())
    }
}

fn array(value: Option<Value>) -> Option<Vec<Value>> {
    match value {
        Some(Value::Array(values)) => Some(values),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{ENTERPRISE_USER, GROUP, ResourceKind, USER};

    fn ada() -> Document {
        let body = json!({
            "schemas": [USER], "userName": "ada", "active": true, "title": "Countess",
            "name": {"familyName": "Lovelace", "givenName": "Ada"},
            "emails": [
                {"value": "ada@work.example", "type": "work", "primary": true},
                {"value": "ada@home.example", "type": "home"},
            ],
            ENTERPRISE_USER: {"department": "Engines"},
        });
        Document::read(ResourceKind::User, body).expect("is a user")
    }

    fn patched(document: &Document, operations: &Value) -> Result<Document, ScimError> {
        let mut next = document.clone();
        Patch::read(json!({"schemas": [SCHEMA], "Operations": operations}))?.apply(&mut next)?;
        Ok(next)
    }

    /// The key of the user after the operations.
    fn check(operations: Value, key: &str, expect: Value) {
        let after = patched(&ada(), &operations).expect("can be done");
        let found = after.keys().get(key).cloned().unwrap_or_default();
        assert_eq!(found, expect, "{operations}");
    }

    #[test]
    fn plain_attributes_are_added_replaced_and_removed() {
        check(json!([{"op": "Add", "path": "nickName", "value": "A"}]), "nickName", json!("A"));
        check(json!([{"op": "replace", "path": "TITLE", "value": "Dr"}]), "title", json!("Dr"));
        check(json!([{"op": "remove", "path": "title"}]), "title", Value::Null);
        check(json!([{"op": "replace", "path": "title", "value": null}]), "title", Value::Null);
        let path = format!("{USER}:title");
        check(json!([{"op": "replace", "path": path, "value": "Dr"}]), "title", json!("Dr"));
    }

    #[test]
    fn deactivation_is_understood_in_every_form_that_providers_send() {
        for operation in [
            json!({"op": "replace", "path": "active", "value": false}),
            json!({"op": "Replace", "path": "active", "value": "False"}),
            json!({"op": "replace", "value": {"active": false}}),
            json!({"op": "replace", "value": {"active": "false", "id": "u-1"}}),
            json!({"op": "add", "path": "active", "value": "FALSE"}),
        ] {
            let after = patched(&ada(), &json!([operation])).expect("can be done");
            assert!(!after.is_active(), "{operation}");
        }
    }

    #[test]
    fn parts_and_extensions_are_reached_by_path_and_by_key() {
        let name = |given: &str| json!({"familyName": "Lovelace", "givenName": given});
        check(
            json!([{"op": "replace", "path": "name.givenName", "value": "A."}]),
            "name",
            name("A."),
        );
        check(json!([{"op": "replace", "value": {"name.givenName": "A."}}]), "name", name("A."));
        check(
            json!([{"op": "add", "path": "name", "value": {"givenName": "A."}}]),
            "name",
            name("A."),
        );
        let department = |text: &str| json!({"department": text});
        let path = format!("{ENTERPRISE_USER}:department");
        let operation = json!([{"op": "add", "path": path, "value": "Mills"}]);
        check(operation, ENTERPRISE_USER, department("Mills"));
        let operation =
            json!([{"op": "replace", "value": {ENTERPRISE_USER: {"department": "Mills"}}}]);
        check(operation, ENTERPRISE_USER, department("Mills"));
        let value = json!({"schemas": [ENTERPRISE_USER], "department": "Mills"});
        let operation = json!([{"op": "add", "path": ENTERPRISE_USER, "value": value}]);
        check(operation, ENTERPRISE_USER, department("Mills"));
        check(json!([{"op": "remove", "path": path}]), ENTERPRISE_USER, Value::Null);
        check(json!([{"op": "remove", "path": ENTERPRISE_USER}]), ENTERPRISE_USER, Value::Null);
    }

    #[test]
    fn several_values_are_selected_by_filter() {
        let work = |value: &str| json!({"value": value, "type": "work", "primary": true});
        let home = json!({"value": "ada@home.example", "type": "home"});
        let operation =
            json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "a@b"}]);
        check(operation, "emails", json!([work("a@b"), home]));
        let operation = json!([{"op": "remove", "path": "emails[type eq \"work\"]"}]);
        check(operation, "emails", json!([home]));
        let operation =
            json!([{"op": "add", "path": "emails[type eq \"other\"].value", "value": "o@b"}]);
        let other = json!({"type": "other", "value": "o@b"});
        check(operation, "emails", json!([work("ada@work.example"), home, other]));
        let operation =
            json!([{"op": "replace", "path": "emails[type eq \"home\"].primary", "value": true}]);
        let no_more = json!({"value": "ada@work.example", "type": "work", "primary": false});
        let primary = json!({"value": "ada@home.example", "type": "home", "primary": true});
        check(operation, "emails", json!([no_more, primary]));
        check(json!([{"op": "replace", "path": "emails", "value": []}]), "emails", Value::Null);
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_changes_nothing() {
        let check = |operation: Value, kind: ErrorType| {
            let first = json!({"op": "replace", "path": "title", "value": "Dr"});
            let mut document = ada();
            let body = json!({"schemas": [SCHEMA], "Operations": [first, operation]});
            let error = Patch::read(body).and_then(|patch| patch.apply(&mut document));
            let error = error.expect_err("is refused");
            assert_eq!((error.status, error.kind), (400, Some(kind)), "{operation}: {error}");
            assert_eq!(document, ada(), "{operation}");
        };
        let replace = |path: &str| json!({"op": "replace", "path": path, "value": "x"});
        check(replace("nonsense"), ErrorType::InvalidPath);
        check(replace("name.nonsense"), ErrorType::InvalidPath);
        check(replace("emails[nonsense eq \"x\"].value"), ErrorType::InvalidPath);
        check(replace("title[value eq \"x\"]"), ErrorType::InvalidPath);
        check(replace("urn:example:title"), ErrorType::InvalidPath);
        check(replace("emails["), ErrorType::InvalidPath);
        check(json!({"op": "replace", "value": {"nonsense": 1}}), ErrorType::InvalidPath);
        check(json!({"op": "add", "path": "name", "value": {"x": 1}}), ErrorType::InvalidPath);
        check(replace("emails[type eq \"other\"].value"), ErrorType::NoTarget);
        check(json!({"op": "remove"}), ErrorType::NoTarget);
        check(replace("id"), ErrorType::Mutability);
        check(replace("groups"), ErrorType::Mutability);
        check(replace("meta.version"), ErrorType::Mutability);
        check(json!({"op": "remove", "path": "userName"}), ErrorType::InvalidValue);
        check(
            json!({"op": "replace", "path": "active", "value": "maybe"}),
            ErrorType::InvalidValue,
        );
        check(json!({"op": "add", "path": "title"}), ErrorType::InvalidValue);
        check(json!({"op": "move", "path": "title"}), ErrorType::InvalidSyntax);
        check(json!("replace"), ErrorType::InvalidSyntax);
        let many = vec![json!({"op": "remove", "path": "title"}); bounds::PATCH_OPERATIONS_MAX + 1];
        let error = patched(&ada(), &json!(many)).expect_err("are too many");
        assert_eq!(error.kind, Some(ErrorType::TooMany));
    }

    #[test]
    fn members_come_and_go_by_who_they_are() {
        let body = json!({"schemas": [GROUP], "displayName": "ops", "members": [{"value": "a"}]});
        let group = Document::read(ResourceKind::Group, body).expect("is a group");
        let check = |operation: Value, expect: &[&str]| {
            let after = patched(&group, &json!([operation])).expect("can be done");
            assert_eq!(after.members().collect::<Vec<_>>(), expect, "{operation}");
        };
        let added = json!([{"value": "a", "display": "A"}, {"value": "b"}]);
        check(json!({"op": "add", "path": "members", "value": added}), &["a", "b"]);
        check(json!({"op": "replace", "path": "members", "value": [{"value": "b"}]}), &["b"]);
        check(json!({"op": "remove", "path": "members[value eq \"a\"]"}), &[]);
        check(json!({"op": "remove", "path": "members[value eq \"A\"]"}), &["a"]);
        let gone = json!([{"value": "x"}, {"value": "a"}]);
        check(json!({"op": "Remove", "path": "members", "value": gone}), &[]);
        let operation = json!([{"op": "replace", "path": "members.value", "value": "x"}]);
        let error = patched(&group, &operation).expect_err("is fixed");
        assert_eq!(error.kind, Some(ErrorType::Mutability));
    }

    #[test]
    fn many_changes_of_members_in_one_patch_are_made_in_their_order() {
        let body = json!({"schemas": [GROUP], "displayName": "ops", "members": [
            {"value": "a", "display": "A"}, {"value": "b"}, {"value": "c"}]});
        let group = Document::read(ResourceKind::Group, body).expect("is a group");
        let path = format!("{GROUP}:members");
        let after = patched(
            &group,
            &json!([
                {"op": "remove", "path": "members[value eq \"b\"]"},
                {"op": "add", "path": path, "value": [{"value": "d"}, {"value": "a"}]},
                {"op": "replace", "path": "displayName", "value": "platform"},
                {"op": "remove", "path": "members", "value": [{"value": "c"}]},
                {"op": "add", "path": "members", "value": {"value": "b", "display": "B"}},
                {"op": "remove", "path": "members[value eq \"nobody\"]"},
            ]),
        );
        let after = after.expect("can be done");
        assert_eq!(after.name(), "platform");
        let expect = json!([
            {"value": "a", "display": "A"}, {"value": "d"}, {"value": "b", "display": "B"}]);
        assert_eq!(after.keys()["members"], expect);
        let error = patched(
            &group,
            &json!([
            {"op": "add", "path": "members", "value": [{"value": "d", "nonsense": 1}]}]),
        );
        assert_eq!(error.expect_err("is refused").kind, Some(ErrorType::InvalidPath));
        let error = patched(
            &group,
            &json!([
            {"op": "add", "path": "members", "value": [{"display": "nobody"}]}]),
        );
        assert_eq!(error.expect_err("is refused").kind, Some(ErrorType::InvalidValue));
        let emptied = patched(
            &group,
            &json!([
            {"op": "remove", "path": "members", "value": [
                {"value": "a"}, {"value": "b"}, {"value": "c"}]}]),
        );
        assert_eq!(emptied.expect("can be done").keys().get("members"), None);
    }

    #[test]
    fn a_patch_does_not_make_a_group_too_large() {
        let member = |n: usize| json!({"value": format!("u-{n}")});
        let members: Vec<Value> = (0..bounds::MEMBERS_MAX).map(member).collect();
        let body = json!({"schemas": [GROUP], "displayName": "ops", "members": members});
        let group = Document::read(ResourceKind::Group, body).expect("is a group");
        let one_more = json!([{"op": "add", "path": "members", "value": [{"value": "one more"}]}]);
        let error = patched(&group, &one_more).expect_err("is full");
        assert_eq!(error.kind, Some(ErrorType::TooMany));
        let known = json!([{"op": "add", "path": "members", "value": [{"value": "u-7"}]}]);
        assert_eq!(patched(&group, &known).expect("is in already"), group);
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_fall(path in ".{0,100}") {
            let _ = patched(&ada(), &json!([{"op": "add", "path": path, "value": {"value": "x"}}]));
        }
    }
}
