//! The body of a request that writes: what it says, whether it can be judged, and what goes to
//! the target in its place. Pure.

use bytes::Bytes;
use corral_model::ObjectRole;
use corral_model::limits::OBJECT_BYTES_MAX;
use corral_model::statement::Attribute;
use serde_json::Value;

use super::body::{self, BodyError, Encoding, ObjectName, essence};
use super::call::{ApiVerb, Call};
use super::fields;
use super::judge::{ObjectFacts, object_of};
use super::path::ResourcePath;
use super::secrets::{MaskPlan, holds_mask};

/// Why a body is refused. The client is to blame; texts go to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("this content type cannot be judged; send the object as application/json")]
    ContentType,
    #[error("the object names another namespace than the path")]
    Namespace,
    #[error("the object names another object than the path")]
    Name,
    #[error(
        "the object holds the text that stands for masked values and would overwrite them; send a \
         patch of the fields that change"
    )]
    Mask,
    #[error("the patch tests or copies masked values; use a merge patch")]
    Oracle,
}

impl ObjectError {
    /// Whether it is about size.
    pub(crate) fn is_size(&self) -> bool {
        matches!(self, Self::Body(BodyError::TooLarge { .. }))
    }
}

/// A body that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    /// What goes to the target. YAML becomes JSON, which is YAML as well.
    pub(crate) body: Bytes,
    pub(crate) facts: ObjectFacts,
    /// What it calls itself.
    pub(crate) name: Option<String>,
    /// As it was sent, a patch as such; None for protobuf and for no body.
    pub(crate) object: Option<Value>,
    /// Whether the facts stand for the whole object: a patch says how it changes, and protobuf
    /// has no names. The rest is told by the target's dry run.
    pub(crate) is_whole: bool,
}

/// Reads the body of a request that writes. `plan` masks the resource for this client.
///
/// # Errors
/// [`ObjectError`]: the client is to blame.
pub(crate) fn read(
    call: &Call,
    content_type: Option<&str>,
    body: Bytes,
    plan: Option<&MaskPlan>,
) -> Result<Written, ObjectError> {
    let Some(path) = call.resource() else {
        // No path outside of the resources takes an object that somebody here knows.
        let facts = ObjectFacts { is_unknown: !body.is_empty(), ..ObjectFacts::default() };
        return Ok(Written { body, facts, name: None, object: None, is_whole: false });
    };
    if body.is_empty() {
        let facts = ObjectFacts::default();
        return Ok(Written { body, facts, name: None, object: None, is_whole: true });
    }
    // The API server takes a body without a type for JSON.
    let content_type = content_type.unwrap_or("application/json");
    let encoding = Encoding::of_content_type(content_type).ok_or(ObjectError::ContentType)?;
    if plan.is_some() && holds_mask(&body) {
        return Err(ObjectError::Mask);
    }
    let (value, name, body) = match encoding {
        Encoding::Protobuf => (None, body::name_of(encoding, &body, OBJECT_BYTES_MAX)?, body),
        Encoding::Json => {
            let value = body::decode(encoding, &body, OBJECT_BYTES_MAX)?;
            let name = ObjectName::of_value(&value);
            (Some(value), name, body)
        }
        Encoding::Yaml => {
            let value = body::decode(encoding, &body, OBJECT_BYTES_MAX)?;
            let name = ObjectName::of_value(&value);
            let text = body::write_for_yaml(&value);
            (Some(value), name, Bytes::from(text))
        }
    };
    let patch = patch_of(call, content_type);
    if patch == Some(Patch::Json) {
        let is_oracle = |plan: &MaskPlan, patch: &Value| body::oracle(patch, |to| plan.reaches(to));
        if plan.zip(value.as_ref()).is_some_and(|(plan, patch)| is_oracle(plan, patch)) {
            return Err(ObjectError::Oracle);
        }
    }
    let is_object = matches!(call.verb, ApiVerb::Create | ApiVerb::Update | ApiVerb::Patch)
        && patch != Some(Patch::Json);
    let mut facts = ObjectFacts::default();
    if is_object {
        check_names(path, &name, encoding)?;
        if let Some(name) = name.name.as_deref().filter(|_| names_itself(call, path)) {
            facts.objects.push(object_of(path, Some(name), ObjectRole::Write));
            facts.attributes.insert("name", Attribute::Text(name.to_owned()));
        }
        if !name.kind.is_empty() {
            facts.attributes.insert("object_kind", Attribute::Text(name.kind.clone()));
        }
    }
    if let Some(patch) = patch {
        facts.attributes.insert("patch_type", Attribute::Text(patch.name().to_owned()));
    }
    let is_asked = has_facts(call, path);
    let is_whole = !is_asked || (patch.is_none() && value.is_some());
    if let Some(value) = value.as_ref().filter(|_| is_asked && patch.is_none()) {
        merge(
            &mut facts,
            fields::facts(&path.group, &path.resource, path.namespace.as_deref(), value),
        );
    }
    facts.is_unknown |= !is_whole;
    let name = name.name.filter(|name| is_object && is_name(name));
    Ok(Written { body, facts, name, object: value, is_whole })
}

