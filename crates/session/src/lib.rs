//! Drives a protocol between a client and a target.
//!
//! Two ways: one loop for protocols that are pure machines ([`corral_gate::Framed`]), and one
//! task for each session of a protocol that stands on a library of its own
//! ([`service::StreamEngine`], [`service::HttpEngine`]). Both make decisions in the same place.
//! It knows no protocol, no store and no record format: those come in as [`service::Service`],
//! [`scope::Authority`] and [`scope::Scope`].

mod analysts;
mod decide;
mod dials;
mod drive;
mod handle;
pub mod http;
mod io;
mod keeper;
mod pending;
mod renewal;
pub mod scope;
mod server;
pub mod service;
mod trace;

pub use analysts::{Analysts, AnalystsError};
pub use handle::{
    Answer, Completion, Draft, End, Foreseen, Opened, Running, SessionHandle, Waiting, open,
};
pub use keeper::FAREWELL;
pub use pending::LoginSlot;
pub use renewal::{CredentialRenewal, Lifetime};
pub use scope::{
    Admitted, Authority, ConnectionFacts, Control, OwnKey, Resolution, Scope, Totals, Usage,
};
pub use server::Server;
pub use service::{
    Connection, HttpBody, HttpBodyError, HttpClient, HttpConnection, HttpEngine, HttpTarget,
    IssueRequest, Issued, Possession, Service, StreamEngine,
};
pub use trace::traceparent;
