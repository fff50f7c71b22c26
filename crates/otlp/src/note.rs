//! What of an event is needed for spans: a few bounded fields, taken where it is recorded. The
//! text of a statement, its parameters, reasons and purposes are not among them.

use corral_model::event::{ApprovalState, EventBody, Origin, Outcome};
use corral_model::ids::{ApprovalId, RunId, SessionId, StatementSeq};
use corral_model::{Run, TraceParent};
use serde::Serialize;
use time::OffsetDateTime;

use crate::bounds;
use crate::values::short;

/// One event, as far as spans need it. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    RunStarted(Box<RunStarted>),
    RunEnded {
        run: RunId,
        at: u64,
        reason: String,
    },
    Refused(Box<Refused>),
    SessionOpened(Box<SessionOpened>),
    SessionClosed {
        session: SessionId,
        at: u64,
        end: SessionEnd,
    },
    Decided(Box<Decided>),
    /// People decided against it, or nobody did.
    Unapproved {
        session: SessionId,
        decision: String,
        at: u64,
        state: &'static str,
    },
    Completed {
        session: SessionId,
        seq: StatementSeq,
        at: u64,
        code: String,
        rows: u64,
    },
}

/// Who acts; verified by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Who {
    pub(crate) run: Option<RunId>,
    pub(crate) path: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) sponsor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunStarted {
    pub(crate) run: RunId,
    pub(crate) parent: Option<RunId>,
    pub(crate) at: u64,
    pub(crate) who: Who,
    pub(crate) claim: Option<TraceParent>,
}

/// A session or a run that there is not, or several of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) what: What,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) count: u64,
    pub(crate) who: Who,
    pub(crate) target: Option<String>,
    pub(crate) address: Option<String>,
    /// Where policy decided: what to search the record for.
    pub(crate) decision: Option<String>,
    pub(crate) claim: Option<TraceParent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Session,
    Run,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionOpened {
    pub(crate) session: SessionId,
    pub(crate) at: u64,
    pub(crate) who: Who,
    pub(crate) protocol: String,
    pub(crate) target: Option<String>,
    pub(crate) address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SessionEnd {
    pub(crate) reason: String,
    pub(crate) statements: u64,
    pub(crate) rows: u64,
    pub(crate) bytes_to_client: u64,
    pub(crate) bytes_to_target: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) session: SessionId,
    pub(crate) seq: StatementSeq,
    pub(crate) at: u64,
    pub(crate) decision: String,
    pub(crate) outcome: Outcome,
    pub(crate) verbs: Vec<String>,
    pub(crate) effects: Vec<&'static str>,
    /// Schema and name.
    pub(crate) objects: Vec<(String, String)>,
    pub(crate) rules: Vec<String>,
    pub(crate) policy_version: u64,
    pub(crate) approval: Option<ApprovalId>,
    pub(crate) claim: Option<TraceParent>,
}

/// A run that was active when the gateway started: its start is not told again.
pub struct Known<'a> {
    pub run: &'a Run,
    /// Names from its root run to it.
    pub path: String,
}

