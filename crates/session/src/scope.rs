//! Everything that a session may ask of the gateway, and nothing else.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use corral_gate::{Admission, Denial, Login, Proof, Rights, Ruling, Tap, TapError};
use corral_model::Secret;
use corral_model::Statement;
use corral_model::event::CloseReason;
use corral_model::ids::{ApprovalId, StatementSeq, TargetName};
use corral_transport::Endpoint;
use tokio::sync::{mpsc, oneshot, watch};

/// A boxed future, so that the traits below can be `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is known of a client's connection before it says anything.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    /// None for a Unix socket.
    pub client_ip: Option<IpAddr>,
    /// For people: `127.0.0.1:5123` or `unix`.
    pub client_address: String,
    pub is_tls: bool,
    /// A dedicated listener's target.
    pub listener_target: Option<TargetName>,
    pub protocol: &'static str,
    /// What was shown for the client before its first byte, where the connection was handed over
    /// by whoever showed it. It is checked by [`Authority::admit`] as any other.
    pub shown: Option<Proof>,
}

/// The gateway, as a session sees it: one for all sessions.
pub trait Authority: Send + Sync {
    /// Checks token, run, sponsor, limits and the right to connect; counts the session in.
    /// Dropping the returned [`Admitted::scope`] counts it out, however the session ended.
    ///
    /// # Errors
    /// A [`Denial`] that was already recorded as `session.refused`.
    fn admit(
        &self,
        login: Login,
        connection: ConnectionFacts,
    ) -> BoxFuture<'_, Result<Admitted, Denial>>;

    /// Asks the session whose cancel secret starts with `key` to cancel what runs, and waits until
    /// it has. Unknown keys do nothing, as in PostgreSQL.
    fn cancel(&self, key: &[u8]) -> BoxFuture<'static, ()>;

    /// 32 secret bytes that belong to the gateway and to this name alone: made at the first call,
    /// kept sealed, the same for every gateway of one store. A protocol makes its host keys and
    /// authorities of them.
    ///
    /// # Errors
    /// A [`Denial`] when the store is away.
    fn own_key(&self, name: &'static str) -> BoxFuture<'_, Result<OwnKey, Denial>>;

    /// Runs the task of a session; the gateway waits for it before it stops.
    fn spawn(&self, session: BoxFuture<'static, ()>);

    /// Records `session.refused` for a connection that ended before it could be admitted: no
    /// login in time, bytes that are not the protocol.
    fn refused(&self, connection: &ConnectionFacts, reason: &str);
}

/// Secret bytes of the gateway's own. They are wiped when dropped.
pub struct OwnKey(zeroize::Zeroizing<[u8; 32]>);

impl OwnKey {
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    #[must_use]
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A session that was let in.
pub struct Admitted {
    pub admission: Admission,
    pub endpoint: Endpoint,
    pub scope: Box<dyn Scope>,
    /// Bounded; the gateway's words to this session. In boxes: the queue's memory is there before
    /// any word is.
    pub control: mpsc::Receiver<Box<Control>>,
    /// Changes with every configuration that is put into use.
    pub config_changes: watch::Receiver<()>,
    /// The credential that the target gave in place of the admission's, since then; None where
    /// credentials are not renewed.
    pub renewed: Option<watch::Receiver<Option<Secret>>>,
    /// The earliest of run TTL, token TTL and session TTL.
    pub ttl: Option<Duration>,
    /// When the token that was shown is over, where that is before its run is: the session goes
    /// on, but nothing more is asked with the token. A moment and not a rest, so that what takes
    /// time after the token was checked adds nothing to its life.
    pub token_ends: Option<Instant>,
    /// Between two messages of the client.
    pub idle_timeout: Option<Duration>,
}

/// The gateway's words to one session.
#[derive(Debug)]
pub enum Control {
    /// Cancel what runs, or withdraw what is held. The sender is dropped when that is done: whoever
    /// waits for it may take the next statement to be out of danger.
    Cancel(oneshot::Sender<()>),
    /// A held statement was decided by people, or its wait ended.
    Resolved { approval: ApprovalId, resolution: Resolution },
    /// End now.
    End { reason: CloseReason, denial: Denial },
}

/// How the wait of a held statement ended.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// Every term is satisfied.
    Approved {
        by: Vec<String>,
        reason: String,
    },
    /// Somebody said no.
    Denied {
        by: String,
        reason: String,
    },
    Expired,
}

/// What a session used since it was last charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub rows: u64,
    pub bytes_to_client: u64,
    pub bytes_to_target: u64,
}

/// What a session did, for its closing entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub statements: u64,
    pub rows: u64,
    pub bytes_to_client: u64,
    pub bytes_to_target: u64,
    pub duration: Duration,
}

/// All that one session may touch. Dropping it releases the session's place in every limit,
/// withdraws its pending approvals and takes it out of the list of sessions.
pub trait Scope: Send {
    fn tap(&mut self) -> &mut dyn Tap;

    /// Waits until everything appended is synced; shared by many sessions.
    fn sync(&mut self) -> BoxFuture<'_, Result<(), TapError>>;

    /// Decides a statement: policy, then budgets (one statement is charged when it is allowed).
    /// Synchronous, cached, and without a lock that another session holds for long.
    fn rule(&mut self, statement: &Statement) -> Ruling;

    /// What [`Scope::rule`] would say, without charging anything: for a statement that is only
    /// prepared.
    fn check(&mut self, statement: &Statement) -> Ruling;

    /// Files an approval for a statement that was ruled to be held. Returns its id, and the
    /// notice that the waiting client reads.
    ///
    /// # Errors
    /// A [`Denial`] when too many are pending or the store is away.
    fn hold<'a>(
        &'a mut self,
        statement: &'a Statement,
        ruling: &'a Ruling,
    ) -> BoxFuture<'a, Result<(ApprovalId, String), Denial>>;

    /// Asks policy again for an approved statement, right before it runs: a `Hold` with the terms
    /// that were approved counts as satisfied and comes back as `Allow`; changed terms, an ended
    /// run or a changed target deny. An approval is used up by this call.
    fn rule_approved(&mut self, statement: &Statement, approval: &ApprovalId) -> Ruling;

    /// The client no longer waits for this approval.
    fn withdraw(&mut self, approval: &ApprovalId, seq: StatementSeq);

    /// Charges usage to the run and its ancestors.
    ///
    /// # Errors
    /// A [`Denial`] of kind `BudgetSpent` when a budget is spent: the session ends.
    fn charge(&mut self, usage: Usage) -> Result<(), Denial>;

    /// What policy says of the session, when it changed since the last call. Asked before every batch of
    /// client input, so it must be one atomic load when nothing changed.
    fn rights_changed(&mut self) -> Option<Rights>;

    /// The session logged in at the target: statements may follow, and whoever shows
    /// `cancel_key` cancels one. Empty: nobody can.
    fn opened(&mut self, cancel_key: Vec<u8>);

    /// Writes `session.closed` and ends the recording. Called exactly once, at the end.
    fn close(self: Box<Self>, reason: CloseReason, totals: Totals) -> BoxFuture<'static, ()>;
}
