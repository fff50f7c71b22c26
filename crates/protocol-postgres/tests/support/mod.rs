//! A client, a gate and a target around one machine, in one thread and without a socket.
//!
//! The gate denies texts with `forbidden` in them, holds those with `approve`, allows the rest.
//! The analysis is a naive one that knows the table `people(id, name, ssn)` only; what `mystery` does
//! is unknown to it.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod client;
pub(crate) mod target;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use corral_gate::decision::{Decision, Denial, DenialKind, Receipt, Ruling, Verdict};
use corral_gate::machine::{Framed, Start};
use corral_gate::{Actor, Admission, Credential, Input, Machine, Output, Proof, Rights};
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{
    ApprovalId, PolicyVersion, PrincipalName, SessionId, StatementSeq, TargetName,
};
use corral_model::limits::WRITE_BUFFER_BYTES_HIGH;
use corral_model::resource::{ColumnName, RecordRows, TargetTlsMode};
use corral_model::statement::Facts;
use corral_model::{Effect, Effects, ObjectRef, ObjectRole, Principal, Secret, Statement, Verb};
use corral_protocol_postgres::Postgres;
use corral_protocol_postgres::analysis::catalogue::{CatalogueError, Row, rows_of_text};
use corral_protocol_postgres::analysis::{
    Analysis, Catalogue, MaskScope, MaskedColumn, Names, ResultMask, SessionChange, SessionNames,
    StatementKind,
};
use corral_protocol_postgres::analyst::Analyst;

use client::startup;
use target::FakeTarget;

pub(crate) const PEOPLE: u32 = 16_384;
pub(crate) const SECRET: [u8; 32] = [
    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
    21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
];

pub(crate) fn ssn() -> ColumnName {
    ColumnName::parse("public.people.ssn").expect("a column")
}

/// Knows words, not grammar.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// Shown in the facts: a test changes it to change what names mean.
    pub(crate) generation: AtomicU64,
    pub(crate) analysed: AtomicU64,
    /// The encoding that the target reads, once a test has changed it.
    encoding: Mutex<Option<&'static str>>,
}

impl Words {
    pub(crate) fn read_in(&self, encoding: &'static str) {
        *self.encoding.lock().expect("no panic holds it") = Some(encoding);
    }
}

fn kind_of(text: &str) -> StatementKind {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = || words.get(1).map(|word| (*word).to_owned());
    match words.first().copied().unwrap_or_default() {
        "begin" => StatementKind::Begin,
        "commit" => StatementKind::Commit { is_chained: false },
        "rollback" => StatementKind::Rollback { is_chained: false },
        "select" | "show" => StatementKind::Rows,
        "prepare" => StatementKind::Prepare { name: name().unwrap_or_default() },
        "execute" => StatementKind::Execute { name: name().unwrap_or_default() },
        "discard" => StatementKind::DiscardAll,
        "deallocate" => StatementKind::Deallocate { name: name() },
        "fetch" => StatementKind::Fetch { name: name().unwrap_or_default() },
        "declare" => StatementKind::DeclareCursor {
            name: name().unwrap_or_default(),
            is_held: text.contains("hold"),
        },
        "copy" if text.contains("stdin") => StatementKind::CopyIn,
        "copy" => StatementKind::CopyOut,
        _ => StatementKind::NoRows,
    }
}

/// What stands behind FROM and TABLE.
fn objects_of(text: &str) -> Vec<ObjectRef> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_change = text.contains("alter") || text.contains("create");
    let role = if is_change { ObjectRole::Define } else { ObjectRole::Read };
    let named = words.windows(2).filter(|pair| matches!(pair[0], "from" | "table"));
    let object = |pair: &[&str]| ObjectRef {
        schema: "public".into(),
        name: pair[1].to_owned(),
        kind: "table".into(),
        role,
    };
    named.map(object).collect()
}

