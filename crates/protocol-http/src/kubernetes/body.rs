//! Objects as clients and targets write them, read so strictly that nobody can read them
//! differently: no key twice, no depth or size without a limit.

mod json;
mod patch;
mod protobuf;
mod yaml;

use serde_json::Value;

pub(crate) use json::{read as read_json, sorted, write_for_yaml};
pub(crate) use patch::oracle;
pub(crate) use protobuf::{Envelope, MAGIC, ObjectName, write_envelope};

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    /// By the content type of a request's body; None when it is not known here. All kinds of
    /// patches are JSON, but for apply, which is YAML (and JSON with it).
    #[must_use]
    pub(crate) fn of_content_type(content_type: &str) -> Option<Self> {
        let essence = essence(content_type);
        match essence.as_str() {
            "application/json"
            | "application/json-patch+json"
            | "application/merge-patch+json"
            | "application/strategic-merge-patch+json" => Some(Self::Json),
            "application/yaml" | "application/apply-patch+yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// A content type without its parameters, in lower case.
#[must_use]
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Why a body cannot be judged. Whoever wrote it is to blame; the texts quote nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the object is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the object nests deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("a key stands twice in one map of the object")]
    DuplicateKey,
    #[error("the object is no valid {format} at line {line}, column {column}")]
    Malformed { format: &'static str, line: u64, column: u64 },
    #[error("the protobuf object cannot be read: {0}")]
    Protobuf(#[from] super::wire::WireError),
    #[error("the protobuf object has no Kubernetes envelope, or one that is encoded twice")]
    Envelope,
    #[error("the body is protobuf; send it as JSON, so that its fields can be judged")]
    NeedsJson,
}

/// Reads an object that a client sends.
///
/// # Errors
/// When it cannot be read in one way only, or is larger than `limit` bytes. Protobuf has no
/// field names: [`BodyError::NeedsJson`].
pub(crate) fn decode(encoding: Encoding, body: &[u8], limit: usize) -> Result<Value, BodyError> {
    if body.len() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    match encoding {
        Encoding::Json => json::read(body),
        Encoding::Yaml => yaml::read(body),
        Encoding::Protobuf => Err(BodyError::NeedsJson),
    }
}

/// What an object calls itself.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn name_of(
    encoding: Encoding,
    body: &[u8],
    limit: usize,
) -> Result<ObjectName, BodyError> {
    if encoding == Encoding::Protobuf {
        if body.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        return Envelope::read(body)?.object_name();
    }
    Ok(ObjectName::of_value(&decode(encoding, body, limit)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoding: Encoding, body: &str, expect: Result<&str, BodyError>) {
        let read = decode(encoding, body.as_bytes(), 4_000);
        let expect = expect.map(|json| serde_json::from_str::<Value>(json).expect("valid"));
        assert_eq!(read, expect, "{body}");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_level() {
        let twice = Err(BodyError::DuplicateKey);
        check(Encoding::Json, r#"{"a":1,"a":2}"#, twice.clone());
        check(Encoding::Json, r#"{"a":[{"b":{"c":1,"c":1}}]}"#, twice.clone());
        check(Encoding::Json, r#"{"a":1,"\u0061":2}"#, twice.clone());
        check(Encoding::Yaml, "a: 1\na: 2\n", twice.clone());
        check(Encoding::Yaml, "a:\n  - b: {c: 1, c: 1}\n", twice);
        check(Encoding::Json, r#"{"a":{"b":1},"b":1}"#, Ok(r#"{"a":{"b":1},"b":1}"#));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let limit = corral_model::limits::OBJECT_DEPTH_MAX;
        for levels in [limit + 1, 10_000 / 5] {
            let json = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            let is_deep = matches!(
                decode(Encoding::Json, json.as_bytes(), usize::MAX),
                Err(BodyError::TooDeep { .. })
            );
            assert!(is_deep, "{levels}");
            let read = decode(Encoding::Yaml, json.as_bytes(), usize::MAX);
            assert!(matches!(read, Err(BodyError::TooDeep { .. })), "{levels} {read:?}");
        }
        let levels = limit - 1;
        let json = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(decode(Encoding::Json, json.as_bytes(), usize::MAX).is_ok());
        let large = format!("\"{}\"", "a".repeat(4_000));
        check(Encoding::Json, &large, Err(BodyError::TooLarge { limit: 4_000 }));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in ["", "{", "{}x", "{'a':1}", "[1,]", "NaN", "\"\\ud800\"", "// c\n{}"] {
            let read = decode(Encoding::Json, body.as_bytes(), 4_000);
            assert!(matches!(read, Err(BodyError::Malformed { .. })), "{body} {read:?}");
        }
        let read = decode(Encoding::Json, b"\"\xFF\"", 4_000);
        assert!(matches!(read, Err(BodyError::Malformed { .. })), "{read:?}");
    }

    #[test]
    fn yaml_is_read_without_the_parts_that_readers_differ_in() {
        check(Encoding::Yaml, "a: yes\nb: true\nc: 1\n", Ok(r#"{"a":"yes","b":true,"c":1}"#));
        check(Encoding::Yaml, r#"{"a": {"b": [1, "x"]}}"#, Ok(r#"{"a":{"b":[1,"x"]}}"#));
        for body in [
            "a: &x 1\nb: *x\n",
            "a: 1\n---\nb: 2\n",
            "<<: {a: 1}\n",
            "a: [\n",
            "- !!binary aGk=\n- ? {a: 1}\n  : 2\n",
        ] {
            let read = decode(Encoding::Yaml, body.as_bytes(), 4_000);
            assert!(read.is_err(), "{body} {read:?}");
        }
    }

    #[test]
    fn a_body_says_its_name_in_every_encoding() {
        let json =
            br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a","namespace":"n"}}"#;
        let name = name_of(Encoding::Json, json, 4_000).expect("reads");
        assert_eq!(name.name.as_deref(), Some("a"));
        assert_eq!(name.namespace.as_deref(), Some("n"));
        assert_eq!((name.api_version.as_str(), name.kind.as_str()), ("v1", "Secret"));
        let yaml = b"kind: Secret\napiVersion: v1\nmetadata: {name: a, namespace: n}\n";
        assert_eq!(name_of(Encoding::Yaml, yaml, 4_000), Ok(name.clone()));
        let mut meta: Vec<u8> = Vec::new();
        crate::kubernetes::wire::write_bytes(&mut meta, 1, b"a");
        crate::kubernetes::wire::write_bytes(&mut meta, 3, b"n");
        let mut raw: Vec<u8> = Vec::new();
        crate::kubernetes::wire::write_bytes(&mut raw, 1, &meta);
        let body = write_envelope("v1", "Secret", &raw);
        assert_eq!(name_of(Encoding::Protobuf, &body, 4_000), Ok(name));
    }

    #[test]
    fn content_types_are_known_or_not() {
        let known = Encoding::of_content_type;
        assert_eq!(known("application/JSON; charset=utf-8"), Some(Encoding::Json));
        assert_eq!(known("application/apply-patch+yaml"), Some(Encoding::Yaml));
        assert_eq!(known("application/vnd.kubernetes.protobuf"), Some(Encoding::Protobuf));
        assert_eq!(known("application/cbor"), None);
        assert_eq!(known("text/plain"), None);
    }
}
