//! A toy protocol (a statement is a line), a gateway that does as it is told, and an echo target.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corral_gate::decision::{
    Decision, Denial, DenialKind, HoldTerm, Permit, Receipt, Ruling, Verdict,
};
use corral_gate::machine::{Framed, Input, Machine, Output};
use corral_gate::machine::{Start, Wants, Work};
use corral_gate::{Actor, Admission, Credential, Login, Proof, Protocol, ProtocolSpec, Rights};
use corral_gate::{Buffers, Tap, TapError};
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{
    ApprovalId, PolicyVersion, PrincipalName, SessionId, StatementSeq, TargetName,
};
use corral_model::limits::LOGIN_DEADLINE;
use corral_model::resource::{ColumnName, RecordRows, TargetTlsMode};
use corral_model::statement::Facts;
use corral_model::trace::{TraceNames, TracedObjects};
use corral_model::{Principal, Secret, Statement};
use corral_session::scope::BoxFuture;
use corral_session::{Admitted, Analysts, Authority, ConnectionFacts, Control, Scope, Server};
use corral_session::{OwnKey, Service, Totals, Usage};
use corral_transport::{Address, Endpoint, Listener};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, watch};

/// First line is the token; every other line is a statement, whose echo is its result.
pub(crate) struct Lines;

const SPEC: ProtocolSpec = ProtocolSpec {
    id: "lines",
    title: "Lines",
    alpn: &[],
    has_direct_tls: false,
    verbs: &[],
    attributes: &[],
    mount: None,
    assurance: "",
    traces: TraceNames {
        system: None,
        code: "corral.code",
        successes: &["0", "closed"],
        rows: None,
        objects: TracedObjects::Nothing,
    },
};

impl Protocol for Lines {
    fn spec(&self) -> &ProtocolSpec {
        &SPEC
    }
}

impl Framed for Lines {
    fn accept(&self, start: Start) -> Box<dyn Machine> {
        Box::new(LineMachine {
            buffers: Buffers::default(),
            outputs: Vec::new(),
            deadline: start.now.checked_add(LOGIN_DEADLINE),
            state: State::ExpectToken,
            seq: 0,
            pending: None,
            permit: None,
            is_client_closed: false,
        })
    }
}

#[derive(PartialEq)]
enum State {
    ExpectToken,
    ExpectAnswer,
    ExpectLine,
    ExpectDecision,
    ExpectEcho,
}

struct LineMachine {
    buffers: Buffers,
    outputs: Vec<Output>,
    deadline: Option<Instant>,
    state: State,
    seq: u64,
    pending: Option<String>,
    permit: Option<Permit>,
    is_client_closed: bool,
}

