//! The loop: feed the machine, carry out what it wants, write, wait.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use corral_gate::decision::{Decision, Denial, DenialKind};
use corral_gate::{Input, Login, Machine, Output, TapError};
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{ApprovalId, StatementSeq};
use corral_model::{Statement, limits};
use corral_transport::{Endpoint, start_target_tls};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep_until, timeout};

use crate::decide::Decider;
use crate::dials::{Dial, Where};
use crate::io::{Happened, Link, Moved, Since, Waiting, nearest, write_all};
use crate::pending::LoginSlot;
use crate::scope::{Admitted, ConnectionFacts, Control, Resolution, Totals, Usage};
use crate::server::Server;

/// Telling a client why its session ends may take this long, no longer.
const FAREWELL: Duration = Duration::from_secs(3);
/// Saying goodbye to a target.
const TARGET_FAREWELL: Duration = Duration::from_millis(500);
/// Connecting to a target to cancel a statement, and its answer. Who asked waits as long.
const CANCEL_DIAL: Duration = Duration::from_secs(5);
/// Cancel connections of one session at once; more requests are already on their way then.
const CANCELS_MAX: usize = 4;
/// Streamed bytes after which usage is charged although no statement ended.
const CHARGE_BYTES: u64 = 1024 * 1024;

/// A session that was let in.
pub(crate) struct Live {
    pub(crate) decider: Decider,
    control: mpsc::Receiver<Box<Control>>,
    endpoint: Endpoint,
    ends_at: Option<Instant>,
    idle_timeout: Option<Duration>,
    last_activity: Instant,
    /// Statements that were allowed and have not completed.
    pub(crate) running: u64,
    pub(crate) totals: Totals,
    pub(crate) uncharged: Usage,
    /// Of statements that are not over: rows that were counted already.
    counted_rows: BTreeMap<StatementSeq, u64>,
}

