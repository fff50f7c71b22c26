//! The commands, one file for each.

pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod below;
pub(crate) mod carry;
pub(crate) mod connect;
pub(crate) mod credential;
pub(crate) mod guard;
pub(crate) mod login;
pub(crate) mod policy;
pub(crate) mod relays;
pub(crate) mod replay;
pub(crate) mod reports;
pub(crate) mod resources;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod sessions;
pub(crate) mod target;
pub(crate) mod users;