fn take_line(buffer: &mut BytesMut) -> Option<String> {
    let end = buffer.iter().position(|byte| *byte == b'\n')?;
    let line = buffer.split_to(end + 1);
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

impl LineMachine {
    fn tell(&mut self, text: &str) {
        self.buffers.client_out.extend_from_slice(text.as_bytes());
        self.buffers.client_out.extend_from_slice(b"\n");
    }

    fn close(&mut self, reason: CloseReason) {
        self.outputs.push(Output::Close(reason));
    }

    fn read_client(&mut self) {
        match self.state {
            State::ExpectToken => {
                let Some(token) = take_line(&mut self.buffers.client_in) else { return };
                self.state = State::ExpectAnswer;
                self.outputs.push(Output::Admit(Box::new(Login {
                    proof: Proof::Token(Secret::new(token)),
                    target: "t".into(),
                    database: None,
                    claims: Vec::new(),
                })));
            }
            State::ExpectLine => {
                let Some(line) = take_line(&mut self.buffers.client_in) else {
                    if self.is_client_closed {
                        self.close(CloseReason::Client);
                    }
                    return;
                };
                self.state = State::ExpectDecision;
                self.pending = Some(line.clone());
                let work = move || Box::new(line.len()) as Box<dyn Any + Send>;
                self.outputs.push(Output::Work(Work(Box::new(work))));
            }
            State::ExpectDecision if self.is_client_closed => {
                self.outputs.push(Output::Withdraw(StatementSeq(self.seq)));
                self.close(CloseReason::Client);
            }
            State::ExpectAnswer | State::ExpectDecision | State::ExpectEcho => {}
        }
    }

    fn decide(&mut self) {
        self.seq += 1;
        let text: Arc<str> = self.pending.clone().unwrap_or_default().into();
        self.outputs.push(Output::Decide(Box::new(Statement {
            seq: StatementSeq(self.seq),
            text,
            facts: Arc::new(Facts::default()),
            parameters: Arc::default(),
            in_transaction: false,
            state_digest: Arc::from(""),
            traceparent: None,
        })));
    }

    fn decided(&mut self, decision: Decision) {
        match decision {
            Decision::Allow(permit) => {
                let line = self.pending.take().unwrap_or_default() + "\n";
                self.buffers.target_out.push(&permit, line.as_bytes());
                self.permit = Some(permit);
                self.state = State::ExpectEcho;
            }
            Decision::Deny(denial) => {
                self.tell(&denial.sentence());
                self.state = State::ExpectLine;
                self.read_client();
            }
            Decision::Hold(hold) => self.tell(&format!("held: {}", hold.notice)),
        }
    }

    fn read_target(&mut self) {
        let Some(line) = take_line(&mut self.buffers.target_in) else { return };
        self.permit = None;
        self.outputs.push(Output::Record(Box::new(EventBody::StatementCompleted {
            decision: "d".into(),
            seq_in_session: StatementSeq(self.seq),
            code: "ok".into(),
            tag: None,
            rows: 1,
            bytes: line.len() as u64,
            duration_us: 0,
            digest: None,
        })));
        self.tell(&line);
        self.state = State::ExpectLine;
        self.read_client();
    }
}

impl Machine for LineMachine {
    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::ClientReadable => self.read_client(),
            Input::TargetReadable => self.read_target(),
            Input::ClientClosed => {
                self.is_client_closed = true;
                self.read_client();
            }
            Input::TargetClosed => self.close(CloseReason::Target),
            Input::Admitted(_) => {
                self.deadline = None;
                self.outputs.push(Output::DialTarget);
            }
            Input::TargetConnected => {
                self.outputs.push(Output::SessionOpened { cancel_key: Vec::new() });
                self.state = State::ExpectLine;
                self.read_client();
            }
            Input::Refused(denial) => {
                self.tell(&denial.sentence());
                self.close(CloseReason::Client);
            }
            Input::Worked(_) => self.decide(),
            Input::Decided(decision) => self.decided(decision),
            Input::CancelAsked => {
                self.outputs.push(Output::CancelTarget(b"cancel\n".to_vec()));
            }
            Input::DeadlinePassed => {
                if self.deadline.is_some_and(|at| at <= now) {
                    self.close(CloseReason::Expired);
                }
            }
            Input::End { reason, denial } => {
                self.tell(&denial.sentence());
                self.close(reason);
            }
            Input::ClientTlsStarted
            | Input::TargetTlsStarted { .. }
            | Input::Checked(_)
            | Input::RightsChanged(_) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn wants(&self) -> Wants {
        Wants { client: self.buffers.client_in.len() < 1024, target: true }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// What the gateway's double was told, and what it is told to do.
pub(crate) struct Told {
    pub(crate) events: Mutex<Vec<String>>,
    pub(crate) is_record_full: AtomicBool,
    pub(crate) sessions: AtomicUsize,
    pub(crate) withdrawn: AtomicUsize,
    pub(crate) controls: Mutex<Vec<mpsc::Sender<Box<Control>>>>,
    pub(crate) bytes: AtomicU64,
    pub(crate) bytes_max: AtomicU64,
    pub(crate) changes: watch::Sender<()>,
    /// Nothing more is permitted.
    pub(crate) is_forbidden: AtomicBool,
    /// Every entry waits for a sync, which ends when `synced` says so.
    pub(crate) waits_for_sync: AtomicBool,
    pub(crate) synced: Notify,
    /// The columns to mask from the next configuration on.
    pub(crate) masked: Mutex<Option<Arc<[ColumnName]>>>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            events: Mutex::default(),
            is_record_full: AtomicBool::default(),
            sessions: AtomicUsize::default(),
            withdrawn: AtomicUsize::default(),
            controls: Mutex::default(),
            bytes: AtomicU64::default(),
            bytes_max: AtomicU64::new(u64::MAX),
            changes: watch::Sender::default(),
            is_forbidden: AtomicBool::default(),
            waits_for_sync: AtomicBool::default(),
            synced: Notify::new(),
            masked: Mutex::default(),
        }
    }
}

impl Told {
    pub(crate) fn log(&self, text: impl Into<String>) {
        self.events.lock().expect("no panic holds it").push(text.into());
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.events.lock().expect("no panic holds it").iter().any(|event| event == text)
    }

    pub(crate) async fn control(&self, word: Control) {
        let sender = self.controls.lock().expect("no panic holds it").last().cloned();
        sender.expect("a session is open").send(Box::new(word)).await.expect("it listens");
    }
}

pub(crate) struct Gateway {
    pub(crate) told: Arc<Told>,
    pub(crate) target: std::net::SocketAddr,
    pub(crate) ttl: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Authority for Gateway {
    fn own_key(&self, _: &'static str) -> BoxFuture<'_, Result<OwnKey, Denial>> {
        Box::pin(async { Ok(OwnKey::new([7; 32])) })
    }

    fn spawn(&self, session: BoxFuture<'static, ()>) {
        tokio::spawn(session);
    }

    fn admit(&self, login: Login, _: ConnectionFacts) -> BoxFuture<'_, Result<Admitted, Denial>> {
        Box::pin(async move {
            let Proof::Token(token) = &login.proof else { unreachable!("a token") };
            if token.reveal() != "good" {
                return Err(Denial::new(DenialKind::Authentication, "no such token"));
            }
            let (sender, control) = mpsc::channel(8);
            self.told.controls.lock().expect("no panic holds it").push(sender);
            self.told.sessions.fetch_add(1, Ordering::SeqCst);
            let no_columns: Arc<[ColumnName]> = Arc::new([]);
            Ok(Admitted {
                admission: Admission {
                    session: SessionId::new("s").expect("an id"),
                    target: TargetName::new("t").expect("a name"),
                    target_revision: 1,
                    credential: Credential::password("u", None),
                    database: None,
                    tls: TargetTlsMode::Disable,
                    is_target_local: true,
                    classified: no_columns,
                    rights: Rights::default(),
                    record_rows: RecordRows::None,
                    cancel_secret: [0; 32],
                    options: Arc::default(),
                    commands: Arc::default(),
                    actor: Actor {
                        principal: Principal::user(
                            PrincipalName::new("ada@example.com").expect("a name"),
                        ),
                        sponsor: PrincipalName::new("ada@example.com").expect("a name"),
                        groups: Vec::new(),
                        run: None,
                    },
                },
                endpoint: Endpoint {
                    route: corral_transport::Route::Direct,
                    address: Address::Tcp { host: "127.0.0.1".into(), port: self.target.port() },
                    tls: TargetTlsMode::Disable,
                    ca_pem: None,
                },
                scope: Box::new(ScopeDouble { told: self.told.clone(), seq: 0 }),
                control,
                config_changes: self.told.changes.subscribe(),
                renewed: None,
                ttl: self.ttl,
                token_ends: None,
                idle_timeout: self.idle_timeout,
            })
        })
    }

    fn cancel(&self, _key: &[u8]) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn refused(&self, _: &ConnectionFacts, reason: &str) {
        self.told.log(format!("refused: {reason}"));
    }
}

struct ScopeDouble {
    told: Arc<Told>,
    seq: u64,
}

impl Drop for ScopeDouble {
    fn drop(&mut self) {
        self.told.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Tap for ScopeDouble {
    fn append(&mut self, _: OffsetDateTime, body: EventBody) -> Result<Receipt, TapError> {
        if self.told.is_record_full.load(Ordering::SeqCst) {
            return Err(TapError::Unavailable(std::io::Error::other("full")));
        }
        self.seq += 1;
        let text = match body {
            EventBody::StatementDecided { outcome, .. } => format!("decided {outcome:?}"),
            EventBody::ApprovalDecided { state, .. } => format!("approval {state:?}"),
            EventBody::StatementCompleted { code, .. } => format!("completed {code}"),
            _ => "other".into(),
        };
        self.told.log(text);
        Ok(Receipt::of_written_entry(self.seq))
    }

    fn note(&mut self, at: OffsetDateTime, body: EventBody) -> Result<(), TapError> {
        self.append(at, body).map(|_| ())
    }

    fn needs_sync(&self) -> bool {
        self.told.waits_for_sync.load(Ordering::SeqCst)
    }
}

impl Scope for ScopeDouble {
    fn tap(&mut self) -> &mut dyn Tap {
        self
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), TapError>> {
        let told = self.told.clone();
        Box::pin(async move {
            told.synced.notified().await;
            Ok(())
        })
    }

    fn rule(&mut self, statement: &Statement) -> Ruling {
        let verdict = match statement.text.split(' ').next() {
            Some("drop") => Verdict::Deny(Denial::new(DenialKind::Forbidden, "no")),
            Some("alter") => Verdict::Hold(vec![HoldTerm {
                rule: "r".into(),
                group: "dba".into(),
                quorum: 1,
                reason: "why".into(),
                expires_in: None,
            }]),
            _ => Verdict::Allow,
        };
        ruling(verdict)
    }

    fn check(&mut self, statement: &Statement) -> Ruling {
        let mut ruling = self.rule(statement);
        if self.told.is_forbidden.load(Ordering::SeqCst) {
            let text = "no longer";
            ruling.verdict = Verdict::Deny(Denial::new(DenialKind::Forbidden, text));
        }
        ruling
    }

    fn hold<'a>(
        &'a mut self,
        statement: &'a Statement,
        _: &'a Ruling,
    ) -> BoxFuture<'a, Result<(ApprovalId, String), Denial>> {
        let approval = match statement.text.split_once('#') {
            Some((_, name)) => ApprovalId::new(name).expect("an id"),
            None => approval(),
        };
        Box::pin(async { Ok((approval, "ask a dba".into())) })
    }

    fn rule_approved(&mut self, _: &Statement, _: &ApprovalId) -> Ruling {
        ruling(Verdict::Allow)
    }

    fn withdraw(&mut self, _: &ApprovalId, _: StatementSeq) {
        self.told.withdrawn.fetch_add(1, Ordering::SeqCst);
    }

    fn charge(&mut self, usage: Usage) -> Result<(), Denial> {
        let passed = self.told.bytes.fetch_add(usage.bytes_to_client, Ordering::SeqCst);
        if passed + usage.bytes_to_client > self.told.bytes_max.load(Ordering::SeqCst) {
            return Err(Denial::new(DenialKind::BudgetSpent, "bytes are spent"));
        }
        Ok(())
    }

    fn rights_changed(&mut self) -> Option<Rights> {
        let masked = self.told.masked.lock().expect("no panic holds it").take()?;
        Some(Rights { masked, ..Rights::default() })
    }

    fn opened(&mut self, _cancel_key: Vec<u8>) {}

    fn close(self: Box<Self>, reason: CloseReason, totals: Totals) -> BoxFuture<'static, ()> {
        self.told.log(format!("closed {reason:?} after {}", totals.statements));
        Box::pin(async {})
    }
}

fn ruling(verdict: Verdict) -> Ruling {
    Ruling {
        decision_id: "d".into(),
        verdict,
        rules: Arc::default(),
        policy_version: PolicyVersion(1),
    }
}

pub(crate) fn approval() -> ApprovalId {
    ApprovalId::new("a").expect("an id")
}

/// A target that sends back what it gets, and counts its lines.
pub(crate) async fn echo_target(lines: Arc<AtomicUsize>) -> std::net::SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.address();
    tokio::spawn(async move {
        while let Ok(mut accepted) = listener.accept().await {
            let lines = lines.clone();
            tokio::spawn(async move {
                let mut chunk = [0_u8; 4096];
                while let Ok(count @ 1..) = accepted.stream.read(&mut chunk).await {
                    let seen = chunk[..count].iter().filter(|byte| **byte == b'\n').count();
                    lines.fetch_add(seen, Ordering::SeqCst);
                    if accepted.stream.write_all(&chunk[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Serves lines; returns where.
pub(crate) async fn start(gateway: Gateway) -> std::net::SocketAddr {
    let analysts = Analysts::start().expect("threads");
    let server =
        Arc::new(Server::new(Service::Framed(Arc::new(Lines)), Arc::new(gateway), analysts, None));
    let listener = Listener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.address();
    tokio::spawn(async move {
        while let Ok(accepted) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move { server.serve(accepted, None).await });
        }
    });
    address
}