impl Analyst for Words {
    fn analyse(&self, text: &str, names: Option<&Names>, scope: &MaskScope) -> Analysis {
        self.analysed.fetch_add(1, Ordering::Relaxed);
        let parts: Vec<&str> = text.split(';').filter(|part| !part.trim().is_empty()).collect();
        let kinds: Vec<StatementKind> = parts.iter().map(|part| kind_of(part)).collect();
        let needs_names =
            ["begin", "commit", "rollback", "show"].iter().all(|word| !text.starts_with(word));
        let is_unknown = (needs_names && names.is_none())
            || text.contains("mystery")
            || text.contains("execute");
        let effect = if is_unknown { Effect::Unknown } else { Effect::Read };
        let facts = Facts {
            verbs: vec![Verb { name: "word", effect: Some(effect) }],
            effects: Effects::of(effect),
            objects: objects_of(text),
            functions: vec![format!("g{}", self.generation.load(Ordering::Relaxed))],
            statement_count: u32::try_from(kinds.len()).expect("few"),
            ..Facts::default()
        };
        let is_masked = text.contains("id, ssn") && !scope.masked.is_empty();
        let mask = is_masked.then(|| ResultMask {
            column_count: 2,
            masked: vec![MaskedColumn { index: 1, name: ssn() }],
        });
        Analysis {
            facts: Arc::new(facts),
            resolves_late: text.contains("body")
                || kinds.iter().any(|kind| matches!(kind, StatementKind::Fetch { .. })),
            kinds,
            needs_names,
            session_change: SessionChange {
                names: text.contains("search_path") || text.contains("client_encoding"),
                catalogue: text.contains("alter") || text.contains("create"),
                reading: text.contains("client_encoding"),
                is_wide: text.contains("wide"),
            },
            has_bodies: text.contains("body"),
            mask,
            unknown: None,
            parse_error: None,
        }
    }

    fn analyse_execute(
        &self,
        text: &str,
        prepared: &str,
        names: Option<&Names>,
        scope: &MaskScope,
    ) -> Analysis {
        Analysis { kinds: vec![kind_of(text)], ..self.analyse(prepared, names, scope) }
    }

    fn catalogue(&self, _rows: &[Row]) -> Result<Catalogue, CatalogueError> {
        let generation = self.generation.load(Ordering::Relaxed).to_string();
        let row = ["builtin", &generation, "pg_catalog", "now"];
        Catalogue::from_rows(&[row.map(|cell| Some(cell.to_owned())).to_vec()])
    }

    fn session_names(&self, rows: &[Row]) -> Result<SessionNames, CatalogueError> {
        if rows.is_empty() {
            return Err(CatalogueError::Incomplete("anything"));
        }
        if let Some(encoding) = *self.encoding.lock().expect("no panic holds it") {
            let rows = include_str!("../data/session.tsv");
            let rows =
                rows.replace("client_encoding\tUTF8", &format!("client_encoding\t{encoding}"));
            return SessionNames::from_rows(&rows_of_text(&rows));
        }
        if self.generation.load(Ordering::Relaxed) > 0 {
            return SessionNames::from_rows(&rows_of_text(include_str!("../data/session.tsv")));
        }
        Ok(SessionNames::default())
    }

    fn origin(&self, _catalogue: &Catalogue, column: &ColumnName) -> Option<(u32, i16)> {
        (*column == ssn()).then_some((PEOPLE, 3))
    }
}

/// What a world is like.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) masked: bool,
    pub(crate) may_run_unknown: bool,
    pub(crate) record_rows: RecordRows,
    pub(crate) tls: TargetTlsMode,
    pub(crate) is_target_local: bool,
    pub(crate) password: Option<&'static str>,
    /// Bytes that arrive at once, on both sides.
    pub(crate) chunk: usize,
    pub(crate) minor: u16,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            masked: false,
            may_run_unknown: false,
            record_rows: RecordRows::None,
            tls: TargetTlsMode::Disable,
            is_target_local: true,
            password: None,
            chunk: usize::MAX,
            minor: 0,
        }
    }
}

pub(crate) struct World {
    protocol: Arc<Postgres>,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) words: Arc<Words>,
    pub(crate) target: FakeTarget,
    pub(crate) setting: Setting,
    pub(crate) now: Instant,
    pub(crate) client_got: BytesMut,
    pub(crate) events: Vec<EventBody>,
    pub(crate) decided: Vec<Statement>,
    pub(crate) works: usize,
    /// Of statements that are not over: rows that count already.
    pub(crate) rows: BTreeMap<StatementSeq, u64>,
    pub(crate) cancels: Vec<Vec<u8>>,
    pub(crate) cancelled_sessions: Vec<Vec<u8>>,
    pub(crate) withdrawn: Vec<StatementSeq>,
    pub(crate) logins: Vec<(String, Option<String>)>,
    pub(crate) claims: Vec<(String, String)>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) is_open: bool,
    pub(crate) cancel_key: Vec<u8>,
    pub(crate) wants_client_tls: bool,
    /// The client reads nothing.
    pub(crate) is_client_stalled: bool,
    /// The target answers nothing.
    pub(crate) is_target_stalled: bool,
    entries: u64,
    /// Bytes the target has answered and the machine has not been given.
    answered: BytesMut,
    to_send: BytesMut,
}

pub(crate) fn start(now: Instant) -> Start {
    Start { now, is_local: true, is_tls: false, can_tls: false, target: None, shown: None }
}

impl World {
    pub(crate) fn new(setting: Setting) -> Self {
        let now = Instant::now();
        Self::with_start(setting, start(now))
    }

