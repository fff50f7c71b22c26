//! Status objects: the target's errors, whose texts may quote the object they are about.

use serde_json::{Map, Value, json};

use super::MaskPlan;

/// Reasons that clients act on, with the text shown in place of the target's.
const REASONS: [(&str, &str); 19] = [
    ("Unauthorized", "the target does not know who asks"),
    ("Forbidden", "the target refuses it"),
    ("NotFound", "not found"),
    ("AlreadyExists", "already exists"),
    ("Conflict", "the object was changed meanwhile, or other managers own its fields"),
    ("Gone", "is gone"),
    ("Invalid", "is invalid"),
    ("ServerTimeout", "the target took too long"),
    ("StoreReadError", "the target cannot read its store"),
    ("Timeout", "the target took too long"),
    ("TooManyRequests", "too many requests"),
    ("BadRequest", "the request is not valid"),
    ("MethodNotAllowed", "the target does not support it"),
    ("NotAcceptable", "the target has no such content type"),
    ("RequestEntityTooLarge", "the request is too large"),
    ("UnsupportedMediaType", "the target does not take this content type"),
    ("InternalError", "the target failed"),
    ("Expired", "the position in the list is too old"),
    ("ServiceUnavailable", "the target is not available"),
];

pub(super) fn is_status(value: &Value) -> bool {
    let is = |key: &str, text: &str| value.get(key).and_then(Value::as_str) == Some(text);
    is("kind", "Status") && is("apiVersion", "v1")
}

/// A reason and the text shown for it. An unknown reason is not shown.
pub(super) fn shown(plan: &MaskPlan, reason: &str) -> (&'static str, String) {
    let known = REASONS.iter().find(|(name, _)| *name == reason);
    let (reason, text) = known.copied().unwrap_or(("", "the target refuses it"));
    let subject = match &plan.name {
        Some(name) => format!("{} {name:?}", plan.resource),
        None => plan.resource.clone(),
    };
    let text = match reason {
        // As the target itself says it.
        "NotFound" | "AlreadyExists" => format!("{subject} {text}"),
        _ => {
            format!("{subject}: {text} (its own words may quote masked values: left out by corral)")
        }
    };
    (reason, text)
}

/// Keeps of a Status what cannot quote the object.
pub(super) fn mask(plan: &MaskPlan, status: &mut Value) {
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    let is_success = text("/status") == Some("Success");
    let mut kept = Map::new();
    for key in ["kind", "apiVersion"] {
        kept.insert(key.to_owned(), status.get(key).cloned().unwrap_or_default());
    }
    kept.insert("metadata".to_owned(), json!({}));
    let word = if is_success { "Success" } else { "Failure" };
    kept.insert("status".to_owned(), word.into());
    if !is_success {
        let (reason, message) = shown(plan, text("/reason").unwrap_or_default());
        kept.insert("message".to_owned(), message.into());
        kept.insert("reason".to_owned(), reason.into());
    }
    let mut details = details(plan);
    if is_success && let Some(uid) = text("/details/uid").filter(|uid| is_uid(uid)) {
        details.insert("uid".to_owned(), uid.into());
    }
    if let Some(wait) = status.pointer("/details/retryAfterSeconds").and_then(Value::as_u64) {
        details.insert("retryAfterSeconds".to_owned(), wait.into());
    }
    kept.insert("details".to_owned(), Value::Object(details));
    if let Some(code) = status.get("code").and_then(Value::as_u64) {
        kept.insert("code".to_owned(), code.into());
    }
    *status = Value::Object(kept);
}

fn details(plan: &MaskPlan) -> Map<String, Value> {
    let mut details = Map::new();
    if let Some(name) = &plan.name {
        details.insert("name".to_owned(), name.clone().into());
    }
    details.insert("kind".to_owned(), plan.resource.clone().into());
    details
}

fn is_uid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A Status in place of an error that is none: a text of some proxy or web hook.
#[must_use]
pub(crate) fn failure(plan: &MaskPlan, code: u16) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 => "Conflict",
        410 => "Gone",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let (reason, message) = shown(plan, reason);
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details(plan), "code": code,
    })
}
