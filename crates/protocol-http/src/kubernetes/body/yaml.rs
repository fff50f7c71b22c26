//! YAML without aliases, merge keys, tags and YAML 1.1's many booleans. The target is sent JSON
//! made of what was read here, so that it cannot read the text in another way.

use corral_model::limits::{OBJECT_DEPTH_MAX, OBJECT_NODES_MAX};
use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::Options;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::BodyError;
use super::json::{Strict, is_deep, is_duplicate};

/// Reads one document.
///
/// # Errors
/// When it is no such YAML, has a key twice, or nests too deep.
pub(super) fn read(text: &[u8]) -> Result<Value, BodyError> {
    let malformed = |line, column| BodyError::Malformed { format: "YAML", line, column };
    let text = std::str::from_utf8(text).map_err(|_| malformed(1, 1))?;
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        Strict { levels_left: OBJECT_DEPTH_MAX }.deserialize(yaml)
    });
    read.map_err(|error| {
        let plain = error.without_snippet();
        let words = plain.to_string();
        let is_twice = matches!(plain, serde_saphyr::Error::DuplicateMappingKey { .. });
        if is_twice || is_duplicate(&words) {
            return BodyError::DuplicateKey;
        }
        let is_budget = matches!(plain, serde_saphyr::Error::Budget { .. });
        if is_budget || is_deep(&words) || words.contains("recursion limit") {
            return BodyError::TooDeep { limit: OBJECT_DEPTH_MAX };
        }
        let place = error.location();
        malformed(place.map_or(0, |place| place.line()), place.map_or(0, |place| place.column()))
    })
}

fn options() -> Options {
    let mut options = Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_merge_keys = 0;
    budget.max_inclusion_depth = 0;
    budget.max_documents = 1;
    budget.max_depth = OBJECT_DEPTH_MAX;
    budget.flow_nesting_limit = OBJECT_DEPTH_MAX;
    budget.max_nodes = OBJECT_NODES_MAX;
    budget.max_events = OBJECT_NODES_MAX * 3;
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.with_snippet = false;
    options
}
