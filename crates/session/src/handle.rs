//! A session of a protocol whose library runs many streams at once: a handle for the streams, and
//! one task that owns the session's scope.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corral_gate::decision::{Decision, Denial, DenialKind, Hold, Permit};
use corral_gate::{Admission, Login};
use corral_model::Secret;
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{ApprovalId, SessionId, StatementSeq};
use corral_model::resource::ColumnName;
use corral_model::statement::{Facts, Parameter};
use corral_model::{Statement, TraceParent, limits};
use corral_transport::Endpoint;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::keeper::{Keeper, Order, Reply};
use crate::scope::{Authority, ConnectionFacts, Usage};

/// Streamed bytes after which usage is charged although no statement ended.
pub(crate) const CHARGE_BYTES: u64 = 1024 * 1024;

/// A session that was let in.
pub struct Opened {
    pub session: SessionHandle,
    pub admission: Admission,
    pub endpoint: Endpoint,
    /// See [`crate::Admitted::renewed`].
    pub renewed: Option<watch::Receiver<Option<Secret>>>,
    /// See [`crate::Admitted::token_ends`].
    pub token_ends: Option<Instant>,
}

/// Logs a client in and starts the task of its session. The session ends when every handle is
/// dropped, or when [`SessionHandle::ended`] says so.
///
/// # Errors
/// A [`Denial`] that was already recorded as `session.refused`.
pub async fn open(
    authority: &dyn Authority,
    login: Login,
    facts: ConnectionFacts,
) -> Result<Opened, Denial> {
    let admitted = authority.admit(login, facts).await?;
    let (orders, inbox) = mpsc::channel(limits::SESSION_ORDERS_LEN_MAX);
    let shared = Arc::new(Shared {
        id: admitted.admission.session.clone(),
        seq: AtomicU64::new(0),
        end: watch::Sender::new(None),
        masked: watch::Sender::new(admitted.admission.rights.masked.clone()),
        usage: Counters::default(),
        signal: Notify::new(),
        unfinished: Mutex::default(),
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
    });
    let (admission, endpoint) = (admitted.admission.clone(), admitted.endpoint.clone());
    let (renewed, token_ends) = (admitted.renewed.clone(), admitted.token_ends);
    authority.spawn(Box::pin(Keeper::new(admitted, shared.clone(), inbox).run()));
    let session = SessionHandle { shared, orders };
    Ok(Opened { session, admission, endpoint, renewed, token_ends })
}

/// Why a session ends, and what its client is told.
#[derive(Debug, Clone)]
pub struct End {
    pub reason: CloseReason,
    pub denial: Denial,
}

/// What handles and the session's task share.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    seq: AtomicU64,
    pub(crate) end: watch::Sender<Option<End>>,
    pub(crate) masked: watch::Sender<Arc<[ColumnName]>>,
    pub(crate) usage: Counters,
    /// Something for the task to look at: usage to charge, or statements left or given up.
    pub(crate) signal: Notify,
    /// Statements whose [`Running`] was dropped unfinished.
    pub(crate) unfinished: Mutex<Vec<StatementSeq>>,
    pub(crate) tasks: TaskTracker,
    /// Ends the tasks that did not end by themselves.
    pub(crate) cut: CancellationToken,
}

/// Usage since it was last charged, and bytes ever, to tell silence.
#[derive(Default)]
pub(crate) struct Counters {
    rows: AtomicU64,
    bytes_to_client: AtomicU64,
    bytes_to_target: AtomicU64,
    /// Grows with everything that is counted.
    pub(crate) activity: AtomicU64,
}

impl Counters {
    fn add(&self, usage: Usage) -> u64 {
        self.rows.fetch_add(usage.rows, Ordering::Relaxed);
        let client = self.bytes_to_client.fetch_add(usage.bytes_to_client, Ordering::Relaxed);
        let target = self.bytes_to_target.fetch_add(usage.bytes_to_target, Ordering::Relaxed);
        self.activity.fetch_add(1, Ordering::Relaxed);
        client + target + usage.bytes_to_client + usage.bytes_to_target
    }

