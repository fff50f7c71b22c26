//! An object's canonical form, for digests that approvals and the record bind, and the
//! difference between two of them for people. Neither holds a masked value.

use std::collections::BTreeSet;

use corral_model::limits::{DIFF_LINES_MAX, DIFF_VALUE_BYTES_MAX};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::body::sorted;
use super::secrets::MaskPlan;

/// With it, masked values become digests that only this gateway can compute: equal values look
/// equal, and nobody can try values until one fits.
#[derive(Clone)]
pub(crate) struct DigestKey([u8; 32]);

impl DigestKey {
    #[must_use]
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// HMAC-SHA256 (RFC 2104).
    fn of(&self, text: &str) -> String {
        let pad = |byte: u8| {
            let mut block = [byte; 64];
            block.iter_mut().zip(self.0).for_each(|(place, key)| *place ^= key);
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
        hex(&Sha256::new().chain_update(pad(0x5C)).chain_update(inner).finalize())
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What of an object says what it is: without what the target counts and keeps for itself.
/// `classified` masks every classified field, whoever asks.
#[must_use]
pub(crate) fn canonical(object: &Value, classified: Option<&MaskPlan>, key: &DigestKey) -> Value {
    let mut object = object.clone();
    if let Some(plan) = classified {
        plan.replace_masked(&mut object, &|value| format!("masked:{}", key.of(&sorted(value))));
    }
    if let Value::Object(map) = &mut object {
        map.remove("status");
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            for key in [
                "managedFields",
                "resourceVersion",
                "generation",
                "uid",
                "creationTimestamp",
                "selfLink",
            ] {
                metadata.remove(key);
            }
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                super::secrets::remove_copies(annotations);
                if annotations.is_empty() {
                    metadata.remove("annotations");
                }
            }
        }
    }
    object
}

/// SHA-256 of a canonical form, in hexadecimal digits.
#[must_use]
pub(crate) fn digest(canonical: &Value) -> String {
    hex(&Sha256::digest(sorted(canonical)))
}

/// Lines of `PATH: before -> after` between two canonical forms, sorted by path. Of masked
/// values, only that they changed.
///
/// # Limits
/// [`DIFF_LINES_MAX`] lines, values cut at [`DIFF_VALUE_BYTES_MAX`] bytes; a last line says how
/// many more there are.
#[must_use]
pub(crate) fn diff(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let mut lines = Lines::default();
    lines.compare("", before, after);
    if lines.more > 0 {
        lines.lines.push(format!("… {} more changes", lines.more));
    }
    lines.lines
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    more: u64,
}

impl Lines {
    fn compare(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        if before == after {
            return;
        }
        match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                self.maps(path, before, after);
            }
            (Some(Value::Object(before)), None) if !before.is_empty() => {
                self.maps(path, before, &Map::new());
            }
            (None, Some(Value::Object(after))) if !after.is_empty() => {
                self.maps(path, &Map::new(), after);
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => {
                self.lists(path, before, after);
            }
            (before, after) => self.line(path, before, after),
        }
    }

    fn maps(&mut self, path: &str, before: &Map<String, Value>, after: &Map<String, Value>) {
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let plain =
                key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            let path = match (path.is_empty(), plain) {
                (true, true) => key.clone(),
                (false, true) => format!("{path}.{key}"),
                // Other keys in brackets: an annotation's name has dots.
                (_, false) => format!("{path}[{}]", shown(key)),
            };
            self.compare(&path, before.get(key), after.get(key));
        }
    }

    /// Items are told by their names where all have one, else by their places.
    fn lists(&mut self, path: &str, before: &[Value], after: &[Value]) {
        let (Some(before_names), Some(after_names)) = (names(before), names(after)) else {
            for index in 0..before.len().max(after.len()) {
                self.compare(&format!("{path}[{index}]"), before.get(index), after.get(index));
            }
            return;
        };
        let find = |items: &'_ [Value], names: &[&str], name: &str| -> Option<Value> {
            let index = names.iter().position(|other| *other == name)?;
            items.get(index).cloned()
        };
        let all: BTreeSet<&str> = before_names.iter().chain(&after_names).copied().collect();
        let mut is_same = true;
        for name in all {
            let (old, new) = (find(before, &before_names, name), find(after, &after_names, name));
            is_same &= old == new;
            self.compare(&format!("{path}[name={}]", shown(name)), old.as_ref(), new.as_ref());
        }
        if is_same {
            self.push(path, "one order", "another order");
        }
    }

    fn line(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        let is_masked = |value: &Option<&Value>| {
            value.and_then(Value::as_str).is_some_and(|text| text.starts_with("masked:"))
        };
        let text = |value: &Option<&Value>| match value {
            None => "(absent)".to_owned(),
            Some(_) if is_masked(value) => "(masked)".to_owned(),
            Some(value) => shown(&sorted(value)),
        };
        self.push(path, &text(&before), &text(&after));
    }

    fn push(&mut self, path: &str, before: &str, after: &str) {
        if self.lines.len() >= DIFF_LINES_MAX {
            self.more += 1;
            return;
        }
        self.lines
            .push(format!("{}: {before} -> {after}", if path.is_empty() { "(all)" } else { path }));
    }
}

