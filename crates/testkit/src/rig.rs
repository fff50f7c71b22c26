//! A machine under test: a client that the test plays, a target on a socket, and a gateway that
//! answers as the test says. No driver, no runtime; the clock stands in the test's hand.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_gate::machine::Start;
use corral_gate::{
    Admission, Decision, Denial, DenialKind, Framed, Input, Machine, Output, Receipt, Ruling,
    Verdict, Work,
};
use corral_model::Statement;
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{ApprovalId, PolicyVersion, StatementSeq};
use corral_model::limits::ANALYSIS_STACK_BYTES;

/// How long anything may take; two busy cores need a second for the slowest.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long one look at the target's socket waits.
const LOOK: Duration = Duration::from_millis(5);
/// Looks in which nothing happens, before a rig counts as quiet.
const QUIET_LOOKS: usize = 20;

/// What the gateway says to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    Allow,
    Deny,
    Hold,
    /// Nothing yet, as a recorder that stalls.
    Nothing,
}

/// Whether an admission is granted.
pub type Judge = fn(&Statement) -> Say;

/// One session without a driver.
pub struct Rig {
    machine: Box<dyn Machine>,
    address: String,
    admission: Admission,
    judge: Judge,
    target: Option<TcpStream>,
    now: Instant,
    held: Option<StatementSeq>,
    is_closed_by_target: bool,
    /// Everything that the client was sent and has not taken.
    pub client_out: Vec<u8>,
    /// Everything that was ever written to the target.
    pub target_out: Vec<u8>,
    pub events: Vec<EventBody>,
    pub statements: Vec<Statement>,
    /// Of statements that are not over: rows that count already.
    pub rows: BTreeMap<StatementSeq, u64>,
    pub withdrawn: Vec<StatementSeq>,
    /// Bytes for other connections that only cancel.
    pub cancels: Vec<Vec<u8>>,
    pub closed: Option<CloseReason>,
}

impl Rig {
    /// A connection that was just accepted on loopback.
    #[must_use]
    pub fn new(protocol: &dyn Framed, address: &str, admission: Admission, judge: Judge) -> Self {
        let now = Instant::now();
        let start =
            Start { now, is_local: true, is_tls: false, can_tls: false, target: None, shown: None };
        Self {
            machine: protocol.accept(start),
            address: address.to_owned(),
            admission,
            judge,
            target: None,
            now,
            held: None,
            is_closed_by_target: false,
            client_out: Vec::new(),
            target_out: Vec::new(),
            events: Vec::new(),
            statements: Vec::new(),
            rows: BTreeMap::new(),
            withdrawn: Vec::new(),
            cancels: Vec::new(),
            closed: None,
        }
    }

    /// The client sends these bytes in one piece.
    pub fn client_sends(&mut self, bytes: &[u8]) {
        self.machine.buffers().client_in.extend_from_slice(bytes);
        self.tell(Input::ClientReadable);
    }

    /// Something happens to the session.
    pub fn tell(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.carry_out();
    }

    /// People decided about the held statement.
    pub fn resolve(&mut self, say: Say) {
        if let Some(seq) = self.held.take() {
            let decision = self.decide(seq, say);
            self.tell(Input::Decided(decision));
        }
    }

    /// The target is gone.
    pub fn target_breaks(&mut self) {
        self.target = None;
        self.is_closed_by_target = true;
        self.tell(Input::TargetClosed);
    }

