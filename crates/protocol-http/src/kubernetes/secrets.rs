//! Masks what is secret in a target's answers: the values of Secrets, and fields that are
//! classified by their path. What an answer shows depends on nothing that is masked.

mod json_stream;
mod object;
mod protobuf;
mod status;

use std::sync::Arc;

use corral_model::resource::ColumnName;
use serde_json::{Map, Value};

use crate::kubernetes::body::{BodyError, essence};
use json_stream::JsonMasker;
use protobuf::{ProtobufMasker, ProtobufWatchMasker};
pub(crate) use status::failure as masked_failure;

/// What stands in place of a masked text.
pub(crate) const MASK_TEXT: &str = "masked by corral";
/// The same in a Secret's `data`, whose values are base64.
pub(crate) const MASK_BASE64: &str = "bWFza2VkIGJ5IGNvcnJhbA==";
/// The name of the core API group, which has none, in a classification.
pub(crate) const CORE: &str = "core";
/// Headers of an answer that may quote an object.
pub(crate) const QUOTING_HEADERS: [&str; 1] = ["warning"];
/// Annotations in which tools keep a copy of the whole object.
const COPIES: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kapp.k14s.io/original",
    "objectset.rio.cattle.io/applied",
    "banzaicloud.com/last-applied",
    "pulumi.com/last-applied-configuration",
];

/// The fields that are secret by their type, on every target.
#[must_use]
pub(crate) fn always_classified() -> Vec<ColumnName> {
    ["data", "stringData"]
        .map(|column| ColumnName {
            schema: CORE.to_owned(),
            table: "secrets".to_owned(),
            column: column.to_owned(),
        })
        .to_vec()
}

/// What stands at a masked path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A map whose keys are shown: `data` of a Secret.
    Base64Map,
    /// A map whose keys are shown: `stringData` of a Secret.
    TextMap,
    /// One value of a Secret's `data`.
    Base64,
    /// Anything, replaced whole.
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct MaskedPath {
    /// Dotted; keys may hold dots themselves.
    path: String,
    shown: Shown,
}

/// What to mask in the answers about one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MaskPlan {
    paths: Vec<MaskedPath>,
    /// For messages: what the client asked for.
    resource: String,
    name: Option<String>,
}

impl MaskPlan {
    /// The plan for a resource; None when nothing of it is masked. `group` is empty for the core
    /// group; `name` is the one in the request's path.
    #[must_use]
    pub(crate) fn new(
        masked: &[ColumnName],
        group: &str,
        resource: &str,
        name: Option<&str>,
    ) -> Option<Self> {
        let is_group = |schema: &str| match group {
            "" => schema.eq_ignore_ascii_case(CORE),
            group => schema.eq_ignore_ascii_case(group),
        };
        let is_secret = group.is_empty() && resource.eq_ignore_ascii_case("secrets");
        let paths: Vec<MaskedPath> = masked
            .iter()
            .filter(|field| is_group(&field.schema) && field.table.eq_ignore_ascii_case(resource))
            .map(|field| MaskedPath {
                shown: if is_secret { shown_in_secret(&field.column) } else { Shown::Text },
                path: field.column.clone(),
            })
            .collect();
        if paths.is_empty() {
            return None;
        }
        Some(Self { paths, resource: resource.to_owned(), name: name.map(str::to_owned) })
    }

    /// The classified fields, as the record names them: `data`, `spec.token`.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|path| path.path.as_str())
    }

    /// Whether all that is masked are the values of Secrets: everything else of such an object,
    /// and of its tables and lists, is known to hold none of them.
    fn is_secret_values_only(&self) -> bool {
        self.paths.iter().all(|path| path.shown != Shown::Text)
    }

    /// Replaces what is masked by a text made of it, for digests.
    pub(crate) fn replace_masked(&self, object: &mut Value, by: &dyn Fn(&Value) -> String) {
        object::replace(self, object, by);
    }

    /// Whether a path, as a patch or a selector writes it, reaches a masked value: it is at the
    /// masked field, inside it, or above it. Numbers of list items do not count.
    #[must_use]
    pub(crate) fn reaches(&self, segments: &[String]) -> bool {
        let is_index =
            |part: &String| part == "-" || part.bytes().all(|byte| byte.is_ascii_digit());
        let named: Vec<&str> =
            segments.iter().filter(|part| !is_index(part)).map(String::as_str).collect();
        let asked = named.join(".").to_ascii_lowercase();
        let copies = COPIES.iter().map(|key| format!("metadata.annotations.{key}"));
        let masked = self.paths.iter().map(|path| path.path.clone()).chain(copies);
        asked.is_empty()
            || masked.into_iter().any(|path| {
                let path = path.to_ascii_lowercase();
                is_within(&asked, &path) || is_within(&path, &asked)
            })
    }

    /// Whether a field selector (`spec.nodeName=a,status.phase!=b`) asks for a masked value.
    #[must_use]
    pub(crate) fn is_selected_by(&self, field_selector: &str) -> bool {
        field_selector.split(',').any(|term| {
            let field = term.split(['=', '!']).next().unwrap_or_default().trim();
            let segments: Vec<String> = field.split('.').map(str::to_owned).collect();
            !field.is_empty() && self.reaches(&segments)
        })
    }

    /// The `Accept` header to ask the target with, so that its answer can be masked.
    ///
    /// # Errors
    /// [`MaskError::NotAcceptable`] when the client takes nothing that can be masked.
    pub(crate) fn accept(&self, accept: Option<&str>) -> Result<String, MaskError> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
            return Ok("application/json".to_owned());
        };
        let mut kept: Vec<&str> = Vec::new();
        for range in accept.split(',').map(str::trim) {
            match essence(range).as_str() {
                "application/json" => kept.push(range),
                "application/vnd.kubernetes.protobuf" if self.is_secret_values_only() => {
                    kept.push(range);
                }
                "*/*" | "application/*" => kept.push("application/json"),
                _ => {}
            }
        }
        match kept.is_empty() {
            true => Err(MaskError::NotAcceptable),
            false => Ok(kept.join(", ")),
        }
    }
}