fn names(items: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> =
        items.iter().map(|item| item.get("name").and_then(Value::as_str)).collect();
    let names = names?;
    let unique: BTreeSet<&&str> = names.iter().collect();
    (unique.len() == names.len()).then_some(names)
}

/// A text without control characters, cut.
fn shown(text: &str) -> String {
    let clean = |character: char| if character.is_control() { '\u{FFFD}' } else { character };
    let mut end = text.len().min(DIFF_VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, rest) = text.split_at(end);
    let mut kept: String = kept.chars().map(clean).collect();
    if !rest.is_empty() {
        kept.push_str(&format!("… ({} bytes)", text.len()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::secrets::always_classified;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use serde_json::json;

    fn key() -> DigestKey {
        DigestKey::new([7; 32])
    }

    fn plan() -> MaskPlan {
        MaskPlan::new(&always_classified(), "", "secrets", None).expect("masked")
    }

    fn secret(value: &str) -> Value {
        json!({"kind": "Secret", "data": {"password": value}, "stringData": {"b": value}})
    }

    #[test]
    fn the_key_makes_an_hmac() {
        // RFC 4231, test case 2, with its key padded as the algorithm does.
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(b"Jefe");
        let expect = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(DigestKey::new(bytes).of("what do ya want for nothing?"), expect);
    }

    #[test]
    fn what_the_target_counts_is_no_part_of_an_object() {
        let before = json!({"metadata": {"name": "a", "resourceVersion": "1", "generation": 1, "uid": "x", "managedFields": []}, "spec": {"b": 1, "a": 2}, "status": {"x": 1}});
        let after =
            json!({"spec": {"a": 2, "b": 1}, "metadata": {"resourceVersion": "2", "name": "a"}});
        let [before, after] = [before, after].map(|object| canonical(&object, None, &key()));
        assert_eq!(digest(&before), digest(&after));
        assert!(diff(Some(&before), Some(&after)).is_empty());
    }

    #[test]
    fn a_changed_secret_shows_that_it_changed() {
        let [one, same, other] =
            ["eA==", "eA==", "eQ=="].map(|value| canonical(&secret(value), Some(&plan()), &key()));
        assert_eq!(digest(&one), digest(&same));
        assert_ne!(digest(&one), digest(&other));
        let lines = diff(Some(&one), Some(&other));
        assert_eq!(
            lines,
            ["data.password: (masked) -> (masked)", "stringData.b: (masked) -> (masked)"]
        );
        assert!(!sorted(&one).contains("eA=="));
    }

    #[test]
    fn changes_are_named_by_path() {
        let before = json!({"spec": {"replicas": 2, "containers": [{"name": "a", "image": "x:1"}, {"name": "b"}]}, "l": [1, 2], "m": {"a.b/c": 1}});
        let after = json!({"spec": {"replicas": 3, "containers": [{"name": "b"}, {"name": "a", "image": "x:2"}]}, "l": [1], "m": {"a.b/c": "\u{1b}[31m"}, "new": {"k": true}});
        let expect = [
            "l[1]: 2 -> (absent)",
            "m[a.b/c]: 1 -> \"\\u001b[31m\"",
            "new.k: (absent) -> true",
            "spec.containers[name=a].image: \"x:1\" -> \"x:2\"",
            "spec.replicas: 2 -> 3",
        ];
        assert_eq!(diff(Some(&before), Some(&after)), expect);
        let other_order = json!({"l": [{"name": "b"}, {"name": "a"}]});
        let order = json!({"l": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(diff(Some(&order), Some(&other_order)), ["l: one order -> another order"]);
        assert_eq!(diff(None, Some(&json!({"a": {}}))), ["a: (absent) -> {}"]);
    }

    #[test]
    fn a_diff_is_bounded() {
        let many: Vec<usize> = (0..10_000).collect();
        let lines = diff(Some(&json!({ "a": [] })), Some(&json!({ "a": many })));
        assert_eq!(lines.len(), DIFF_LINES_MAX + 1);
        assert_eq!(
            lines.last().map(String::as_str),
            Some(format!("… {} more changes", 10_000 - DIFF_LINES_MAX).as_str())
        );
        let long = "ü".repeat(100_000);
        let lines = diff(None, Some(&json!(long)));
        assert!(lines.iter().all(|line| line.len() < 2 * DIFF_VALUE_BYTES_MAX + 100));
    }

    proptest! {
        #[test]
        fn a_masked_value_is_in_no_digest_and_no_diff(one in "[a-z]{12}", other in "[a-z]{12}") {
            let [before, after] = [&one, &other].map(|value| canonical(&secret(value), Some(&plan()), &key()));
            let text = format!("{}{}{:?}", sorted(&before), sorted(&after), diff(Some(&before), Some(&after)));
            prop_assert!(!text.contains(&one) && !text.contains(&other));
            prop_assert_eq!(one == other, digest(&before) == digest(&after));
        }

        #[test]
        fn equal_objects_have_no_difference(text in any::<String>(), number in any::<i64>()) {
            let object = json!({ text.as_str(): [number, { "name": text.as_str() }] });
            prop_assert!(diff(Some(&object), Some(&object.clone())).is_empty());
            prop_assert!(!diff(None, Some(&object)).is_empty());
        }
    }
}
