//! The task of one session of an engine: owns its scope, carries out what its streams ask, and
//! ends it in time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use corral_gate::TapError;
use corral_gate::decision::{Decision, Denial, DenialKind, Hold};
use corral_model::Statement;
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{ApprovalId, StatementSeq};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::decide::Decider;
use crate::handle::{
    CHARGE_BYTES, Completion, End, Foreseen, OpenStream, RunningStatement, RunningStatements,
    Shared,
};
use crate::io::nearest;
use crate::scope::{Admitted, Control, Resolution, Totals};

/// How long the streams of a session may take to tell their clients that it ends.
pub const FAREWELL: Duration = Duration::from_secs(3);
/// What a statement's completion says when its stream was dropped.
const ABORTED: &str = "aborted";

/// What a stream asks of its session.
pub(crate) enum Order {
    Decide {
        statement: Statement,
        /// Of a stream: how it hears that it may go on no longer.
        stream: Option<watch::Sender<Option<Denial>>>,
        reply: oneshot::Sender<Reply>,
    },
    Check {
        statement: Statement,
        reply: oneshot::Sender<Result<Foreseen, Denial>>,
    },
    Finish {
        seq: StatementSeq,
        decision: String,
        elapsed: Duration,
        completion: Completion,
    },
    Note(EventBody),
    Append {
        body: EventBody,
        reply: oneshot::Sender<Result<(), Denial>>,
    },
    Opened,
    RefreshMask {
        reply: oneshot::Sender<()>,
    },
}

pub(crate) enum Reply {
    Decided(Decision),
    Held { hold: Hold, resolved: oneshot::Receiver<Decision> },
}

/// The task's state.
pub(crate) struct Keeper {
    decider: Decider,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Order>,
    control: mpsc::Receiver<Box<Control>>,
    config_changes: watch::Receiver<()>,
    /// Who waits for a held statement.
    waiting: BTreeMap<StatementSeq, Waiter>,
    running: RunningStatements,
    totals: Totals,
    started: Instant,
    ends_at: Option<Instant>,
    idle_timeout: Option<Duration>,
    last_activity: Instant,
    /// As it was when the task last looked.
    activity_seen: u64,
}

struct Waiter {
    resolved: oneshot::Sender<Decision>,
    stream: Option<OpenStream>,
}

