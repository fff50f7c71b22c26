//! What lives only while the gateway runs: run trees, sessions, waiting approvals.
//!
//! Each registry sits behind one mutex that is held for one short call and never across an
//! await. Time comes in as an argument.

pub(crate) mod approvals;
pub(crate) mod logins;
#[cfg(test)]
mod model;
pub(crate) mod quorum;
pub(crate) mod runs;
pub(crate) mod sessions;
pub(crate) mod sign_ins;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_gate::budget::SessionLedger;
use corral_identity::oidc::OidcClient;
use corral_model::ids::ResourceName;
use corral_model::resource::OidcSpec;
use corral_model::{RunEnd, RunId};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::offboard::Unfinished;

/// The gateway's client at each identity provider, and the settings that it was made of.
pub(super) type Clients = BTreeMap<ResourceName, (OidcSpec, Arc<OidcClient>)>;

/// Every registry.
#[derive(Debug, Default)]
pub(crate) struct Live {
    runs: Mutex<runs::RunTree>,
    sessions: Mutex<sessions::SessionRegistry>,
    ledger: Mutex<SessionLedger>,
    approvals: Mutex<approvals::ApprovalDesk>,
    logins: Mutex<logins::Logins>,
    /// Ends of runs that the store has refused so far.
    unstored: Mutex<Vec<(RunId, RunEnd)>>,
    /// People whose tokens the store has not ended so far.
    unfinished: Mutex<Vec<Unfinished>>,
    sign_ins: Mutex<sign_ins::SignIns>,
    clients: Mutex<Clients>,
    /// Runs with a spent budget, and when they end; at most as many as are active.
    spent: Mutex<BTreeMap<RunId, Instant>>,
    /// Runs that ended a moment ago: their sessions may still be charged.
    parting: Mutex<Vec<(Instant, Arc<runs::LiveRun>)>>,
    /// Sessions that are no listener's own task.
    tasks: TaskTracker,
}

impl Live {
    pub(crate) fn runs(&self) -> MutexGuard<'_, runs::RunTree> {
        lock(&self.runs)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, sessions::SessionRegistry> {
        lock(&self.sessions)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, SessionLedger> {
        lock(&self.ledger)
    }

    pub(crate) fn approvals(&self) -> MutexGuard<'_, approvals::ApprovalDesk> {
        lock(&self.approvals)
    }

    pub(crate) fn logins(&self) -> MutexGuard<'_, logins::Logins> {
        lock(&self.logins)
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn unstored(&self) -> MutexGuard<'_, Vec<(RunId, RunEnd)>> {
        lock(&self.unstored)
    }

    pub(crate) fn sign_ins(&self) -> MutexGuard<'_, sign_ins::SignIns> {
        lock(&self.sign_ins)
    }

    pub(super) fn clients(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
    }

    pub(super) fn unfinished(&self) -> MutexGuard<'_, Vec<Unfinished>> {
        lock(&self.unfinished)
    }

    pub(crate) fn spent(&self) -> MutexGuard<'_, BTreeMap<RunId, Instant>> {
        lock(&self.spent)
    }

    pub(crate) fn parting(&self) -> MutexGuard<'_, Vec<(Instant, Arc<runs::LiveRun>)>> {
        lock(&self.parting)
    }
}

/// Every call under these locks leaves the registry whole, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