    pub(crate) fn with_start(setting: Setting, start: Start) -> Self {
        let words = Arc::new(Words::default());
        let protocol = Arc::new(Postgres::with_analyst(words.clone()));
        Self::of(protocol, words, setting, start)
    }

    /// Another session of the same gateway, whose client has logged in and read everything.
    pub(crate) fn neighbour(&self) -> Self {
        let (protocol, words) = (self.protocol.clone(), self.words.clone());
        let mut world = Self::of(protocol, words, self.setting.clone(), start(self.now));
        world.log_in();
        world.told();
        world.decided.clear();
        world
    }

    fn of(protocol: Arc<Postgres>, words: Arc<Words>, setting: Setting, start: Start) -> Self {
        let now = start.now;
        Self {
            machine: protocol.accept(start),
            protocol,
            words,
            target: FakeTarget::default(),
            setting,
            now,
            client_got: BytesMut::new(),
            events: Vec::new(),
            decided: Vec::new(),
            works: 0,
            rows: BTreeMap::new(),
            cancels: Vec::new(),
            cancelled_sessions: Vec::new(),
            withdrawn: Vec::new(),
            logins: Vec::new(),
            claims: Vec::new(),
            closed: None,
            is_open: false,
            cancel_key: Vec::new(),
            wants_client_tls: false,
            is_client_stalled: false,
            is_target_stalled: false,
            entries: 0,
            answered: BytesMut::new(),
            to_send: BytesMut::new(),
        }
    }

    /// A world in which the client has logged in and read everything.
    pub(crate) fn open(setting: Setting) -> Self {
        let mut world = Self::new(setting);
        world.log_in();
        world.told();
        world.target.log.clear();
        world.decided.clear();
        world
    }

    pub(crate) fn log_in(&mut self) {
        let minor = self.setting.minor;
        self.send(&startup(minor, &[("user", "ada"), ("database", "orders")]));
        self.send(&client::password("crl_token"));
        assert!(self.is_open, "the session did not open: {:?}", self.told());
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.settle();
    }

    /// Policy now masks these columns.
    pub(crate) fn mask(&mut self, columns: Vec<ColumnName>) {
        let rights = Rights { masked: columns.into(), ..Rights::default() };
        self.input(Input::RightsChanged(rights));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.to_send.extend_from_slice(bytes);
        self.settle();
    }

    pub(crate) fn later(&mut self, time: Duration) {
        self.now += time;
        while self.machine.next_deadline().is_some_and(|at| at <= self.now) {
            self.input(Input::DeadlinePassed);
            if self.closed.is_some() {
                break;
            }
        }
    }