    pub(crate) fn uncharged_bytes(&self) -> u64 {
        let client = self.bytes_to_client.load(Ordering::Relaxed);
        client.saturating_add(self.bytes_to_target.load(Ordering::Relaxed))
    }

    pub(crate) fn take(&self) -> Usage {
        Usage {
            rows: self.rows.swap(0, Ordering::Relaxed),
            bytes_to_client: self.bytes_to_client.swap(0, Ordering::Relaxed),
            bytes_to_target: self.bytes_to_target.swap(0, Ordering::Relaxed),
        }
    }
}

/// A statement that an engine wants to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The exact text that the target will run, or the operation in the words of its protocol.
    pub text: Arc<str>,
    pub facts: Arc<Facts>,
    pub parameters: Vec<Parameter>,
    /// Digest of everything else that an approval must bind.
    pub state_digest: String,
    /// What the client says of its trace: a claim.
    pub traceparent: Option<TraceParent>,
    /// It runs until somebody ends it (a shell, a forward, a watch): while nothing passes, the
    /// session is idle.
    pub is_stream: bool,
}

/// What may happen.
#[derive(Debug)]
pub enum Answer {
    Allow(Running),
    Deny(Denial),
    Hold(Waiting),
}

/// What a statement would meet that is not denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreseen {
    Allowed,
    /// People would be asked.
    Held,
}

/// One stream's or request's hold on a session.
#[derive(Clone)]
pub struct SessionHandle {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionHandle").field(&self.shared.id).finish()
    }
}

