//! What a write did to an object, for the record: digests and a difference, without masked values.

use corral_model::ObjectRole;
use corral_model::event::EventBody;
use corral_model::ids::StatementSeq;
use corral_model::statement::ObjectRef;
use serde_json::Value;

use super::call::{ApiVerb, Call};
use super::diff::{DigestKey, canonical, diff, digest};
use super::judge::{Judged, object_of};
use super::path::ResourcePath;
use super::secrets::MaskPlan;

/// Objects that are written all the time and say nothing: who leads, what happened.
const RESTLESS: [&str; 3] = ["events", "leases", "leasecandidates"];

/// A write whose effect is recorded.
pub(crate) struct Change {
    object: ObjectRef,
    pub(crate) before: Option<Value>,
    is_delete: bool,
}

impl Change {
    /// None when the request writes no single object.
    pub(crate) fn of(call: &Call, known_groups: &[String]) -> Option<Self> {
        let path = call.resource()?;
        let is_object = |path: &ResourcePath| {
            Judged::heeds_dry_run(path)
                || (path.subresource.is_none() && known_groups.contains(&path.group))
        };
        let is_delete = call.verb == ApiVerb::Delete;
        let writes =
            is_delete || matches!(call.verb, ApiVerb::Create | ApiVerb::Update | ApiVerb::Patch);
        let is_dry = call.query.get("dryRun").is_some();
        let is_restless = RESTLESS.contains(&path.resource.as_str());
        if !writes || !is_object(path) || is_dry || is_restless {
            return None;
        }
        let object = object_of(path, call.name(), ObjectRole::Write);
        Some(Self { object, before: None, is_delete })
    }

    /// What is recorded once the target answered with `after`.
    pub(crate) fn event(
        self,
        seq: StatementSeq,
        after: Option<&Value>,
        classified: Option<&MaskPlan>,
        key: &DigestKey,
    ) -> EventBody {
        let canonical = |object: &Value| canonical(object, classified, key);
        let before = self.before.as_ref().map(canonical);
        let after = after.filter(|_| !self.is_delete).map(canonical);
        // Of an object that is gone or new, the whole of it is no difference.
        let lines = match (&before, &after) {
            (Some(_), Some(_)) => diff(before.as_ref(), after.as_ref()),
            (Some(_) | None, None) | (None, Some(_)) => Vec::new(),
        };
        let mut object = self.object;
        if let Some(name) = after.as_ref().and_then(|a| a.pointer("/metadata/name"))
            && let Some(name) = name.as_str()
            && !object.name.contains('/')
        {
            object.name = format!("{}/{name}", object.name);
        }
        EventBody::ObjectChanged {
            seq_in_session: seq,
            object,
            digest_before: before.as_ref().map(digest),
            digest_after: after.as_ref().map(digest),
            diff: lines,
        }
    }
}