/// What an object amounts to, as the target would store it: replaces what [`read`] found in the
/// client's body.
pub(crate) fn of_result(call: &Call, written: &ObjectFacts, result: &Value) -> ObjectFacts {
    let Some(path) = call.resource() else { return written.clone() };
    let mut facts = ObjectFacts::default();
    let kept = ["name", "patch_type"];
    facts.attributes = written.attributes.clone();
    facts.attributes.retain(|name, _| kept.contains(name));
    let name = ObjectName::of_value(result);
    if let Some(name) = name.name.as_deref().filter(|_| names_itself(call, path)) {
        facts.objects.push(object_of(path, Some(name), ObjectRole::Write));
        facts.attributes.insert("name", Attribute::Text(name.to_owned()));
    }
    if has_facts(call, path) {
        let found = fields::facts(&path.group, &path.resource, path.namespace.as_deref(), result);
        merge(&mut facts, found);
    }
    facts.attributes.insert("is_decided_on_result", Attribute::Flag(true));
    facts
}

/// Whether fields of the whole object decide this write.
pub(crate) fn has_facts(call: &Call, path: &ResourcePath) -> bool {
    let writes = matches!(call.verb, ApiVerb::Create | ApiVerb::Update | ApiVerb::Patch);
    // Other subresources take other kinds of objects, which have verbs of their own.
    let is_whole = matches!(path.subresource.as_deref(), None | Some("ephemeralcontainers"));
    writes && is_whole && fields::has_facts(&path.group, &path.resource)
}

/// A name that can stand in a path as it is.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain) && !name.bytes().all(|byte| byte == b'.')
}

fn names_itself(call: &Call, path: &ResourcePath) -> bool {
    call.verb == ApiVerb::Create && path.name.is_none() && path.subresource.is_none()
}

fn merge(facts: &mut ObjectFacts, found: ObjectFacts) {
    facts.attributes.extend(found.attributes);
    facts.verbs.extend(found.verbs);
    facts.objects.extend(found.objects);
    facts.is_unknown |= found.is_unknown;
}

