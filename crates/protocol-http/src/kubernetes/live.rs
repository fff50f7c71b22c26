//! The object that a held write changes, as it is while people are asked: what they approve is a
//! change of this one, in this state.

use serde_json::Value;

use super::body::sorted;
use super::call::{ApiVerb, Call};
use super::diff::diff;
use super::judge::Judged;
use super::path::ResourcePath;

/// Names of fields in a refusal that says what changed.
const NAMED_MAX: usize = 10;

/// Where the object is read that a write changes. None for what creates one, and for objects that
/// nobody here knows to be plain: reading those could do anything.
pub(crate) fn path_of(call: &Call, path: &str, known_groups: &[String]) -> Option<String> {
    let resource = call.resource()?;
    let changes = match call.verb {
        ApiVerb::Update | ApiVerb::Patch | ApiVerb::Delete => true,
        // Evictions, bindings, tokens: of the object that the path names.
        ApiVerb::Create => resource.subresource.is_some(),
        ApiVerb::Get
        | ApiVerb::List
        | ApiVerb::Watch
        | ApiVerb::DeleteCollection
        | ApiVerb::Proxy => false,
    };
    if !changes || resource.is_connection() || resource.name.is_none() || !resource.rest.is_empty()
    {
        return None;
    }
    let object = ResourcePath { subresource: None, ..resource.clone() };
    if !Judged::heeds_dry_run(&object) && !known_groups.contains(&object.group) {
        return None;
    }
    let path = path.trim_end_matches('/');
    match resource.subresource {
        None => Some(path.to_owned()),
        Some(_) => path.rsplit_once('/').map(|(object, _)| object.to_owned()),
    }
}

/// An object at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Live {
    Absent,
    Present {
        uid: String,
        resource_version: String,
        /// With classified values replaced by digests.
        canonical: Value,
        /// What it says of itself beside that.
        status: Option<Value>,
    },
}

impl Live {
    /// Reads an answer of the API server; None when it is no object of a store.
    pub(crate) fn of(object: &Value, canonical: Value) -> Option<Self> {
        let text = |pointer: &str| {
            let text = object.pointer(pointer).and_then(Value::as_str)?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Some(Self::Present {
            uid: text("/metadata/uid")?,
            resource_version: text("/metadata/resourceVersion")?,
            canonical,
            status: object.get("status").cloned(),
        })
    }

    /// As approvers read it.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Absent => "of an object that does not exist yet".to_owned(),
            Self::Present { uid, resource_version, .. } => {
                format!("of the object {uid:?} at resourceVersion {resource_version:?}")
            }
        }
    }

    /// What an approval binds.
    pub(crate) fn binding(&self) -> String {
        match self {
            Self::Absent => "live=absent".to_owned(),
            Self::Present { uid, resource_version, .. } => {
                let both = Value::from(vec![uid.as_str(), resource_version.as_str()]);
                format!("live={}", sorted(&both))
            }
        }
    }

    /// What changed since, in words; None when nothing did. Fields are named, values are not.
    pub(crate) fn changed_to(&self, now: &Self) -> Option<String> {
        let (was, is) = match (self, now) {
            (Self::Absent, Self::Absent) => return None,
            (Self::Absent, Self::Present { .. }) => {
                return Some("it did not exist, and does now".to_owned());
            }
            (Self::Present { .. }, Self::Absent) => return Some("it was deleted".to_owned()),
            (Self::Present { uid, .. }, Self::Present { uid: other, .. }) if uid != other => {
                return Some("it was deleted, and another one has its name".to_owned());
            }
            (
                Self::Present { resource_version: was, .. },
                Self::Present { resource_version: is, .. },
            ) => (was, is),
        };
        if was == is {
            return None;
        }
        Some(format!("its resourceVersion was {was:?} and is {is:?}: {}", self.fields(now)))
    }

    fn fields(&self, now: &Self) -> String {
        let (
            Self::Present { canonical: before, status: was, .. },
            Self::Present { canonical: after, status: is, .. },
        ) = (self, now)
        else {
            return String::new();
        };
        let mut fields = changed_fields(before, after);
        if was != is {
            fields.push("status".to_owned());
        }
        match fields.is_empty() {
            true => "only what the target keeps for itself changed".to_owned(),
            false => format!("{} changed", in_words(&fields)),
        }
    }
}

