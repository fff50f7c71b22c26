//! The words of Corral as types. No logic beyond parsing, no I/O, no clock.
//!
//! Everything here may be used by every other crate; nothing here may know a protocol, a file,
//! a socket or a database.

pub mod event;
pub mod ids;
pub mod limits;
pub mod native;
pub mod principal;
pub mod process;
pub mod resource;
pub mod run;
pub mod secret;
pub mod statement;
pub mod token;
pub mod trace;

pub use event::{CloseReason, Event, EventBody};
pub use ids::{ApprovalId, GroupName, PolicyVersion, RunId, SessionId, StatementSeq, TargetName};
pub use principal::{OffboardCause, OffboardEffect, Offboarding, Principal, PrincipalKind};
pub use process::Process;
pub use run::{Run, RunEnd, RunState, RunUse, Used};
pub use secret::Secret;
pub use statement::{Effect, Effects, ObjectRef, ObjectRole, Statement, Verb};
pub use token::{TokenDigest, TokenPurpose};
pub use trace::TraceParent;
