//! What happened, as it is recorded and streamed: one JSON object a line (CONTRACT section 8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::{ApprovalId, PolicyVersion, RunId, SessionId, StatementSeq, TargetName};
use crate::principal::OffboardCause;
use crate::process::Process;
use crate::resource::Job;
use crate::run::RunEnd;
use crate::statement::{Attribute, Effects, ObjectRef, Parameter};
use crate::trace::TraceParent;

/// One event with its place in a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Number within its chain (a session's, or the gateway's), from 1. A session's events have
    /// no gaps; in the gateway's chain, numbers between them belong to the links to sessions.
    pub seq: u64,
    /// `CHAIN:SEQ`, unique for ever.
    pub id: String,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Name of the gateway that wrote it.
    pub gateway: String,
    #[serde(flatten)]
    pub origin: Origin,
    #[serde(flatten)]
    pub body: EventBody,
}

/// Who and where; fields that do not apply are absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Names from the root run to this one: `ci-job/planner/executor-3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The client said goodbye or closed its connection.
    Client,
    /// The target closed or reset its connection.
    Target,
    /// Somebody killed the session or its run.
    Killed,
    /// Its run, token or session TTL passed.
    Expired,
    /// Its principal or sponsor was disabled.
    Disabled,
    /// Nothing was sent for longer than the limit allows.
    Idle,
    /// A budget of the run was spent.
    Budget,
    /// One side broke the protocol, or sent something that cannot be judged.
    Protocol,
    /// A masked result was not what the analysis had predicted.
    Tripwire,
    /// Its account can no longer be written.
    Record,
    /// The gateway could not ask its store for too long.
    Authority,
    /// The gateway stops.
    Shutdown,
    /// The gateway ended without closing it; found at the next start.
    Lost,
}

/// What policy, or an approver, said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Allow,
    Deny,
    Hold,
}

impl Outcome {
    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
        }
    }
}

/// The state of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    Pending,
    Approved,
    Denied,
    Expired,
    Withdrawn,
}

/// A statement's text, or its digest when it is longer than
/// [`crate::limits::EVENT_TEXT_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventText {
    Whole(String),
    Digest { sha256: String, bytes: u64 },
}

/// Which end of a stream sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamEnd {
    Client,
    Target,
    /// The target's standard error.
    TargetError,
}

/// Bytes of a stream: as text where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamData {
    Text(String),
    Base64(String),
}