    /// Moves bytes and carries out outputs until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        loop {
            while let Some(output) = self.machine.poll_output() {
                self.carry_out(output);
            }
            let moved = self.move_out() | self.move_in();
            if !moved {
                return;
            }
        }
    }

    fn move_out(&mut self) -> bool {
        let buffers = self.machine.buffers();
        let to_target = buffers.target_out.len();
        if to_target > 0 {
            let bytes = buffers.target_out.pending().to_vec();
            buffers.target_out.advance(to_target);
            let answer = self.target.receive(&bytes);
            self.answered.extend_from_slice(&answer);
        }
        if self.is_client_stalled {
            return to_target > 0;
        }
        let to_client = buffers_out(&mut *self.machine, &mut self.client_got);
        if to_client >= WRITE_BUFFER_BYTES_HIGH && self.closed.is_none() {
            self.machine.handle(Input::TargetReadable, self.now);
        }
        to_target + to_client > 0
    }

    fn move_in(&mut self) -> bool {
        if self.closed.is_some() {
            return false;
        }
        let wants = self.machine.wants();
        if wants.target && !self.is_target_stalled && !self.answered.is_empty() {
            let count = self.setting.chunk.min(self.answered.len());
            let chunk = self.answered.split_to(count);
            self.machine.buffers().target_in.extend_from_slice(&chunk);
            self.machine.handle(Input::TargetReadable, self.now);
            return true;
        }
        if wants.client && !self.to_send.is_empty() {
            let count = self.setting.chunk.min(self.to_send.len());
            let chunk = self.to_send.split_to(count);
            self.machine.buffers().client_in.extend_from_slice(&chunk);
            self.machine.handle(Input::ClientReadable, self.now);
            return true;
        }
        false
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::StartClientTls => self.wants_client_tls = true,
            Output::Admit(login) => {
                self.logins.push((login.target.clone(), login.database.clone()));
                self.claims.clone_from(&login.claims);
                let answer = if matches!(&login.proof, Proof::Token(token) if token.reveal() == "crl_token")
                {
                    Input::Admitted(Box::new(self.admission()))
                } else {
                    Input::Refused(Denial::new(DenialKind::Authentication, "no such token"))
                };
                self.machine.handle(answer, self.now);
            }
            Output::DialTarget => self.machine.handle(Input::TargetConnected, self.now),
            Output::StartTargetTls => {
                let input = Input::TargetTlsStarted { end_point: None };
                self.machine.handle(input, self.now);
            }
            Output::SessionOpened { cancel_key } => {
                self.is_open = true;
                self.cancel_key = cancel_key;
            }
            Output::Work(work) => {
                self.works += 1;
                let done = (work.0)();
                self.machine.handle(Input::Worked(done), self.now);
            }
            Output::Check(statement) => {
                let denial = statement.text.contains("forbidden").then(|| denial(&statement));
                self.machine.handle(Input::Checked(denial), self.now);
            }
            Output::Decide(statement) => {
                let decision = self.decide(&statement);
                self.decided.push(*statement);
                self.machine.handle(Input::Decided(decision), self.now);
            }
            Output::Withdraw(seq) => self.withdrawn.push(seq),
            Output::Record(event) => self.events.push(*event),
            Output::Rows { seq, rows } => drop(self.rows.insert(seq, rows)),
            Output::CancelTarget(bytes) => self.cancels.push(bytes),
            Output::CancelSession(key) => self.cancelled_sessions.push(key),
            Output::Close(reason) => self.closed = Some(reason),
        }
    }

    fn decide(&mut self, statement: &Statement) -> Decision {
        self.entries += 1;
        let receipt = Receipt::of_written_entry(self.entries);
        if statement.text.contains("forbidden") {
            return Decision::of(statement.seq, ruling(Verdict::Deny(denial(statement))), receipt);
        }
        if statement.text.contains("approve") {
            let notice = "approve it at https://gateway/".to_owned();
            return Decision::hold(statement.seq, approval(), notice, receipt).1;
        }
        self.permit(statement.seq)
    }

    pub(crate) fn permit(&mut self, seq: StatementSeq) -> Decision {
        self.entries += 1;
        let receipt = Receipt::of_written_entry(self.entries);
        Decision::of(seq, ruling(Verdict::Allow), receipt)
    }

    fn admission(&self) -> Admission {
        let classified: Arc<[ColumnName]> = Arc::from([ssn()]);
        let masked: Arc<[ColumnName]> =
            if self.setting.masked { classified.clone() } else { Arc::from([]) };
        Admission {
            session: SessionId::new("s-1").expect("an id"),
            target: TargetName::new("orders").expect("a name"),
            target_revision: 1,
            credential: Credential::password(
                "service",
                self.setting.password.map(|text| Secret::new(text.into())),
            ),
            database: Some("shop".into()),
            tls: self.setting.tls,
            is_target_local: self.setting.is_target_local,
            classified,
            rights: Rights { masked, may_run_unknown: self.setting.may_run_unknown },
            record_rows: self.setting.record_rows,
            cancel_secret: SECRET,
            options: Arc::default(),
            commands: Arc::default(),
            actor: Actor {
                principal: Principal::user(PrincipalName::new("ada@example.com").expect("a name")),
                sponsor: PrincipalName::new("ada@example.com").expect("a name"),
                groups: Vec::new(),
                run: None,
            },
        }
    }

    /// What the client was told since it last looked, one line for each message.
    pub(crate) fn told(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = client::next_line(&mut self.client_got) {
            lines.push(line);
        }
        lines
    }

    /// Codes with which statements were recorded as completed, and their rows.
    pub(crate) fn completed(&self) -> Vec<(String, Option<String>, u64)> {
        let completed = self.events.iter().filter_map(|event| match event {
            EventBody::StatementCompleted { code, tag, rows, .. } => {
                Some((code.clone(), tag.clone(), *rows))
            }
            _ => None,
        });
        completed.collect()
    }
}

fn buffers_out(machine: &mut dyn Machine, got: &mut BytesMut) -> usize {
    let out = &mut machine.buffers().client_out;
    let count = out.len();
    got.extend_from_slice(out);
    out.advance(count);
    count
}

pub(crate) fn approval() -> ApprovalId {
    ApprovalId::new("a-1").expect("an id")
}

fn ruling(verdict: Verdict) -> Ruling {
    Ruling {
        decision_id: "d-1".into(),
        verdict,
        rules: Arc::default(),
        policy_version: PolicyVersion(1),
    }
}

fn denial(statement: &Statement) -> Denial {
    let mut denial = Denial::new(DenialKind::Forbidden, "not for you");
    denial.rules = vec!["rule-1".into()];
    denial.position = statement.text.find("forbidden");
    denial.decision_id = Some("d-1".into());
    denial
}