impl Keeper {
    pub(crate) fn new(
        admitted: Admitted,
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<Order>,
    ) -> Self {
        let now = Instant::now();
        Self {
            decider: Decider::new(admitted.scope),
            shared,
            inbox,
            control: admitted.control,
            config_changes: admitted.config_changes,
            waiting: BTreeMap::new(),
            running: RunningStatements::default(),
            totals: Totals::default(),
            started: now,
            ends_at: admitted.ttl.and_then(|ttl| now.checked_add(ttl)),
            idle_timeout: admitted.idle_timeout,
            last_activity: now,
            activity_seen: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut end = self.shared.end.subscribe();
        let reason = loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                // Before the deadline, which stays in the past, and before handles that are gone
                // because of it: why it ended is what ended it.
                reason = ended(&mut end) => break reason,
                word = self.control.recv() => self.obey(word).await,
                order = self.inbox.recv() => match order {
                    Some(order) => {
                        self.carry_out(order).await;
                        self.catch_up();
                    }
                    // Every handle is gone; who let go last may have said why.
                    None => {
                        let end = self.shared.end.borrow();
                        break end.as_ref().map_or(CloseReason::Client, |end| end.reason);
                    }
                },
                () = self.shared.signal.notified() => self.look(),
                // Streams that are open hear of it too, not only what is asked next.
                Ok(()) = self.config_changes.changed() => self.config_changed().await,
                () = until(deadline) => self.timer_due(),
            }
        };
        self.finish(reason).await;
    }

    /// Charges what passed while orders leave no gap in which to be told of it.
    fn catch_up(&mut self) {
        if self.shared.usage.uncharged_bytes() >= CHARGE_BYTES {
            self.charge();
        }
    }

    async fn obey(&mut self, word: Option<Box<Control>>) {
        match word.map(|word| *word) {
            Some(Control::Cancel(_)) => {}
            Some(Control::Resolved { approval, resolution }) => {
                self.resolve(&approval, resolution).await;
            }
            Some(Control::End { reason, denial }) => self.end(reason, denial),
            None => {
                let denial = Denial::new(DenialKind::Shutdown, "the gateway stops");
                self.end(CloseReason::Shutdown, denial);
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        self.last_activity = Instant::now();
        match order {
            Order::Decide { statement, stream, reply } => {
                let open = |revoke| OpenStream { statement: statement.clone(), revoke };
                let stream = stream.map(open);
                self.decide(statement, stream, reply).await;
            }
            Order::Check { statement, reply } => {
                self.refresh_mask();
                let ended = self.shared.end.borrow().clone().map(|end| end.denial);
                let foreseen = match ended {
                    Some(denial) => Err(denial),
                    None => self.decider.check(&statement),
                };
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(foreseen);
            }
            Order::Finish { seq, decision, elapsed, completion } => {
                self.running.0.remove(&seq);
                self.complete(seq, decision, elapsed, completion);
            }
            Order::Note(body) => self.note(body),
            Order::Append { body, reply } => {
                let done = self.decider.append_durably(body).await.map(drop).map_err(|error| {
                    tracing::warn!(%error, "something is refused because it cannot be recorded");
                    unrecorded()
                });
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(done);
            }
            Order::Opened => self.decider.scope.opened(Vec::new()),
            Order::RefreshMask { reply } => {
                self.refresh_mask();
                let _ = reply.send(());
            }
        }
    }

    async fn decide(
        &mut self,
        statement: Statement,
        stream: Option<OpenStream>,
        reply: oneshot::Sender<Reply>,
    ) {
        self.refresh_mask();
        let seq = statement.seq;
        if let Some(end) = self.shared.end.borrow().clone() {
            let _ = reply.send(Reply::Decided(Decision::Deny(end.denial)));
            return;
        }
        self.totals.statements += 1;
        let decision = self.decider.decide(Box::new(statement)).await;
        let reply_is_gone = match decision {
            Decision::Allow(permit) => {
                self.started(seq, permit.decision_id().to_owned(), stream);
                reply.send(Reply::Decided(Decision::Allow(permit))).is_err()
            }
            Decision::Deny(denial) => {
                let _ = reply.send(Reply::Decided(Decision::Deny(denial)));
                false
            }
            Decision::Hold(hold) => {
                let (sender, resolved) = oneshot::channel();
                self.waiting.insert(seq, Waiter { resolved: sender, stream });
                reply.send(Reply::Held { hold, resolved }).is_err()
            }
        };
        if reply_is_gone {
            self.give_up(seq);
        }
    }

    fn started(&mut self, seq: StatementSeq, decision: String, stream: Option<OpenStream>) {
        let running = RunningStatement { decision, started: Instant::now(), stream };
        self.running.0.insert(seq, running);
    }

    async fn resolve(&mut self, approval: &ApprovalId, resolution: Resolution) {
        let Some((seq, decision)) = self.decider.resolve(approval, resolution).await else {
            return;
        };
        let Some(waiter) = self.waiting.remove(&seq) else { return };
        if let Decision::Allow(permit) = &decision {
            self.started(seq, permit.decision_id().to_owned(), waiter.stream);
        }
        if waiter.resolved.send(decision).is_err() {
            self.give_up(seq);
        }
    }

    /// Looks at what handles left behind.
    fn look(&mut self) {
        let left: Vec<StatementSeq> = {
            let mut unfinished =
                self.shared.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *unfinished)
        };
        for seq in left {
            self.give_up(seq);
        }
        self.charge();
    }

    /// Nobody will finish this statement, or waits for it.
    fn give_up(&mut self, seq: StatementSeq) {
        if self.waiting.remove(&seq).is_some()
            && let Err(error) = self.decider.withdraw(seq)
        {
            self.end_unrecorded(&error);
        }
        if let Some(running) = self.running.0.remove(&seq) {
            let completion = Completion { code: ABORTED.to_owned(), ..Completion::default() };
            self.complete(seq, running.decision, running.started.elapsed(), completion);
        }
    }

    fn complete(
        &mut self,
        seq: StatementSeq,
        decision: String,
        elapsed: Duration,
        completion: Completion,
    ) {
        let Completion { code, tag, rows, bytes, digest } = completion;
        self.totals.rows += rows;
        self.note(EventBody::StatementCompleted {
            decision,
            seq_in_session: seq,
            code,
            tag,
            rows,
            bytes,
            duration_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            digest,
        });
        self.charge();
    }

    fn note(&mut self, body: EventBody) {
        if let Err(error) = self.decider.note(body) {
            self.end_unrecorded(&error);
        }
    }

    fn charge(&mut self) {
        let usage = self.shared.usage.take();
        self.totals.bytes_to_client += usage.bytes_to_client;
        self.totals.bytes_to_target += usage.bytes_to_target;
        if let Err(denial) = self.decider.scope.charge(usage) {
            self.end(CloseReason::Budget, denial);
        }
    }

    /// Another configuration is in use: what is masked, and which streams may go on.
    async fn config_changed(&mut self) {
        self.refresh_mask();
        // A session that has no place in it is told to end.
        while let Ok(word) = self.control.try_recv() {
            self.obey(Some(word)).await;
        }
        if self.shared.end.borrow().is_some() {
            return;
        }
        for running in self.running.0.values() {
            let Some(OpenStream { statement, revoke }) = &running.stream else { continue };
            // To be held again is no denial: people said yes to this one.
            if revoke.borrow().is_none()
                && let Err(denial) = self.decider.check(statement)
            {
                revoke.send_replace(Some(denial));
            }
        }
    }

    fn refresh_mask(&mut self) {
        if let Some(rights) = self.decider.scope.rights_changed() {
            self.shared.masked.send_replace(rights.masked);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        nearest([self.ends_at, self.idle_at()])
    }

    /// When a silent session ends.
    fn idle_at(&self) -> Option<Instant> {
        let is_busy = self.running.is_busy() || self.decider.is_holding();
        let timeout = self.idle_timeout.filter(|_| !is_busy)?;
        self.last_activity.checked_add(timeout)
    }

    fn timer_due(&mut self) {
        let now = Instant::now();
        let activity = self.shared.usage.activity.load(Ordering::Relaxed);
        if activity != self.activity_seen {
            // Bytes passed without an order: silence is counted from here, the bias is patience.
            self.activity_seen = activity;
            self.last_activity = now;
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            let text = "the time of this run or session is over";
            self.end(CloseReason::Expired, Denial::new(DenialKind::Ended, text));
        } else if self.idle_at().is_some_and(|at| at <= now) {
            let text = "nothing was sent for longer than the limit allows";
            self.end(CloseReason::Idle, Denial::new(DenialKind::Ended, text));
        }
    }

    fn end(&self, reason: CloseReason, denial: Denial) {
        self.shared.end.send_if_modified(|end| {
            let is_first = end.is_none();
            if is_first {
                *end = Some(End { reason, denial });
            }
            is_first
        });
    }

    fn end_unrecorded(&self, error: &TapError) {
        tracing::warn!(%error, "a session ends because its account cannot be kept");
        self.end(CloseReason::Record, unrecorded());
    }

    /// Lets the streams say goodbye, cuts off what is left, and writes the closing entry.
    async fn finish(mut self, reason: CloseReason) {
        // Whoever waits for people hears that the session is over, and the people that nobody
        // waits for them.
        let waiting: Vec<StatementSeq> = self.waiting.keys().copied().collect();
        for seq in waiting {
            self.give_up(seq);
        }
        let words = async {
            while let Some(order) = self.inbox.recv().await {
                self.carry_out(order).await;
            }
        };
        let is_over = timeout(FAREWELL, words).await.is_ok();
        self.shared.cut.cancel();
        self.shared.tasks.close();
        if !is_over {
            self.inbox.close();
            while let Ok(order) = self.inbox.try_recv() {
                self.carry_out(order).await;
            }
        }
        self.shared.tasks.wait().await;
        self.look();
        let left: Vec<StatementSeq> = self.running.0.keys().copied().collect();
        for seq in left {
            self.give_up(seq);
        }
        self.totals.duration = self.started.elapsed();
        let Decider { scope, .. } = self.decider;
        scope.close(reason, self.totals).await;
    }
}

fn unrecorded() -> Denial {
    Denial::new(DenialKind::RecordUnavailable, "the record cannot be written")
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn ended(end: &mut watch::Receiver<Option<End>>) -> CloseReason {
    match end.wait_for(Option::is_some).await {
        Ok(end) => end.as_ref().map_or(CloseReason::Lost, |end| end.reason),
        Err(_) => CloseReason::Lost,
    }
}