impl Note {
    /// None where no span needs it.
    pub(crate) fn of(at: OffsetDateTime, origin: &Origin, body: &EventBody) -> Option<Self> {
        let at = nanos(at);
        let session = || origin.session.clone();
        #[expect(clippy::wildcard_enum_match_arm, reason = "spans are made of these only")]
        Some(match body {
            EventBody::RunStarted { parent, traceparent, .. } => {
                Self::RunStarted(Box::new(RunStarted {
                    run: origin.run.clone()?,
                    parent: parent.clone(),
                    at,
                    who: Who::of(origin),
                    claim: traceparent.clone(),
                }))
            }
            EventBody::RunEnded { reason, .. } => {
                Self::RunEnded { run: origin.run.clone()?, at, reason: word(reason) }
            }
            EventBody::RunRefused { traceparent, .. } => {
                let claim = traceparent.clone();
                Self::Refused(Box::new(Refused { claim, ..refused(What::Run, at, origin) }))
            }
            EventBody::SessionRefused { reason, client_address } => {
                Self::Refused(Box::new(Refused {
                    address: Some(short(client_address)),
                    decision: decision_in(reason),
                    ..refused(What::Session, at, origin)
                }))
            }
            EventBody::RefusalsCounted {
                refused: event, count, lasted_ms, client_address, ..
            } => {
                let what = if event == "run.refused" { What::Run } else { What::Session };
                Self::Refused(Box::new(Refused {
                    from: at.saturating_sub(lasted_ms.saturating_mul(1_000_000)),
                    count: *count,
                    address: client_address.as_deref().map(short),
                    ..refused(what, at, origin)
                }))
            }
            EventBody::SessionOpened { protocol, client_address, .. } => {
                Self::SessionOpened(Box::new(SessionOpened {
                    session: session()?,
                    at,
                    who: Who::of(origin),
                    protocol: short(protocol),
                    target: origin.target.as_ref().map(|target| short(target.as_str())),
                    address: short(client_address),
                }))
            }
            EventBody::SessionClosed {
                reason,
                statements,
                rows,
                bytes_to_client,
                bytes_to_target,
                ..
            } => {
                let end = SessionEnd {
                    reason: word(reason),
                    statements: *statements,
                    rows: *rows,
                    bytes_to_client: *bytes_to_client,
                    bytes_to_target: *bytes_to_target,
                };
                Self::SessionClosed { session: session()?, at, end }
            }
            EventBody::StatementDecided { .. } => {
                Self::Decided(Box::new(decided(session()?, at, body)?))
            }
            EventBody::ApprovalDecided { decision, state, .. } => {
                let state = match state {
                    // It is decided once more.
                    ApprovalState::Approved | ApprovalState::Pending => return None,
                    ApprovalState::Denied => "approval_denied",
                    ApprovalState::Expired => "approval_expired",
                    ApprovalState::Withdrawn => "approval_withdrawn",
                };
                Self::Unapproved { session: session()?, decision: decision.clone(), at, state }
            }
            EventBody::StatementCompleted { seq_in_session, code, rows, .. } => Self::Completed {
                session: session()?,
                seq: *seq_in_session,
                at,
                code: short(code),
                rows: *rows,
            },
            _ => return None,
        })
    }

    pub(crate) fn of_known(known: &Known<'_>) -> Self {
        let Known { run, path } = known;
        let who = Who {
            run: Some(run.id.clone()),
            path: Some(short(path)),
            principal: Some(short(&run.principal.name.to_string())),
            sponsor: Some(short(&run.sponsor.to_string())),
        };
        Self::RunStarted(Box::new(RunStarted {
            run: run.id.clone(),
            parent: run.parent.clone(),
            at: nanos(run.started_at),
            who,
            claim: None,
        }))
    }
}

fn refused(what: What, at: u64, origin: &Origin) -> Refused {
    Refused {
        what,
        from: at,
        to: at,
        count: 1,
        who: Who::of(origin),
        target: origin.target.as_ref().map(|target| short(target.as_str())),
        address: None,
        decision: None,
        claim: None,
    }
}

/// The decision that a refusal's text names; the text itself stays here.
fn decision_in(reason: &str) -> Option<String> {
    let (_, id) = reason.rsplit_once(" (decision ")?;
    id.strip_suffix(')').map(short)
}

impl Who {
    fn of(origin: &Origin) -> Self {
        let kept = |text: &Option<String>| text.as_deref().map(short);
        Self {
            run: origin.run.clone(),
            path: kept(&origin.run_path),
            principal: kept(&origin.principal),
            sponsor: kept(&origin.sponsor),
        }
    }
}

fn decided(session: SessionId, at: u64, body: &EventBody) -> Option<Decided> {
    let EventBody::StatementDecided {
        decision,
        seq_in_session,
        verbs,
        effects,
        objects,
        outcome,
        rules,
        policy_version,
        approval,
        traceparent,
        ..
    } = body
    else {
        return None;
    };
    let some = |texts: &[String]| -> Vec<String> {
        texts.iter().take(bounds::LIST_LEN_MAX).map(|text| short(text)).collect()
    };
    let objects = objects.iter().take(bounds::LIST_LEN_MAX);
    Some(Decided {
        session,
        seq: *seq_in_session,
        at,
        decision: decision.clone(),
        outcome: *outcome,
        verbs: some(verbs),
        effects: effects.iter().map(corral_model::Effect::name).collect(),
        objects: objects.map(|object| (short(&object.schema), short(&object.name))).collect(),
        rules: some(rules),
        policy_version: policy_version.0,
        approval: approval.clone(),
        claim: traceparent.clone(),
    })
}

fn nanos(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos()).unwrap_or_default()
}

/// A word of the events, as it is in JSON.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
