//! A gateway that decides as a test says, and keeps what it was told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corral_gate::decision::{Denial, DenialKind, HoldTerm, Receipt, Ruling, Verdict};
use corral_gate::{Actor, Admission, Credential, Login, Proof, Rights, Tap, TapError};
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{
    ApprovalId, PolicyVersion, PrincipalName, SessionId, StatementSeq, TargetName,
};
use corral_model::resource::{ColumnName, RecordRows, TargetTlsMode};
use corral_model::{Principal, Secret, Statement};
use corral_session::scope::BoxFuture;
use corral_session::{
    Admitted, Authority, ConnectionFacts, Control, OwnKey, Resolution, Scope, SessionHandle,
    Totals, Usage,
};
use corral_transport::{Address, Endpoint, Route};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// What a test says of a statement.
pub(crate) type Rule = fn(&Statement) -> Verdict;

pub(crate) fn allow(_: &Statement) -> Verdict {
    Verdict::Allow
}

pub(crate) fn no() -> Verdict {
    Verdict::Deny(Denial::new(DenialKind::Forbidden, "not here"))
}

pub(crate) fn ask_somebody() -> Verdict {
    Verdict::Hold(vec![HoldTerm {
        rule: "r".into(),
        group: "admins".into(),
        quorum: 1,
        reason: "why".into(),
        expires_in: None,
    }])
}

/// What the gateway was told.
#[derive(Default)]
pub(crate) struct Told {
    events: Mutex<Vec<EventBody>>,
    controls: Mutex<Option<mpsc::Sender<Box<Control>>>>,
    approvals: Mutex<u32>,
    usage: Mutex<Usage>,
    is_full: Mutex<bool>,
    statements: Mutex<Vec<Statement>>,
}

impl Told {
    pub(crate) fn events(&self) -> Vec<EventBody> {
        self.events.lock().expect("no panic holds it").clone()
    }

    pub(crate) fn statements(&self) -> Vec<Statement> {
        self.statements.lock().expect("no panic holds it").clone()
    }

    pub(crate) fn usage(&self) -> Usage {
        *self.usage.lock().expect("no panic holds it")
    }

    pub(crate) fn fill_record(&self) {
        *self.is_full.lock().expect("no panic holds it") = true;
    }

    /// Texts of what was decided, with the outcome.
    pub(crate) fn decided(&self) -> Vec<String> {
        let statements = self.statements();
        let text_of = |seq: StatementSeq| {
            let found = statements.iter().find(|statement| statement.seq == seq);
            found.map_or_else(String::new, |statement| statement.text.to_string())
        };
        let events = self.events();
        let texts = events.iter().filter_map(|event| match event {
            EventBody::StatementDecided { seq_in_session, outcome, .. } => {
                Some(format!("{} {}", outcome.name(), text_of(*seq_in_session)))
            }
            _ => None,
        });
        texts.collect()
    }

    /// Completions of statements with this text: code, tag, names, bytes, digest.
    pub(crate) fn completed(&self, text: &str) -> Vec<Completed> {
        let statements = self.statements();
        let is_it = |seq: StatementSeq| {
            statements.iter().any(|statement| statement.seq == seq && &*statement.text == text)
        };
        let events = self.events();
        let found = events.into_iter().filter_map(|event| match event {
            EventBody::StatementCompleted {
                seq_in_session,
                code,
                tag,
                rows,
                bytes,
                digest,
                ..
            } if is_it(seq_in_session) => {
                Some(Completed { code, tag: tag.unwrap_or_default(), rows, bytes, digest })
            }
            _ => None,
        });
        found.collect()
    }

    pub(crate) async fn control(&self, word: Control) {
        let sender = self.controls.lock().expect("no panic holds it").clone();
        sender.expect("a session is open").send(Box::new(word)).await.expect("it listens");
    }

    /// Approves the held statement with this number, from 1.
    pub(crate) async fn approve(&self, number: u32) {
        let resolution = Resolution::Approved { by: vec!["grace".into()], reason: "fine".into() };
        self.control(Control::Resolved { approval: approval(number), resolution }).await;
    }

    pub(crate) async fn refuse(&self, number: u32) {
        let resolution = Resolution::Denied { by: "grace".into(), reason: "no".into() };
        self.control(Control::Resolved { approval: approval(number), resolution }).await;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) code: String,
    pub(crate) tag: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: Option<String>,
}

fn approval(number: u32) -> ApprovalId {
    ApprovalId::new(format!("a{number}")).expect("an id")
}

/// Lets in whoever shows the token `good`, or a certificate.
pub(crate) struct Gateway {
    pub(crate) told: Arc<Told>,
    pub(crate) rule: Rule,
    pub(crate) port: u16,
    pub(crate) options: Arc<serde_json::Map<String, serde_json::Value>>,
}

/// Opens a session whose statements are decided by `rule`.
pub(crate) async fn open_session(told: &Arc<Told>, rule: Rule) -> SessionHandle {
    let gateway = Gateway { told: told.clone(), rule, port: 1, options: Arc::default() };
    let login = Login {
        proof: Proof::Token(Secret::new("good".into())),
        target: "t".into(),
        database: None,
        claims: Vec::new(),
    };
    let facts = ConnectionFacts {
        client_ip: None,
        client_address: "unix".into(),
        is_tls: false,
        listener_target: None,
        protocol: "ssh",
        shown: None,
    };
    let opened = corral_session::open(&gateway, login, facts).await.expect("let in");
    opened.session
}