/// One session, from the accepted connection to its closing entry.
pub(crate) struct Driver<'a> {
    pub(crate) server: &'a Server,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) live: Option<Live>,
    /// None only while TLS is put on it, and when that failed.
    client: Option<Link>,
    target: Option<Link>,
    facts: ConnectionFacts,
    /// Held until the login is over.
    login: Option<LoginSlot>,
    /// Held until the login at the target is over.
    dial: Option<Dial>,
    /// The gateway refused and recorded it.
    is_refused: bool,
    started_at: Instant,
    /// Made when something is first waited for until some time; it may go off too early.
    timer: Option<Pin<Box<Sleep>>>,
    cancels: JoinSet<()>,
    /// Dropped when the cancel that was asked for is done.
    cancelling: Option<oneshot::Sender<()>>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        server: &'a Server,
        machine: Box<dyn Machine>,
        client: corral_transport::Stream,
        facts: ConnectionFacts,
        login: LoginSlot,
    ) -> Box<Self> {
        Box::new(Self {
            server,
            machine,
            live: None,
            client: Some(Link::new(client)),
            target: None,
            facts,
            login: Some(login),
            dial: None,
            is_refused: false,
            started_at: Instant::now(),
            timer: None,
            cancels: JoinSet::new(),
            cancelling: None,
        })
    }

    /// Drives the session to its end.
    ///
    /// What is awaited here has room in the session's task for as long as it lives. So whatever
    /// is seldom done (logins, connections, ends) is awaited in a box of its own.
    pub(crate) async fn run(mut self: Box<Self>) {
        let mut happened = None;
        let reason = loop {
            let (over, since) = in_one_poll(self.step(happened)).await;
            if let Some(reason) = over {
                break reason;
            }
            happened = Some(self.wait(since).await);
        };
        Box::pin(self.finish(reason)).await;
    }

    /// Tells the machine what happened, and does what it wants. Some when the session is over.
    async fn step(&mut self, happened: Option<Happened>) -> Option<CloseReason> {
        if let Some(Happened { control, moved }) = happened {
            let now = Instant::now();
            self.account(moved, now);
            if let Some(word) = control {
                Box::pin(self.obey(*word)).await;
            }
            self.feed(moved, now);
        }
        self.carry_out().await
    }

    /// Hands a gateway's word, or an end of its own finding, to the machine.
    fn end(&mut self, reason: CloseReason, denial: Denial) {
        self.machine.handle(Input::End { reason, denial }, Instant::now());
    }

    /// Carries out everything that the machine wants. Some when the session is over.
    async fn carry_out(&mut self) -> Option<CloseReason> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::StartClientTls => {
                    if !Box::pin(self.start_client_tls()).await {
                        return Some(CloseReason::Protocol);
                    }
                }
                Output::Admit(login) => Box::pin(self.admit(*login)).await,
                Output::DialTarget => Box::pin(self.dial_target()).await,
                Output::StartTargetTls => Box::pin(self.start_target_tls()).await,
                Output::SessionOpened { cancel_key } => {
                    self.dial = None;
                    if let Some(live) = &mut self.live {
                        live.decider.scope.opened(cancel_key);
                    }
                }
                Output::Work(work) => match Box::pin(self.server.analysts.run(work)).await {
                    Ok(result) => self.machine.handle(Input::Worked(result), Instant::now()),
                    Err(error) => {
                        tracing::error!(%error, "a session ends without its analysis");
                        let denial =
                            Denial::new(DenialKind::Ended, "the statement could not be analysed");
                        self.end(CloseReason::Protocol, denial);
                    }
                },
                Output::Check(statement) => self.check(&statement),
                Output::Decide(statement) => self.decide(statement).await,
                Output::Withdraw(seq) => self.withdraw(seq),
                Output::Record(body) => self.record(*body),
                Output::Rows { seq, rows } => self.count_rows(seq, rows),
                Output::CancelTarget(bytes) => self.cancel_target(bytes),
                Output::CancelSession(key) => Box::pin(self.cancel_session(&key)).await,
                Output::Close(reason) => return Some(reason),
            }
        }
        self.cancelling = None;
        None
    }

    /// Puts TLS on the client's connection. False when that failed: the session is over.
    async fn start_client_tls(&mut self) -> bool {
        let Some(mut link) = self.client.take() else { return false };
        let Some(tls) = &self.server.tls else { return false };
        let client_out = &mut self.machine.buffers().client_out;
        let handshake = async {
            write_all(&mut link, client_out).await?;
            let plain = link.stream.into_plain().map_err(|_| io::Error::other("TLS already"))?;
            tls.accept(plain).await
        };
        // A half-open TLS handshake must not outlive the login's deadline.
        let left = limits::LOGIN_DEADLINE.saturating_sub(self.started_at.elapsed());
        match timeout(left, handshake).await {
            Ok(Ok(stream)) => {
                self.client = Some(Link::new(stream));
                self.facts.is_tls = true;
                self.machine.handle(Input::ClientTlsStarted, Instant::now());
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client's TLS handshake failed");
                false
            }
            Err(_) => false,
        }
    }

    async fn admit(&mut self, login: Login) {
        let answer = self.server.authority.admit(login, self.facts.clone()).await;
        let now = Instant::now();
        match answer {
            Ok(Admitted { admission, endpoint, scope, control, ttl, idle_timeout, .. }) => {
                self.live = Some(Live {
                    decider: Decider::new(scope),
                    control,
                    endpoint,
                    ends_at: ttl.and_then(|ttl| now.checked_add(ttl)),
                    idle_timeout,
                    last_activity: now,
                    running: 0,
                    totals: Totals::default(),
                    uncharged: Usage::default(),
                    counted_rows: BTreeMap::new(),
                });
                self.login = None;
                self.machine.handle(Input::Admitted(Box::new(admission)), now);
            }
            Err(denial) => {
                self.is_refused = true;
                self.machine.handle(Input::Refused(denial), now);
            }
        }
    }

    fn refuse_target(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "a target cannot be reached");
        let text = "the target cannot be reached";
        let denial = Denial::new(DenialKind::TargetUnavailable, text);
        self.machine.handle(Input::Refused(denial), Instant::now());
    }

    async fn dial_target(&mut self) {
        let Some(live) = &self.live else { return };
        let endpoint = &live.endpoint;
        let place = if endpoint.is_local() { Where::Local } else { Where::Remote };
        self.dial = self.server.dials.take(place).await;
        if self.dial.is_none() {
            return self.refuse_target(&"too many others log in at targets");
        }
        match timeout(limits::TARGET_LOGIN_DEADLINE, endpoint.dial()).await {
            Ok(Ok(stream)) => {
                self.target = Some(Link::new(stream));
                self.machine.handle(Input::TargetConnected, Instant::now());
            }
            Ok(Err(error)) => self.refuse_target(&error),
            Err(_) => self.refuse_target(&"no answer in time"),
        }
    }

    async fn start_target_tls(&mut self) {
        let Some(mut link) = self.target.take() else { return };
        let Some(live) = &self.live else { return };
        let endpoint = live.endpoint.clone();
        let target_out = &mut self.machine.buffers().target_out;
        let handshake = async {
            write_all(&mut link, target_out).await.map_err(|error| error.to_string())?;
            start_target_tls(link.stream, &endpoint).await.map_err(|error| describe(&error))
        };
        match timeout(limits::TARGET_LOGIN_DEADLINE, handshake).await {
            Ok(Ok(tls)) => {
                self.target = Some(Link::new(tls.stream));
                let input = Input::TargetTlsStarted { end_point: tls.end_point };
                self.machine.handle(input, Instant::now());
            }
            Ok(Err(error)) => self.refuse_target(&error),
            Err(_) => self.refuse_target(&"no TLS in time"),
        }
    }

    /// Cancels another session's statement. The connection that asked for it is closed when that is
    /// done, as PostgreSQL does it: a client goes on then, and its next statement is not meant.
    async fn cancel_session(&mut self, key: &[u8]) {
        // Others may log in meanwhile.
        self.login = None;
        if timeout(CANCEL_DIAL, self.server.authority.cancel(key)).await.is_err() {
            tracing::warn!("a cancel request is closed before it was carried out");
        }
    }

    /// Sends a cancel request beside the session, so that the session goes on meanwhile.
    fn cancel_target(&mut self, bytes: Vec<u8>) {
        let Some(live) = &self.live else { return };
        if self.cancels.len() >= CANCELS_MAX {
            while self.cancels.try_join_next().is_some() {}
        }
        if self.cancels.len() >= CANCELS_MAX {
            return;
        }
        let endpoint = live.endpoint.clone();
        let cancelling = self.cancelling.take();
        self.cancels.spawn(async move {
            let _cancelling = cancelling;
            // As in `finish`: first every client is told.
            tokio::task::yield_now().await;
            let send = async {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut stream = endpoint.dial().await.map_err(std::io::Error::other)?;
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                // The target closes the connection once it has acted; waiting for that keeps
                // the order "cancelled, then gone".
                let mut end = [0_u8; 1];
                stream.read(&mut end).await.map(|_| ())
            };
            match timeout(CANCEL_DIAL, send).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a statement could not be cancelled"),
                Err(_) => tracing::warn!("a statement could not be cancelled in time"),
            }
        });
    }

    async fn wait(&mut self, since: Since) -> Happened {
        let wants = self.machine.wants();
        let due = nearest([self.machine.next_deadline(), self.own_deadline()]);
        let timer = match due {
            Some(at) => Some(arm(&mut self.timer, at)),
            None => None,
        };
        Waiting {
            client: self.client.as_mut(),
            target: self.target.as_mut(),
            control: self.live.as_mut().map(|live| &mut live.control),
            buffers: self.machine.buffers(),
            wants,
            timer,
            since,
        }
        .wait()
        .await
    }

    /// The session's TTL, or the end of its patience with a silent client.
    fn own_deadline(&self) -> Option<Instant> {
        let live = self.live.as_ref()?;
        nearest([live.ends_at, live.idle_at()])
    }

    fn feed(&mut self, happened: Moved, now: Instant) {
        if happened.is_control_closed {
            let denial = Denial::new(DenialKind::Shutdown, "the gateway stops");
            self.end(CloseReason::Shutdown, denial);
        }
        if happened.target.bytes_read > 0 || happened.client.has_room_again {
            self.machine.handle(Input::TargetReadable, now);
        }
        if happened.client.bytes_read > 0 || happened.target.has_room_again {
            self.refresh_rights(now);
            self.machine.handle(Input::ClientReadable, now);
        }
        if happened.target.is_closed {
            self.machine.handle(Input::TargetClosed, now);
        }
        if happened.client.is_closed {
            self.machine.handle(Input::ClientClosed, now);
        }
        if happened.is_timer_due {
            self.timer_due(now);
        }
        self.charge_stream();
    }

    fn refresh_rights(&mut self, now: Instant) {
        let changed = self.live.as_mut().and_then(|live| live.decider.scope.rights_changed());
        if let Some(rights) = changed {
            self.machine.handle(Input::RightsChanged(rights), now);
        }
    }

    fn account(&mut self, happened: Moved, now: Instant) {
        let Some(live) = &mut self.live else { return };
        let Moved { client, target, .. } = happened;
        let (to_client, to_target) = (client.bytes_written as u64, target.bytes_written as u64);
        live.totals.bytes_to_client += to_client;
        live.totals.bytes_to_target += to_target;
        live.uncharged.bytes_to_client += to_client;
        live.uncharged.bytes_to_target += to_target;
        if client.bytes_read > 0 || target.bytes_read > 0 {
            live.last_activity = now;
        }
    }

    fn charge_stream(&mut self) {
        let is_due = self.live.as_ref().is_some_and(|live| {
            live.uncharged.bytes_to_client + live.uncharged.bytes_to_target >= CHARGE_BYTES
        });
        if is_due {
            self.charge();
        }
    }

    /// Charges what was used; ends the session when a budget is spent.
    fn charge(&mut self) {
        let Some(live) = &mut self.live else { return };
        let usage = std::mem::take(&mut live.uncharged);
        if let Err(denial) = live.decider.scope.charge(usage) {
            self.end(CloseReason::Budget, denial);
        }
    }

    fn timer_due(&mut self, now: Instant) {
        let Some(live) = &self.live else {
            self.machine.handle(Input::DeadlinePassed, now);
            return;
        };
        if live.ends_at.is_some_and(|at| at <= now) {
            let text = "the time of this run or session is over";
            self.end(CloseReason::Expired, Denial::new(DenialKind::Ended, text));
        } else if live.idle_at().is_some_and(|at| at <= now) {
            let text = "nothing was sent for longer than the limit allows";
            self.end(CloseReason::Idle, Denial::new(DenialKind::Ended, text));
        }
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            self.machine.handle(Input::DeadlinePassed, now);
        }
    }

    async fn obey(&mut self, word: Control) {
        match word {
            Control::Cancel(cancelling) => {
                self.cancelling = Some(cancelling);
                self.machine.handle(Input::CancelAsked, Instant::now());
            }
            Control::Resolved { approval, resolution } => self.resolve(&approval, resolution).await,
            Control::End { reason, denial } => self.end(reason, denial),
        }
    }

    fn check(&mut self, statement: &Statement) {
        let Some(live) = &mut self.live else { return };
        let denial = live.decider.check(statement).err();
        self.machine.handle(Input::Checked(denial), Instant::now());
    }

    async fn decide(&mut self, statement: Box<Statement>) {
        let Some(live) = &mut self.live else { return };
        live.totals.statements += 1;
        let decision = live.decider.decide(statement).await;
        if matches!(decision, Decision::Allow(_)) {
            live.running += 1;
        }
        self.machine.handle(Input::Decided(decision), Instant::now());
    }

    /// People decided a held statement, or its wait ended.
    async fn resolve(&mut self, approval: &ApprovalId, resolution: Resolution) {
        let Some(live) = &mut self.live else { return };
        let Some((_, decision)) = live.decider.resolve(approval, resolution).await else { return };
        if matches!(decision, Decision::Allow(_)) {
            live.running += 1;
        }
        self.machine.handle(Input::Decided(decision), Instant::now());
    }

    /// The client no longer waits.
    fn withdraw(&mut self, seq: StatementSeq) {
        let Some(live) = &mut self.live else { return };
        if let Err(error) = live.decider.withdraw(seq) {
            self.end_unrecorded(&error);
        }
    }

    fn end_unrecorded(&mut self, error: &TapError) {
        tracing::warn!(%error, "a session ends because its account cannot be kept");
        let denial = Denial::new(DenialKind::RecordUnavailable, "the record cannot be written");
        self.end(CloseReason::Record, denial);
    }

    /// Records something that happened; the buffers are written only after.
    fn record(&mut self, body: EventBody) {
        let Some(live) = &mut self.live else { return };
        let is_completed = matches!(body, EventBody::StatementCompleted { .. });
        if let EventBody::StatementCompleted { rows, seq_in_session, .. } = &body {
            live.running = live.running.saturating_sub(1);
            let counted = live.counted_rows.remove(seq_in_session);
            live.add_rows(*rows, counted);
        }
        if let Err(error) = live.decider.note(body) {
            self.end_unrecorded(&error);
            return;
        }
        if is_completed {
            self.charge();
        }
    }

    fn count_rows(&mut self, seq: StatementSeq, rows: u64) {
        let Some(live) = &mut self.live else { return };
        let counted = live.counted_rows.insert(seq, rows);
        live.add_rows(rows, counted);
        self.charge();
    }

    /// Says goodbye, closes both connections, and writes the closing entry.
    async fn finish(mut self: Box<Self>, reason: CloseReason) {
        let buffers = self.machine.buffers();
        let (client, target) = (self.client.take(), self.target.take());
        let to_client = async {
            let mut link = client?;
            let goodbye = write_all(&mut link, &mut buffers.client_out);
            let written = timeout(FAREWELL, goodbye).await;
            // A client that is gone already cannot be told; its connection closes in any case.
            let shutdown = tokio::io::AsyncWriteExt::shutdown(&mut link.stream);
            let _ = timeout(FAREWELL, shutdown).await;
            written.ok()?.ok()
        };
        let to_target = async {
            // Many sessions may end at once: a target that ends its side of the first ones must
            // not take the machine's time before the last client was told.
            tokio::task::yield_now().await;
            if let Some(mut link) = target {
                // A target that does not take the goodbye at once is closed without it. Nor does
                // it wait for the client: what was cut off must not go on because somebody reads
                // slowly.
                let goodbye = write_all(&mut link, &mut buffers.target_out);
                let _ = timeout(TARGET_FAREWELL, goodbye).await;
            }
        };
        let (written, ()) = tokio::join!(biased; to_client, to_target);
        if let (Some(count), Some(live)) = (written, &mut self.live) {
            live.totals.bytes_to_client += count as u64;
        }
        match self.live.take() {
            Some(mut live) => {
                live.totals.duration = self.started_at.elapsed();
                let Live { decider: Decider { mut scope, .. }, totals, uncharged, .. } = live;
                // The session ends anyway; a spent budget changes nothing here.
                let _ = scope.charge(uncharged);
                scope.close(reason, totals).await;
            }
            None if self.is_refused || reason == CloseReason::Client => {}
            None => self.server.authority.refused(&self.facts, refusal_text(reason)),
        }
        while self.cancels.join_next().await.is_some() {}
    }
}