/// The target refuses such bodies itself; here nothing depends on it.
fn check_names(
    path: &ResourcePath,
    name: &ObjectName,
    encoding: Encoding,
) -> Result<(), ObjectError> {
    // Protobuf bodies of subresources have no metadata where objects have it.
    if encoding == Encoding::Protobuf && path.subresource.is_some() {
        return Ok(());
    }
    let differs = |said: &Option<String>, meant: &Option<String>| {
        said.as_ref().zip(meant.as_ref()).is_some_and(|(said, meant)| said != meant)
    };
    if differs(&name.namespace, &path.namespace) {
        return Err(ObjectError::Namespace);
    }
    if path.subresource.is_none() && differs(&name.name, &path.name) {
        return Err(ObjectError::Name);
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patch {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Patch {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Merge => "merge",
            Self::Strategic => "strategic",
            Self::Apply => "apply",
        }
    }
}

fn patch_of(call: &Call, content_type: &str) -> Option<Patch> {
    if call.verb != ApiVerb::Patch {
        return None;
    }
    Some(match essence(content_type).as_str() {
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json" => Patch::Strategic,
        "application/apply-patch+yaml" => Patch::Apply,
        // Any other is refused by the target, and read as the kind that can do most.
        _ => Patch::Json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::secrets::always_classified;
    use crate::kubernetes::verbs;
    use http::Method;
    use serde_json::json;

    const JSON: &str = "application/json";
    const PODS: &str = "/api/v1/namespaces/n/pods";
    const SECRET: &str = "/api/v1/namespaces/n/secrets/s";

    fn call(method: Method, path: &str) -> Call {
        Call::read(&method, path, "").expect(path)
    }

    fn written(
        method: Method,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Written, ObjectError> {
        let plan = MaskPlan::new(&always_classified(), "", "secrets", None);
        let plan = plan.filter(|_| path.contains("secrets"));
        let body = Bytes::copy_from_slice(body.as_bytes());
        read(&call(method, path), Some(content_type), body, plan.as_ref())
    }

    #[test]
    fn a_created_pod_is_judged_by_its_fields_in_json_and_yaml() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"hostPID": true}})
            .to_string();
        for content_type in [JSON, "application/yaml"] {
            let written = written(Method::POST, PODS, content_type, &pod).expect("reads");
            assert_eq!(written.facts.verbs, [verbs::HOST_ACCESS]);
            assert_eq!(
                written.facts.attributes.get("name"),
                Some(&Attribute::Text("p".to_owned()))
            );
            assert_eq!(written.facts.objects[0].name, "pods/p");
            assert!(written.is_whole && !written.facts.is_unknown);
        }
    }

    #[test]
    fn what_says_only_a_part_is_unknown_until_the_target_was_asked() {
        let path = format!("{PODS}/p");
        for content_type in [
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ] {
            let written = written(Method::PATCH, &path, content_type, "{}").expect("reads");
            assert!(written.facts.is_unknown && !written.is_whole, "{content_type}");
        }
        let list =
            written(Method::PATCH, &path, "application/json-patch+json", "[]").expect("reads");
        assert!(list.facts.is_unknown);
        let map = "/api/v1/namespaces/n/configmaps/c";
        let plain =
            written(Method::PATCH, map, "application/merge-patch+json", "{}").expect("reads");
        assert!(!plain.facts.is_unknown);
        let patch = call(Method::PATCH, &path);
        let result = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"hostIPC": true}});
        let facts = of_result(&patch, &list.facts, &result);
        assert_eq!(facts.verbs, [verbs::HOST_ACCESS]);
        assert!(!facts.is_unknown && facts.attributes.contains_key("is_decided_on_result"));
    }

    #[test]
    fn protobuf_says_its_name_and_needs_a_dry_run() {
        let mut meta: Vec<u8> = Vec::new();
        crate::kubernetes::wire::write_bytes(&mut meta, 1, b"p");
        let mut raw: Vec<u8> = Vec::new();
        crate::kubernetes::wire::write_bytes(&mut raw, 1, &meta);
        let body = Bytes::from(body::write_envelope("v1", "Pod", &raw));
        let protobuf = Some("application/vnd.kubernetes.protobuf");
        let written = read(&call(Method::POST, PODS), protobuf, body, None).expect("reads");
        assert!(written.facts.is_unknown);
        assert_eq!(written.facts.objects[0].name, "pods/p");
    }

    #[test]
    fn yaml_reaches_the_target_as_json() {
        let path = "/api/v1/namespaces/n/configmaps/c";
        let yaml = "data: {on: yes, x: \"\u{85}\"}\n";
        let written =
            written(Method::PATCH, path, "application/apply-patch+yaml", yaml).expect("reads");
        assert_eq!(written.body, Bytes::from_static(br#"{"data":{"on":"yes","x":"\u0085"}}"#));
    }

    #[test]
    fn bodies_that_cannot_be_judged_are_refused() {
        let check =
            |method: Method, path: &str, content_type: &str, body: &str, expect: ObjectError| {
                assert_eq!(written(method, path, content_type, body), Err(expect), "{path} {body}");
            };
        check(Method::POST, PODS, "application/cbor", "x", ObjectError::ContentType);
        check(Method::POST, PODS, "text/plain", "{}", ObjectError::ContentType);
        check(Method::POST, PODS, JSON, r#"{"a":1,"a":2}"#, BodyError::DuplicateKey.into());
        check(
            Method::POST,
            PODS,
            JSON,
            r#"{"metadata":{"namespace":"m"}}"#,
            ObjectError::Namespace,
        );
        check(
            Method::PUT,
            &format!("{PODS}/p"),
            JSON,
            r#"{"metadata":{"name":"q"}}"#,
            ObjectError::Name,
        );
        let mask = r#"{"data":{"password":"bWFza2VkIGJ5IGNvcnJhbA=="}}"#;
        check(Method::PUT, SECRET, JSON, mask, ObjectError::Mask);
        let probe = r#"[{"op":"test","path":"/data/password","value":"eA=="}]"#;
        check(Method::PATCH, SECRET, "application/json-patch+json", probe, ObjectError::Oracle);
        check(Method::PATCH, SECRET, JSON, probe, ObjectError::Oracle);
        check(
            Method::POST,
            PODS,
            "application/vnd.kubernetes.protobuf",
            "{}",
            BodyError::Envelope.into(),
        );
    }

    #[test]
    fn the_options_of_a_delete_are_no_object() {
        let options = r#"{"kind":"DeleteOptions","propagationPolicy":"Foreground"}"#;
        let deleted = written(Method::DELETE, &format!("{PODS}/p"), JSON, options).expect("reads");
        assert_eq!(deleted.facts, ObjectFacts::default());
        assert!(deleted.is_whole);
        let empty = written(Method::POST, PODS, JSON, "").expect("reads");
        assert!(empty.is_whole);
    }
}