    /// Moves time on.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.tell(Input::DeadlinePassed);
        }
    }

    /// Reads from the target until the client's bytes satisfy `is_enough`, or the session ends;
    /// gives those bytes.
    ///
    /// # Panics
    /// When neither happens in time: the machine is stuck.
    pub fn read_until(&mut self, is_enough: fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + DEADLINE;
        while self.closed.is_none() && !is_enough(&self.client_out) {
            assert!(Instant::now() < deadline, "stuck; the client has {:?}", self.client_out);
            self.look_at_target();
        }
        std::mem::take(&mut self.client_out)
    }

    /// Reads from the target until nothing more happens.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && self.closed.is_none() {
            quiet = if self.look_at_target() { 0 } else { quiet + 1 };
        }
    }

    fn look_at_target(&mut self) -> bool {
        if !self.machine.wants().target {
            return false;
        }
        let Some(target) = &mut self.target else { return false };
        let mut chunk = [0_u8; 8192];
        match target.read(&mut chunk) {
            Ok(0) => {
                self.target_breaks();
                true
            }
            Ok(count) => {
                let bytes = chunk.get(..count).unwrap_or_default();
                self.machine.buffers().target_in.extend_from_slice(bytes);
                self.tell(Input::TargetReadable);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                false
            }
            Err(_) => {
                self.target_breaks();
                true
            }
        }
    }

    /// Carries out all outputs in order, then writes out the buffers, as the driver does.
    fn carry_out(&mut self) {
        let mut answers: VecDeque<Input> = VecDeque::new();
        loop {
            while let Some(output) = self.machine.poll_output() {
                self.write_out();
                answers.extend(self.answer(output));
                while let Some(answer) = answers.pop_front() {
                    self.machine.handle(answer, self.now);
                }
            }
            if !self.write_out() {
                return;
            }
            // There is room again.
            self.machine.handle(Input::TargetReadable, self.now);
            self.machine.handle(Input::ClientReadable, self.now);
        }
    }

    fn write_out(&mut self) -> bool {
        let buffers = self.machine.buffers();
        let for_client = buffers.client_out.split();
        let pending = buffers.target_out.pending().to_vec();
        buffers.target_out.advance(pending.len());
        self.client_out.extend_from_slice(&for_client);
        self.target_out.extend_from_slice(&pending);
        if let Some(target) = &mut self.target {
            // A target that is gone shows when it is read.
            let _ = target.write_all(&pending);
        }
        !for_client.is_empty() || !pending.is_empty()
    }

    fn answer(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::StartClientTls => Some(Input::ClientTlsStarted),
            Output::Admit(_) => Some(Input::Admitted(Box::new(self.admission.clone()))),
            Output::DialTarget => Some(self.dial()),
            Output::StartTargetTls => Some(Input::TargetTlsStarted { end_point: None }),
            Output::SessionOpened { .. } => None,
            Output::Work(work) => Some(Input::Worked(on_a_deep_stack(work))),
            Output::Check(_) => Some(Input::Checked(None)),
            Output::Decide(statement) => {
                let say = (self.judge)(&statement);
                let seq = statement.seq;
                self.statements.push(*statement);
                if matches!(say, Say::Hold | Say::Nothing) {
                    self.held = Some(seq);
                }
                (say != Say::Nothing).then(|| Input::Decided(self.decide(seq, say)))
            }
            Output::Withdraw(seq) => {
                self.withdrawn.push(seq);
                None
            }
            Output::Record(event) => {
                self.events.push(*event);
                None
            }
            Output::Rows { seq, rows } => {
                self.rows.insert(seq, rows);
                None
            }
            Output::CancelTarget(bytes) | Output::CancelSession(bytes) => {
                self.cancels.push(bytes);
                None
            }
            Output::Close(reason) => {
                self.closed = Some(reason);
                None
            }
        }
    }

    fn dial(&mut self) -> Input {
        let dialled = TcpStream::connect(&self.address).and_then(|stream| {
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match dialled {
            Ok(stream) => {
                self.target = Some(stream);
                Input::TargetConnected
            }
            Err(_) => Input::Refused(Denial::new(
                DenialKind::TargetUnavailable,
                "the target cannot be reached",
            )),
        }
    }

    fn decide(&self, seq: StatementSeq, say: Say) -> Decision {
        // The event that the recorder would have written is the next one.
        let receipt = Receipt::of_written_entry(self.events.len() as u64 + 1);
        let verdict = match say {
            Say::Allow => Verdict::Allow,
            Say::Hold => {
                let notice = "somebody must approve".to_owned();
                return match ApprovalId::new("approval-1") {
                    Ok(approval) => Decision::hold(seq, approval, notice, receipt).1,
                    Err(_) => Decision::deny(DenialKind::Forbidden, "no approval"),
                };
            }
            Say::Deny | Say::Nothing => {
                Verdict::Deny(Denial::new(DenialKind::Forbidden, "the test says no"))
            }
        };
        let ruling = Ruling {
            decision_id: format!("decision-{}", seq.0),
            verdict,
            rules: Arc::from(["test".to_owned()]),
            policy_version: PolicyVersion(1),
        };
        Decision::of(seq, ruling, receipt)
    }
}

fn on_a_deep_stack(work: Work) -> Box<dyn std::any::Any + Send> {
    let thread = std::thread::Builder::new().stack_size(ANALYSIS_STACK_BYTES).spawn(work.0);
    let result = thread.expect("the system gives a thread").join();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