impl Authority for Gateway {
    fn admit(&self, login: Login, _: ConnectionFacts) -> BoxFuture<'_, Result<Admitted, Denial>> {
        Box::pin(async move {
            if let Proof::Token(token) = &login.proof
                && token.reveal() != "good"
            {
                return Err(Denial::new(DenialKind::Authentication, "the token is not known"));
            }
            let (sender, control) = mpsc::channel(8);
            *self.told.controls.lock().expect("no panic holds it") = Some(sender);
            let no_columns: Arc<[ColumnName]> = Arc::new([]);
            let ada = PrincipalName::new("ada@example.com").expect("a name");
            Ok(Admitted {
                admission: Admission {
                    session: SessionId::new("s").expect("an id"),
                    target: TargetName::new("t").expect("a name"),
                    target_revision: 1,
                    credential: Credential::password("deploy", Some(Secret::new("hunter2".into()))),
                    database: None,
                    tls: TargetTlsMode::Disable,
                    is_target_local: true,
                    classified: no_columns,
                    rights: Rights::default(),
                    record_rows: RecordRows::None,
                    cancel_secret: [0; 32],
                    options: self.options.clone(),
                    commands: Arc::default(),
                    actor: Actor {
                        principal: Principal::user(ada.clone()),
                        sponsor: ada,
                        groups: Vec::new(),
                        run: None,
                    },
                },
                endpoint: Endpoint {
                    address: Address::Tcp { host: "127.0.0.1".into(), port: self.port },
                    route: Route::Direct,
                    tls: TargetTlsMode::Disable,
                    ca_pem: None,
                },
                scope: Box::new(ScopeDouble { told: self.told.clone(), rule: self.rule, seq: 0 }),
                control,
                config_changes: tokio::sync::watch::channel(()).1,
                renewed: None,
                ttl: None,
                token_ends: None,
                idle_timeout: None,
            })
        })
    }

    fn cancel(&self, _: &[u8]) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn own_key(&self, _: &'static str) -> BoxFuture<'_, Result<OwnKey, Denial>> {
        Box::pin(async { Ok(OwnKey::new([7; 32])) })
    }

    fn spawn(&self, session: BoxFuture<'static, ()>) {
        tokio::spawn(session);
    }

    fn refused(&self, _: &ConnectionFacts, _: &str) {}
}

struct ScopeDouble {
    told: Arc<Told>,
    rule: Rule,
    seq: u64,
}

impl Tap for ScopeDouble {
    fn append(&mut self, _: OffsetDateTime, body: EventBody) -> Result<Receipt, TapError> {
        if *self.told.is_full.lock().expect("no panic holds it") {
            return Err(TapError::Unavailable(std::io::Error::other("full")));
        }
        self.seq += 1;
        self.told.events.lock().expect("no panic holds it").push(body);
        Ok(Receipt::of_written_entry(self.seq))
    }

    fn note(&mut self, at: OffsetDateTime, body: EventBody) -> Result<(), TapError> {
        self.append(at, body).map(|_| ())
    }

    fn needs_sync(&self) -> bool {
        false
    }
}

impl Scope for ScopeDouble {
    fn tap(&mut self) -> &mut dyn Tap {
        self
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), TapError>> {
        Box::pin(async { Ok(()) })
    }

    fn rule(&mut self, statement: &Statement) -> Ruling {
        self.told.statements.lock().expect("no panic holds it").push(statement.clone());
        let verdict = match &statement.facts.obstacle {
            Some(obstacle) => {
                Verdict::Deny(Denial::new(DenialKind::Forbidden, obstacle.text.clone()))
            }
            None => (self.rule)(statement),
        };
        ruling(verdict)
    }

    fn check(&mut self, statement: &Statement) -> Ruling {
        self.rule(statement)
    }

    fn hold<'a>(
        &'a mut self,
        _: &'a Statement,
        _: &'a Ruling,
    ) -> BoxFuture<'a, Result<(ApprovalId, String), Denial>> {
        let mut approvals = self.told.approvals.lock().expect("no panic holds it");
        *approvals += 1;
        let id = approval(*approvals);
        Box::pin(async { Ok((id, "waits for admins".into())) })
    }

    fn rule_approved(&mut self, _: &Statement, _: &ApprovalId) -> Ruling {
        ruling(Verdict::Allow)
    }

    fn withdraw(&mut self, _: &ApprovalId, _: StatementSeq) {}

    fn charge(&mut self, usage: Usage) -> Result<(), Denial> {
        let mut all = self.told.usage.lock().expect("no panic holds it");
        all.bytes_to_client += usage.bytes_to_client;
        all.bytes_to_target += usage.bytes_to_target;
        Ok(())
    }

    fn rights_changed(&mut self) -> Option<Rights> {
        None
    }

    fn opened(&mut self, _cancel_key: Vec<u8>) {}

    fn close(self: Box<Self>, _: CloseReason, _: Totals) -> BoxFuture<'static, ()> {
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

/// Waits until something is true.
pub(crate) async fn until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