impl Live {
    /// When a silent session ends. A session with a running or held statement is not silent.
    fn idle_at(&self) -> Option<Instant> {
        let is_busy = self.running > 0 || self.decider.is_holding();
        let timeout = self.idle_timeout.filter(|_| !is_busy)?;
        self.last_activity.checked_add(timeout)
    }

    /// All rows of a statement up to now, of which some were counted before.
    fn add_rows(&mut self, rows: u64, counted: Option<u64>) {
        let more = rows.saturating_sub(counted.unwrap_or(0));
        self.totals.rows += more;
        self.uncharged.rows += more;
    }
}

/// Carries something out, and tells whether that took a single poll.
async fn in_one_poll<T>(work: impl Future<Output = T>) -> (T, Since) {
    let mut work = pin!(work);
    let mut since = Since::SamePoll;
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready((done, since)),
        Poll::Pending => {
            since = Since::AnotherPoll;
            Poll::Pending
        }
    })
    .await
}

/// A timer that goes off at `at`, or before. What a session waits for mostly moves on with each
/// statement, and setting a timer anew takes the runtime's lock.
fn arm(timer: &mut Option<Pin<Box<Sleep>>>, at: Instant) -> Pin<&mut Sleep> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at.into())));
    if timer.is_elapsed() || timer.deadline() > at.into() {
        timer.as_mut().reset(at.into());
    }
    timer.as_mut()
}

fn refusal_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Expired | CloseReason::Idle => "the login was not finished in time",
        CloseReason::Shutdown => "the gateway stops",
        _ => "the connection did not speak the protocol",
    }
}

/// An error with its causes, for the log.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
