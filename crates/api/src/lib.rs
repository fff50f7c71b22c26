//! The types of the HTTP API under `/api/v1`, and its OpenAPI document. No logic, no I/O.
//!
//! The gateway's handlers answer with these types and the command line reads them; nothing else
//! is written to the outside as JSON. A list is an array at the top level; an object has `id`,
//! `name` or both; times are RFC 3339 in UTC and durations carry their unit in the key.

pub mod approval;
pub mod connection;
pub mod credential;
pub mod error;
pub mod event;
pub mod login;
pub mod oauth;
pub mod openapi;
pub mod policy;
pub mod relay;
pub mod report;
pub mod resource;
pub mod run;
pub mod secret;
pub mod session;
pub mod sign_in;
pub mod user;

pub use approval::{ApprovalAnswer, ApprovalDecision, ApprovalQuery, ApprovalTerm, ApprovalView};
pub use connection::{ClientQuery, GatewayInfo, ListenerClient, ProtocolView, ReadyFile};
pub use connection::{TargetConnection, VersionInfo};
pub use credential::{CredentialRequest, CredentialView, PresentedView, RenewalView};
pub use credential::{PublishedQuery, PublishedView};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{EventQuery, RecordKey, StreamQuery};
pub use login::{Identity, IdentityKind, LoginRequest, LoginResponse};
pub use openapi::openapi;
pub use policy::{
    DecisionView, PolicyCheckRequest, PolicyCheckResponse, PolicyProblem, PolicyText,
};
pub use policy::{RuleView, VerdictNow};
pub use relay::{RelayJoinRequest, RelayJoinResponse, RelayProcessState, RelayProcessView};
pub use relay::{RelayRevoked, RelayToken, RelayTokenRequest, RelayView};
pub use report::{DormantReport, GrantReport, OrphanReport, RefusedReport, SponsorReport};
pub use resource::{ApplyRequest, ApplyResponse, Change, ChangeAction};
pub use run::{
    BudgetLeft, EndRunRequest, EndedView, JobView, RenewRunRequest, RunNode, RunQuery,
    RunStateView, RunView,
};
pub use run::{StartRunRequest, StartRunResponse};
pub use secret::WireSecret;
pub use session::{ATTACH_UPGRADE, STREAM_UPGRADE, WRAPPER_KEY_HEADER};
pub use session::{SessionQuery, SessionState, SessionStreamQuery, SessionView};
pub use sign_in::ProviderView;
pub use user::{UserDisabled, UserEnabled};

/// What every path of the versioned API starts with.
pub const BASE: &str = "/api/v1";