fn shown_in_secret(path: &str) -> Shown {
    let (first, rest) = path.split_once('.').map_or((path, ""), |(first, rest)| (first, rest));
    let (is_data, is_text) =
        (first.eq_ignore_ascii_case("data"), first.eq_ignore_ascii_case("stringData"));
    match (is_data, is_text, rest.is_empty()) {
        (true, _, true) => Shown::Base64Map,
        (true, _, false) => Shown::Base64,
        (_, true, true) => Shown::TextMap,
        _ => Shown::Text,
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Takes out the copies of the whole object that tools keep in its annotations.
pub(crate) fn remove_copies(annotations: &mut Map<String, Value>) {
    for copy in COPIES {
        annotations.remove(copy);
    }
}

/// Whether a body that a client writes holds a mask, which would overwrite the value it stands
/// for: a client that read a masked object and sends it back.
#[must_use]
pub(crate) fn holds_mask(body: &[u8]) -> bool {
    [MASK_TEXT, MASK_BASE64]
        .iter()
        .any(|mask| body.windows(mask.len()).any(|window| window == mask.as_bytes()))
}

/// What an answer holds, as the request's verb and path say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One object, or the short answer to a delete.
    Object,
    /// A list, streamed item by item.
    List,
    /// Events without an end.
    Watch,
    /// An error, with its HTTP code.
    Error(u16),
}

/// Why an answer cannot be masked. Nothing of it is sent on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MaskError {
    #[error("the client takes no content type that can be masked; ask for application/json")]
    NotAcceptable,
    #[error("the target's answer has a content type that cannot be masked")]
    ContentType,
    #[error("the target's answer has one object larger than {limit} bytes, too large to be masked")]
    TooLarge { limit: usize },
    #[error("the target's answer cannot be read: {0}")]
    Unreadable(#[from] BodyError),
    #[error("the target's answer ends in the middle of an object")]
    Truncated,
    #[error("the target's answer is not of the shape that was asked for")]
    Shape,
}

impl From<super::wire::WireError> for MaskError {
    fn from(error: super::wire::WireError) -> Self {
        Self::Unreadable(BodyError::Protobuf(error))
    }
}

/// Masks one answer's body, piece by piece.
#[derive(Debug)]
pub(crate) struct Masker {
    kind: MaskerKind,
}

#[derive(Debug)]
enum MaskerKind {
    Json(JsonMasker),
    Protobuf(ProtobufMasker),
    ProtobufWatch(ProtobufWatchMasker),
}

impl Masker {
    /// For an answer of this content type.
    ///
    /// # Errors
    /// [`MaskError::ContentType`] when nobody here can read it.
    pub(crate) fn new(
        plan: Arc<MaskPlan>,
        shape: Shape,
        content_type: &str,
    ) -> Result<Self, MaskError> {
        let kind = match essence(content_type).as_str() {
            "application/json" => MaskerKind::Json(JsonMasker::new(plan, shape)),
            "application/vnd.kubernetes.protobuf" if plan.is_secret_values_only() => {
                let is_watch = shape == Shape::Watch || content_type.contains("stream=watch");
                match is_watch {
                    true => MaskerKind::ProtobufWatch(ProtobufWatchMasker::new(plan)),
                    false => MaskerKind::Protobuf(ProtobufMasker::new(plan)),
                }
            }
            _ => return Err(MaskError::ContentType),
        };
        Ok(Self { kind })
    }

    /// Takes the next piece, and appends what may be sent on.
    ///
    /// # Errors
    /// When the body cannot be masked; it ends there, and what was not appended is lost.
    ///
    /// # Limits
    /// Holds one object of at most [`corral_model::limits::ANSWER_OBJECT_BYTES_MAX`], or a protobuf
    /// list of at most [`corral_model::limits::TARGET_MESSAGE_BYTES_MAX`].
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        match &mut self.kind {
            MaskerKind::Json(masker) => masker.push(piece, out),
            MaskerKind::Protobuf(masker) => masker.push(piece),
            MaskerKind::ProtobufWatch(masker) => masker.push(piece, out),
        }
    }

    /// The body is over.
    ///
    /// # Errors
    /// When it ended too early, or what was held cannot be masked.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match &mut self.kind {
            MaskerKind::Json(masker) => masker.finish(out),
            MaskerKind::Protobuf(masker) => masker.finish(out),
            MaskerKind::ProtobufWatch(masker) => masker.finish(),
        }
    }

    /// Values masked so far.
    #[must_use]
    pub(crate) fn masked(&self) -> u64 {
        match &self.kind {
            MaskerKind::Json(masker) => masker.masked(),
            MaskerKind::Protobuf(masker) => masker.masked(),
            MaskerKind::ProtobufWatch(masker) => masker.masked(),
        }
    }
}

#[cfg(test)]
mod tests;
