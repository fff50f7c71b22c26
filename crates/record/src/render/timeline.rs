//! What was asked of all targets of a run, as one list for programs: a statement an entry, with
//! what became of it.

use std::collections::BTreeMap;

use corral_model::Event;
use corral_model::event::{ApprovalState, EventBody, Outcome};
use corral_model::ids::{ApprovalId, RunId, SessionId, StatementSeq, TargetName};
use corral_model::statement::Attribute;
use serde::Serialize;
use time::OffsetDateTime;

use super::words::statement_text;

/// The field that names what a statement speaks within its session's protocol.
const SUBSYSTEM: &str = "subsystem";

/// One statement of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The protocol, or the subsystem within it (`sftp`).
    pub kind: String,
    pub session: Option<SessionId>,
    pub target: Option<TargetName>,
    pub run: Option<RunId>,
    pub run_path: Option<String>,
    /// Its number in the session.
    pub seq: StatementSeq,
    /// The text; of a long one, its length and SHA-256.
    pub statement: String,
    pub verbs: Vec<String>,
    /// What the client says of it (`traceparent`): nobody checked it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<&'static str, String>,
    /// As it stands: `hold` while people are asked, then what came of it.
    pub outcome: Outcome,
    /// Why, where it was not simply allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<TimelineApproval>,
    /// Absent while it runs, and when it did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<TimelineResult>,
}

/// The approval that a statement was held for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineApproval {
    pub id: ApprovalId,
    pub state: ApprovalState,
    pub by: Vec<String>,
    pub reason: String,
}

/// How a statement that ran ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineResult {
    /// SQLSTATE, exit code, HTTP status.
    pub code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    pub rows: u64,
    pub bytes: u64,
    pub duration_us: u64,
}

/// The statements of `events`, in the order in which they were asked for.
#[must_use]
pub fn timeline(events: &[Event]) -> Vec<TimelineEntry> {
    let mut timeline = Timeline::default();
    for event in events {
        timeline.add(event);
    }
    timeline.entries
}

#[derive(Default)]
struct Timeline<'a> {
    entries: Vec<TimelineEntry>,
    protocols: BTreeMap<&'a SessionId, &'a str>,
    places: BTreeMap<(Option<&'a SessionId>, StatementSeq), usize>,
    /// The statement of each decision: approvals name that.
    decisions: BTreeMap<&'a str, usize>,
}

impl<'a> Timeline<'a> {
    fn add(&mut self, event: &'a Event) {
        let session = event.origin.session.as_ref();
        #[expect(clippy::wildcard_enum_match_arm, reason = "others are not of a statement's fate")]
        match &event.body {
            EventBody::SessionOpened { protocol, .. } => {
                self.protocols.extend(session.map(|session| (session, protocol.as_str())));
            }
            EventBody::StatementDecided { .. } => self.decided(event),
            EventBody::ApprovalRequested { approval, decision, .. } => {
                let state = ApprovalState::Pending;
                let approval = TimelineApproval {
                    id: approval.clone(),
                    state,
                    by: Vec::new(),
                    reason: String::new(),
                };
                if let Some(entry) = self.of_decision(decision) {
                    entry.approval = Some(approval);
                }
            }
            EventBody::ApprovalDecided { approval, decision, state, by, reason } => {
                let Some(entry) = self.of_decision(decision) else { return };
                // An approved statement is decided once more.
                if *state != ApprovalState::Approved {
                    entry.outcome = Outcome::Deny;
                }
                let (by, reason) = (by.clone(), reason.clone());
                entry.approval =
                    Some(TimelineApproval { id: approval.clone(), state: *state, by, reason });
            }
            EventBody::StatementCompleted {
                seq_in_session,
                code,
                tag,
                rows,
                bytes,
                duration_us,
                ..
            } => {
                let place = self.places.get(&(session, *seq_in_session));
                if let Some(entry) = place.and_then(|place| self.entries.get_mut(*place)) {
                    entry.result = Some(TimelineResult {
                        code: code.clone(),
                        tag: tag.clone(),
                        rows: *rows,
                        bytes: *bytes,
                        duration_us: *duration_us,
                    });
                }
            }
            _ => {}
        }
    }

    fn of_decision(&mut self, decision: &str) -> Option<&mut TimelineEntry> {
        self.decisions.get(decision).and_then(|place| self.entries.get_mut(*place))
    }

    fn decided(&mut self, event: &'a Event) {
        let EventBody::StatementDecided {
            decision,
            statement,
            seq_in_session,
            verbs,
            outcome,
            reason,
            attributes,
            traceparent,
            ..
        } = &event.body
        else {
            return;
        };
        let session = event.origin.session.as_ref();
        let place = *self.places.entry((session, *seq_in_session)).or_insert(self.entries.len());
        self.decisions.insert(decision, place);
        if let Some(entry) = self.entries.get_mut(place) {
            entry.outcome = *outcome;
            entry.reason.clone_from(reason);
            return;
        }
        let kind = match attributes.get(SUBSYSTEM) {
            Some(Attribute::Text(name)) => name.as_str(),
            _ => session.and_then(|id| self.protocols.get(id)).copied().unwrap_or("unknown"),
        };
        self.entries.push(TimelineEntry {
            time: event.time,
            kind: kind.to_owned(),
            session: session.cloned(),
            target: event.origin.target.clone(),
            run: event.origin.run.clone(),
            run_path: event.origin.run_path.clone(),
            seq: *seq_in_session,
            statement: statement_text(statement),
            verbs: verbs.clone(),
            claims: traceparent.iter().map(|claim| ("traceparent", claim.to_string())).collect(),
            outcome: *outcome,
            reason: reason.clone(),
            approval: None,
            result: None,
        });
    }
}