/// The kinds of events. Names are noun and past verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum EventBody {
    #[serde(rename = "gateway.started")]
    GatewayStarted { version: String, recovered_sessions: u64 },
    #[serde(rename = "gateway.stopped")]
    GatewayStopped {},
    /// The gateway could not ask its store for a whole lease: it ended what it had.
    #[serde(rename = "authority.lost")]
    AuthorityLost { sessions_closed: u64 },
    /// It can again.
    #[serde(rename = "authority.regained")]
    AuthorityRegained { away_ms: u64 },
    /// A target gave the gateway a new credential, which is kept in place of the one before.
    #[serde(rename = "credential.renewed")]
    CredentialRenewed {
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    /// It gave none; the one that there is stays in use. Once until it succeeds again.
    #[serde(rename = "credential.renewal_failed")]
    CredentialRenewalFailed { reason: String },
    /// The API of a workload's CI system does not say whether jobs still go on.
    #[serde(rename = "poll.failed")]
    PollFailed { workload: String, reason: String },
    /// It does again.
    #[serde(rename = "poll.recovered")]
    PollRecovered { workload: String },
    #[serde(rename = "config.changed")]
    ConfigChanged {
        by: String,
        version: PolicyVersion,
        /// `created target/orders-db`, `changed policy/shop`, `deleted user/ada`.
        changes: Vec<String>,
    },
    #[serde(rename = "principal.disabled")]
    PrincipalDisabled {
        name: String,
        by: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<OffboardCause>,
        runs_ended: u64,
        sessions_closed: u64,
    },
    /// Not active until the next good sign-in.
    #[serde(rename = "principal.suspended")]
    PrincipalSuspended {
        name: String,
        by: String,
        cause: OffboardCause,
        runs_ended: u64,
        sessions_closed: u64,
    },
    #[serde(rename = "principal.enabled")]
    PrincipalEnabled { name: String, by: String },
    #[serde(rename = "principal.signed_in")]
    PrincipalSignedIn {
        name: String,
        method: String,
        /// The identity provider that vouched for the person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        /// A local account was used although there are identity providers.
        #[serde(default, skip_serializing_if = "is_false")]
        break_glass: bool,
    },
    /// A provider's transmitter said that something happened, and what that did here.
    #[serde(rename = "signal.received")]
    SignalReceived {
        provider: String,
        /// The address of the event's type, or `global-token-revocation`.
        signal: String,
        /// `suspended`, `reevaluated`, `disabled`, `reinstated` or `none`.
        effect: String,
        /// Who was meant, of those who are known.
        people: Vec<String>,
    },
    #[serde(rename = "principal.refused")]
    PrincipalRefused { name: String, reason: String },
    #[serde(rename = "run.started")]
    RunStarted {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<RunId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<String>,
        targets: Vec<TargetName>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<String>,
        ttl_s: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renew_within_s: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started_by: Option<String>,
        /// As the parent's wrapper observed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        /// The job whose token started it, as the gateway verified it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Job>,
        /// What whoever asked for it says of its trace: a claim.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<TraceParent>,
    },
    #[serde(rename = "run.refused")]
    RunRefused {
        name: String,
        reason: String,
        /// What whoever asked for it says of its trace: a claim.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<TraceParent>,
    },
    /// What the command of a run left behind, which its wrapper ends. The wrapper's own word: the
    /// gateway does not see these processes.
    #[serde(rename = "processes.left")]
    ProcessesLeft {
        count: u64,
        /// Names of their programs, at most 16.
        programs: Vec<String>,
    },
    #[serde(rename = "run.ended")]
    RunEnded { reason: RunEnd, by: String, sessions_closed: u64 },
    /// Whoever had a token of a run got another JWT of it.
    #[serde(rename = "token.renewed")]
    TokenRenewed {
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
        /// Thumbprint of the key that it is bound to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    #[serde(rename = "session.opened")]
    SessionOpened {
        protocol: String,
        client_address: String,
        tls: bool,
        /// What the client says of itself: never decides anything.
        claims: Vec<(String, String)>,
    },
    #[serde(rename = "session.refused")]
    SessionRefused { reason: String, client_address: String },
    /// Refusals of one source that are not recorded one by one, because it did not stop.
    #[serde(rename = "refusals.counted")]
    RefusalsCounted {
        /// The event that each would have been: `session.refused` or `run.refused`.
        refused: String,
        count: u64,
        /// From the first to the last of them.
        lasted_ms: u64,
        /// Different ones, at most eight.
        reasons: Vec<String>,
        /// Where the last one came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_address: Option<String>,
        /// The run that was asked for last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    #[serde(rename = "session.closed")]
    SessionClosed {
        reason: CloseReason,
        statements: u64,
        rows: u64,
        bytes_to_client: u64,
        bytes_to_target: u64,
        duration_ms: u64,
    },
    #[serde(rename = "statement.decided")]
    StatementDecided {
        decision: String,
        statement: EventText,
        seq_in_session: StatementSeq,
        verbs: Vec<String>,
        effects: Effects,
        objects: Vec<ObjectRef>,
        functions: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parameters: Vec<Parameter>,
        outcome: Outcome,
        rules: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        policy_version: PolicyVersion,
        in_transaction: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval: Option<ApprovalId>,
        /// What the client says of its trace: a claim.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<TraceParent>,
        /// The request's fields that policies read.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attributes: BTreeMap<String, Attribute>,
    },
    #[serde(rename = "statement.completed")]
    StatementCompleted {
        decision: String,
        seq_in_session: StatementSeq,
        /// `00000` when it succeeded; the protocol's own code otherwise.
        code: String,
        /// The protocol's own word for what was done (`UPDATE 3`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        rows: u64,
        bytes: u64,
        duration_us: u64,
        /// SHA-256 of the content that was moved, where the statement moves one file or object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// Bytes of a stream (a terminal, a command's input and output) as they passed, after
    /// masking. Long streams are recorded up to
    /// [`crate::limits::STREAM_RECORD_BYTES_MAX`]; their digest covers all of them.
    #[serde(rename = "stream.passed")]
    StreamPassed { seq_in_session: StatementSeq, from: StreamEnd, data: StreamData },
    #[serde(rename = "terminal.resized")]
    TerminalResized { seq_in_session: StatementSeq, columns: u32, rows: u32 },
    /// A stream was ended by the gateway; what may go on at the target, and why.
    #[serde(rename = "stream.cut")]
    StreamCut { seq_in_session: StatementSeq, detail: String },
    /// A statement changed an object of the target. Digests are of its canonical form, masked.
    #[serde(rename = "object.changed")]
    ObjectChanged {
        seq_in_session: StatementSeq,
        object: ObjectRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest_before: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest_after: Option<String>,
        /// Lines of `PATH: before -> after`, with masked values left out.
        diff: Vec<String>,
    },
    /// Rows as the client saw them, when the target's `record` asks for them.
    #[serde(rename = "statement.rows")]
    StatementRows {
        seq_in_session: StatementSeq,
        columns: Vec<String>,
        rows: Vec<Vec<Option<String>>>,
        /// Whether more rows went to the client than stand here.
        truncated: bool,
    },
    #[serde(rename = "approval.requested")]
    ApprovalRequested {
        approval: ApprovalId,
        decision: String,
        groups: Vec<String>,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    #[serde(rename = "approval.decided")]
    ApprovalDecided {
        approval: ApprovalId,
        decision: String,
        state: ApprovalState,
        by: Vec<String>,
        reason: String,
    },
    #[serde(rename = "rows.masked")]
    RowsMasked { seq_in_session: StatementSeq, columns: Vec<String>, rows: u64 },
    #[serde(rename = "session.tripped")]
    SessionTripped { seq_in_session: StatementSeq, detail: String },
    /// Somebody made a token with which a relay process may join.
    #[serde(rename = "relay.invited")]
    RelayInvited {
        relay: String,
        by: String,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    /// Somebody took back a relay's certificates and tokens.
    #[serde(rename = "relay.revoked")]
    RelayRevoked { relay: String, by: String },
    /// A relay process is connected.
    #[serde(rename = "relay.joined")]
    RelayJoined {
        relay: String,
        /// Of its certificate.
        serial: String,
        address: String,
    },
    /// A relay process is no longer connected, or was not taken.
    #[serde(rename = "relay.left")]
    RelayLeft {
        relay: String,
        serial: String,
        address: String,
        reason: String,
        /// Streams that ended with it.
        streams: u64,
    },
    /// Whoever connected, or wanted to join, was no relay of this gateway's.
    #[serde(rename = "relay.refused")]
    RelayRefused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relay: Option<String>,
        /// From where; absent for a token that was shown to the API.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        reason: String,
    },
    /// A stream was asked for to an address that a relay may not dial.
    #[serde(rename = "relay.dial_refused")]
    RelayDialRefused {
        relay: String,
        /// Of the target.
        address: String,
        reason: String,
    },
    #[serde(rename = "record.checkpointed")]
    RecordCheckpointed { entries: u64, sessions: u64 },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl EventBody {
    /// The event's name on the wire: `statement.decided`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::GatewayStarted { .. } => "gateway.started",
            Self::GatewayStopped { .. } => "gateway.stopped",
            Self::AuthorityLost { .. } => "authority.lost",
            Self::AuthorityRegained { .. } => "authority.regained",
            Self::CredentialRenewed { .. } => "credential.renewed",
            Self::CredentialRenewalFailed { .. } => "credential.renewal_failed",
            Self::PollFailed { .. } => "poll.failed",
            Self::PollRecovered { .. } => "poll.recovered",
            Self::ConfigChanged { .. } => "config.changed",
            Self::PrincipalDisabled { .. } => "principal.disabled",
            Self::PrincipalSuspended { .. } => "principal.suspended",
            Self::SignalReceived { .. } => "signal.received",
            Self::PrincipalEnabled { .. } => "principal.enabled",
            Self::PrincipalSignedIn { .. } => "principal.signed_in",
            Self::PrincipalRefused { .. } => "principal.refused",
            Self::RunStarted { .. } => "run.started",
            Self::RunRefused { .. } => "run.refused",
            Self::ProcessesLeft { .. } => "processes.left",
            Self::RunEnded { .. } => "run.ended",
            Self::TokenRenewed { .. } => "token.renewed",
            Self::SessionOpened { .. } => "session.opened",
            Self::SessionRefused { .. } => "session.refused",
            Self::RefusalsCounted { .. } => "refusals.counted",
            Self::SessionClosed { .. } => "session.closed",
            Self::StatementDecided { .. } => "statement.decided",
            Self::StatementCompleted { .. } => "statement.completed",
            Self::StreamPassed { .. } => "stream.passed",
            Self::TerminalResized { .. } => "terminal.resized",
            Self::StreamCut { .. } => "stream.cut",
            Self::ObjectChanged { .. } => "object.changed",
            Self::StatementRows { .. } => "statement.rows",
            Self::ApprovalRequested { .. } => "approval.requested",
            Self::ApprovalDecided { .. } => "approval.decided",
            Self::RowsMasked { .. } => "rows.masked",
            Self::SessionTripped { .. } => "session.tripped",
            Self::RelayInvited { .. } => "relay.invited",
            Self::RelayRevoked { .. } => "relay.revoked",
            Self::RelayJoined { .. } => "relay.joined",
            Self::RelayLeft { .. } => "relay.left",
            Self::RelayRefused { .. } => "relay.refused",
            Self::RelayDialRefused { .. } => "relay.dial_refused",
            Self::RecordCheckpointed { .. } => "record.checkpointed",
        }
    }

    /// The statement that it is about, where it names one by its number.
    #[must_use]
    pub fn statement_seq(&self) -> Option<StatementSeq> {
        match self {
            Self::StatementDecided { seq_in_session, .. }
            | Self::StatementCompleted { seq_in_session, .. }
            | Self::StreamPassed { seq_in_session, .. }
            | Self::TerminalResized { seq_in_session, .. }
            | Self::StreamCut { seq_in_session, .. }
            | Self::ObjectChanged { seq_in_session, .. }
            | Self::StatementRows { seq_in_session, .. }
            | Self::RowsMasked { seq_in_session, .. }
            | Self::SessionTripped { seq_in_session, .. } => Some(*seq_in_session),
            Self::GatewayStarted { .. }
            | Self::GatewayStopped {}
            | Self::AuthorityLost { .. }
            | Self::AuthorityRegained { .. }
            | Self::CredentialRenewed { .. }
            | Self::CredentialRenewalFailed { .. }
            | Self::PollFailed { .. }
            | Self::PollRecovered { .. }
            | Self::ConfigChanged { .. }
            | Self::PrincipalDisabled { .. }
            | Self::PrincipalSuspended { .. }
            | Self::SignalReceived { .. }
            | Self::PrincipalEnabled { .. }
            | Self::PrincipalSignedIn { .. }
            | Self::PrincipalRefused { .. }
            | Self::RunStarted { .. }
            | Self::RunRefused { .. }
            | Self::ProcessesLeft { .. }
            | Self::RunEnded { .. }
            | Self::TokenRenewed { .. }
            | Self::SessionOpened { .. }
            | Self::SessionRefused { .. }
            | Self::RefusalsCounted { .. }
            | Self::SessionClosed { .. }
            | Self::ApprovalRequested { .. }
            | Self::ApprovalDecided { .. }
            | Self::RelayInvited { .. }
            | Self::RelayRevoked { .. }
            | Self::RelayJoined { .. }
            | Self::RelayLeft { .. }
            | Self::RelayRefused { .. }
            | Self::RelayDialRefused { .. }
            | Self::RecordCheckpointed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_name_is_what_its_json_says() {
        let bodies = [
            EventBody::GatewayStopped {},
            EventBody::RecordCheckpointed { entries: 1, sessions: 1 },
            EventBody::PrincipalEnabled { name: "ada".into(), by: "admin".into() },
        ];
        for body in bodies {
            let json = serde_json::to_value(&body).expect("serialises");
            assert_eq!(json["event"], body.name());
        }
    }
}
