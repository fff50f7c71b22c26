//! Patches that read: a JSON patch (RFC 6902) can compare a value, or copy it to where it is not
//! masked. Merge patches and apply only write.

use serde_json::Value;

/// Whether a JSON patch uses a value that `is_masked` says is masked, at the path or near it.
/// What is no well-formed operation counts as one that does: the target may read it otherwise.
pub(crate) fn oracle(patch: &Value, is_masked: impl Fn(&[String]) -> bool) -> bool {
    let Value::Array(operations) = patch else { return true };
    operations.iter().any(|operation| is_oracle(operation, &is_masked))
}

fn is_oracle(operation: &Value, is_masked: &impl Fn(&[String]) -> bool) -> bool {
    let touches = |key: &str| match operation.get(key).and_then(Value::as_str) {
        Some(pointer) => segments(pointer).is_none_or(|segments| is_masked(&segments)),
        None => true,
    };
    match operation.get("op").and_then(Value::as_str) {
        Some("add" | "remove" | "replace") => false,
        Some("test") => touches("path"),
        Some("copy" | "move") => touches("from"),
        _ => true,
    }
}

/// The parts of a JSON pointer (RFC 6901).
fn segments(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let parts = pointer.strip_prefix('/')?.split('/');
    Some(parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(patch: Value, expect: bool) {
        let is_masked =
            |path: &[String]| path.is_empty() || path.first().is_some_and(|part| part == "data");
        assert_eq!(oracle(&patch, is_masked), expect, "{patch}");
    }

    #[test]
    fn a_patch_that_reads_a_masked_value_is_an_oracle() {
        check(json!([{"op": "test", "path": "/data/password", "value": "eA=="}]), true);
        check(
            json!([{"op": "copy", "from": "/data/password", "path": "/metadata/labels/x"}]),
            true,
        );
        check(json!([{"op": "move", "from": "/data", "path": "/metadata/annotations"}]), true);
        check(json!([{"op": "test", "path": "", "value": {}}]), true);
        check(json!([{"op": "test", "path": "/d~0ata", "value": 1}]), false);
        check(json!([{"op": "replace", "path": "/data/password", "value": "eA=="}]), false);
        check(json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}]), false);
        check(json!([{"op": "test", "path": "/metadata/labels/x", "value": "y"}]), false);
    }

    #[test]
    fn what_is_no_known_operation_counts_as_an_oracle() {
        for patch in [
            json!({}),
            json!([{"op": "Test", "path": "/a"}]),
            json!([{"op": "test"}]),
            json!([{"op": "copy", "path": "/a"}]),
            json!([{"op": "test", "path": "a"}]),
        ] {
            check(patch, true);
        }
    }
}