/// The fields in which two canonical objects differ.
pub(crate) fn changed_fields(before: &Value, after: &Value) -> Vec<String> {
    let name = |line: &String| line.split_once(": ").map_or(line.as_str(), |(name, _)| name).into();
    diff(Some(before), Some(after)).iter().map(name).collect()
}

/// Some names of fields, and how many more there are.
pub(crate) fn in_words(fields: &[String]) -> String {
    let shown = fields.get(..NAMED_MAX).unwrap_or(fields).join(", ");
    match fields.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::diff::{DigestKey, canonical};

    fn path(line: &str) -> Option<String> {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let call = Call::read(&method.parse().expect("a method"), path, "").expect(line);
        path_of(&call, path, &["known.example".to_owned()])
    }

    #[test]
    fn the_object_that_a_write_changes_is_found() {
        let check = |line: &str, expect: Option<&str>| {
            assert_eq!(path(line).as_deref(), expect, "{line}");
        };
        let pod = Some("/api/v1/namespaces/a/pods/p");
        check("PUT /api/v1/namespaces/a/pods/p", pod);
        check("PATCH /api/v1/namespaces/a/pods/p/", pod);
        check("DELETE /api/v1/namespaces/a/pods/p", pod);
        check("POST /api/v1/namespaces/a/pods/p/eviction", pod);
        check("PUT /api/v1/namespaces/a/status", Some("/api/v1/namespaces/a"));
        check(
            "PATCH /apis/apps/v1/namespaces/a/deployments/d/scale",
            Some("/apis/apps/v1/namespaces/a/deployments/d"),
        );
        check("PATCH /apis/known.example/v1/widgets/w", Some("/apis/known.example/v1/widgets/w"));
        check("PATCH /apis/example.com/v1/widgets/w", None);
        check("POST /api/v1/namespaces/a/pods", None);
        check("DELETE /api/v1/namespaces/a/pods", None);
        check("POST /api/v1/namespaces/a/pods/p/exec", None);
        check("PUT /api/v1/namespaces/a/pods/p/proxy/x", None);
        check("GET /api/v1/namespaces/a/pods/p", None);
        check("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", None);
    }

    fn live(uid: &str, version: &str, replicas: u32, ready: u32) -> Live {
        let object = json!({
            "metadata": {"uid": uid, "resourceVersion": version},
            "spec": {"replicas": replicas}, "status": {"ready": ready},
        });
        let canonical = canonical(&object, None, &DigestKey::new([1; 32]));
        Live::of(&object, canonical).expect("an object")
    }

    #[test]
    fn what_changed_is_said_in_words() {
        let was = live("u", "5", 1, 1);
        let check = |now: &Live, expect: Option<&str>| {
            assert_eq!(was.changed_to(now).as_deref(), expect);
        };
        check(&live("u", "5", 1, 1), None);
        check(&Live::Absent, Some("it was deleted"));
        check(&live("v", "6", 1, 1), Some("it was deleted, and another one has its name"));
        let versions = r#"its resourceVersion was "5" and is "6": "#;
        let with = |what: &str| format!("{versions}{what}");
        let only = with("only what the target keeps for itself changed");
        check(&live("u", "6", 1, 1), Some(&only));
        check(&live("u", "6", 2, 1), Some(&with("spec.replicas changed")));
        check(&live("u", "6", 1, 2), Some(&with("status changed")));
        check(&live("u", "6", 2, 2), Some(&with("spec.replicas, status changed")));
        assert!(Live::Absent.changed_to(&was).is_some());
        assert_eq!(Live::Absent.changed_to(&Live::Absent), None);
        assert_ne!(was.binding(), live("u", "6", 1, 1).binding());
    }

    #[test]
    fn what_has_no_version_binds_nothing() {
        for object in [json!({}), json!({"metadata": {"uid": "u"}}), json!({"items": []})] {
            assert_eq!(Live::of(&object, object.clone()), None);
        }
    }
}