impl SessionHandle {
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.shared.id
    }

    /// Decides a statement and records the decision.
    ///
    /// # Cancel safety
    /// A decision that nobody takes is recorded, and its statement as aborted.
    pub async fn decide(&self, draft: Draft) -> Answer {
        let is_stream = draft.is_stream;
        let statement = self.statement(draft);
        let seq = statement.seq;
        let (reply, answer) = oneshot::channel();
        let (revoke, revoked) = watch::channel(None);
        // Made before the answer is asked for: whatever is cancelled, the statement is accounted.
        let account = Account::new(self.clone(), seq, revoked);
        let stream = is_stream.then_some(revoke);
        if self.orders.send(Order::Decide { statement, stream, reply }).await.is_err() {
            return Answer::Deny(self.end_denial());
        }
        match answer.await {
            Ok(Reply::Decided(Decision::Allow(permit))) => {
                Answer::Allow(Running { permit, account })
            }
            Ok(Reply::Decided(Decision::Deny(denial))) => {
                account.close();
                Answer::Deny(denial)
            }
            Ok(Reply::Decided(Decision::Hold(hold))) => {
                // The task gives a receiver with every hold; without one nobody would answer.
                account.close();
                Answer::Deny(Denial::new(DenialKind::Forbidden, hold.notice))
            }
            Ok(Reply::Held { hold, resolved }) => {
                let Hold { approval, notice, .. } = hold;
                Answer::Hold(Waiting { approval, notice, resolved, account })
            }
            Err(_) => Answer::Deny(self.end_denial()),
        }
    }

    /// Whether a statement would be denied, before more is asked about it; nothing may run yet.
    /// Only a denial is recorded.
    ///
    /// # Errors
    /// The [`Denial`].
    pub async fn check(&self, draft: Draft) -> Result<Foreseen, Denial> {
        let statement = self.statement(draft);
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Check { statement, reply }).await.is_err() {
            return Err(self.end_denial());
        }
        match answer.await {
            Ok(foreseen) => foreseen,
            Err(_) => Err(self.end_denial()),
        }
    }

    fn statement(&self, draft: Draft) -> Statement {
        Statement {
            seq: StatementSeq(self.shared.seq.fetch_add(1, Ordering::Relaxed) + 1),
            text: draft.text,
            facts: draft.facts,
            parameters: draft.parameters.into(),
            in_transaction: false,
            state_digest: draft.state_digest.into(),
            traceparent: draft.traceparent,
        }
    }

    /// Records something that happened. Waits while the session's task is busy.
    pub async fn note(&self, body: EventBody) {
        // A session that ended keeps no more account; why it ended is in the record.
        let _ = self.orders.send(Order::Note(body)).await;
    }

    /// Records something before anything depends on it.
    ///
    /// # Errors
    /// A [`Denial`] when it is not in the record: nothing may act on it.
    pub async fn append(&self, body: EventBody) -> Result<(), Denial> {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Append { body, reply }).await.is_err() {
            return Err(self.end_denial());
        }
        answer.await.unwrap_or_else(|_| Err(self.end_denial()))
    }

    /// The login at the target succeeded: statements may follow.
    pub async fn opened(&self) {
        let _ = self.orders.send(Order::Opened).await;
    }

    /// Counts what passed, to be charged to the run and its ancestors.
    pub fn count(&self, usage: Usage) {
        if self.shared.usage.add(usage) >= CHARGE_BYTES {
            self.shared.signal.notify_one();
        }
    }

    /// The fields to mask, as policy says it now.
    pub async fn masked(&self) -> Arc<[ColumnName]> {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::RefreshMask { reply }).await.is_ok() {
            let _ = answer.await;
        }
        self.shared.masked.borrow().clone()
    }

    /// Waits until the fields to mask are such that `is_changed` holds, with the first
    /// configuration that makes them so.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub async fn mask_becomes(&self, mut is_changed: impl FnMut(&[ColumnName]) -> bool) {
        let mut masked = self.shared.masked.subscribe();
        if masked.wait_for(|masked| is_changed(masked)).await.is_err() {
            // The sender is in what this handle shares: it is not gone before the handle.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the session ends: killed, expired, idle, out of budget, or by [`Self::end`].
    /// Whoever waits tells its client, and drops its handles within
    /// [`crate::FAREWELL`]; after that its tasks are cut off.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub async fn ended(&self) -> End {
        let mut end = self.shared.end.subscribe();
        let found = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        found.unwrap_or_else(|| End { reason: CloseReason::Lost, denial: gone() })
    }

    /// Whether it has ended, and why.
    #[must_use]
    pub fn end_so_far(&self) -> Option<End> {
        self.shared.end.borrow().clone()
    }

    /// Ends the session. The first reason stays.
    pub fn end(&self, reason: CloseReason, denial: Denial) {
        self.shared.end.send_if_modified(|end| {
            let is_first = end.is_none();
            if is_first {
                *end = Some(End { reason, denial });
            }
            is_first
        });
    }

    /// Runs a task of this session (a channel, a forward). It is cut off when the session is
    /// over; the session waits for it.
    ///
    /// # Errors
    /// A [`Denial`] when the session has [`limits::SESSION_TASKS_MAX`] of them.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), Denial> {
        if self.shared.tasks.len() >= limits::SESSION_TASKS_MAX {
            let text = "too many channels are open in this session";
            return Err(Denial::new(DenialKind::TooManySessions, text));
        }
        let cut = self.shared.cut.clone();
        // Boxed, because each future around another one has room for it twice.
        let task = Box::pin(task);
        self.shared.tasks.spawn(async move { cut.run_until_cancelled(task).await });
        Ok(())
    }

    fn end_denial(&self) -> Denial {
        self.end_so_far().map_or_else(gone, |end| end.denial)
    }
}

fn gone() -> Denial {
    Denial::new(DenialKind::Ended, "the session is over")
}

/// A statement's place in the session's account until it is finished.
#[derive(Debug)]
struct Account {
    handle: SessionHandle,
    seq: StatementSeq,
    started: Instant,
    is_closed: bool,
    /// Why what runs may go on no longer.
    revoked: watch::Receiver<Option<Denial>>,
}

impl Account {
    fn new(
        handle: SessionHandle,
        seq: StatementSeq,
        revoked: watch::Receiver<Option<Denial>>,
    ) -> Self {
        Self { handle, seq, started: Instant::now(), is_closed: false, revoked }
    }

    fn close(mut self) {
        self.is_closed = true;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.is_closed {
            let shared = &self.handle.shared;
            shared.unfinished.lock().unwrap_or_else(PoisonError::into_inner).push(self.seq);
            shared.signal.notify_one();
        }
    }
}

/// A held statement. Dropping it withdraws the request.
#[derive(Debug)]
pub struct Waiting {
    pub approval: ApprovalId,
    /// What the waiting client is told, without `corral:` in front.
    pub notice: String,
    resolved: oneshot::Receiver<Decision>,
    account: Account,
}

impl Waiting {
    /// Waits for the people.
    ///
    /// # Errors
    /// A [`Denial`]: refused, expired, withdrawn, or the session ended.
    ///
    /// # Cancel safety
    /// Dropping it withdraws the request.
    pub async fn wait(self) -> Result<Running, Denial> {
        match self.resolved.await {
            Ok(Decision::Allow(permit)) => Ok(Running { permit, account: self.account }),
            Ok(Decision::Deny(denial)) => {
                self.account.close();
                Err(denial)
            }
            Ok(Decision::Hold(_)) | Err(_) => Err(self.account.handle.end_denial()),
        }
    }
}

/// A permitted statement that runs. Dropping it unfinished records it as `aborted`.
#[derive(Debug)]
pub struct Running {
    permit: Permit,
    account: Account,
}

impl Running {
    /// What opens the way to the target.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    #[must_use]
    pub fn seq(&self) -> StatementSeq {
        self.account.seq
    }

    /// Waits until a change of the configuration takes the right to a stream away; of other
    /// statements, for ever. Whoever runs it ends it then.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub fn revoked(&self) -> impl Future<Output = Denial> + Send + use<> {
        let mut revoked = self.account.revoked.clone();
        async move {
            let denial = revoked.wait_for(Option::is_some).await.ok().and_then(|d| d.clone());
            match denial {
                Some(denial) => denial,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether it was taken away.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.account.revoked.borrow().is_some()
    }

    /// Since the client asked for it.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.account.started.elapsed()
    }

    /// Records how it ended.
    pub async fn finish(self, completion: Completion) {
        let Self { permit, account } = self;
        let order = Order::Finish {
            seq: account.seq,
            decision: permit.decision_id().to_owned(),
            elapsed: account.started.elapsed(),
            completion,
        };
        let is_sent = account.handle.orders.send(order).await.is_ok();
        let _entry = permit.finish();
        if is_sent {
            account.close();
        }
    }
}

/// How a statement ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Completion {
    /// The protocol's own code: an exit code, an HTTP status.
    pub code: String,
    /// The protocol's own word for what was done.
    pub tag: Option<String>,
    pub rows: u64,
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits of the content that was moved.
    pub digest: Option<String>,
}

/// Statements that were allowed and have not completed.
#[derive(Default)]
pub(crate) struct RunningStatements(pub(crate) BTreeMap<StatementSeq, RunningStatement>);

/// One of them.
pub(crate) struct RunningStatement {
    pub(crate) decision: String,
    pub(crate) started: Instant,
    pub(crate) stream: Option<OpenStream>,
}

/// A stream that is open: asked about again when the configuration changes.
pub(crate) struct OpenStream {
    pub(crate) statement: Statement,
    pub(crate) revoke: watch::Sender<Option<Denial>>,
}

impl RunningStatements {
    /// Whether something runs that makes silence no idleness.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.values().any(|running| running.stream.is_none())
    }
}
