//! The shape of a protocol: bytes in, bytes out, and questions to the driver.
//!
//! A machine never waits, never asks for the time and never opens anything. The driver
//! (`corral-session`) feeds it [`Input`]s, carries out its [`Output`]s in order, and after that
//! writes out the buffers. An output that needs an answer gets exactly one input back.

use std::any::Any;
use std::time::Instant;

use corral_model::Statement;
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{StatementSeq, TargetName};

use crate::buffers::Buffers;
use crate::decision::{Decision, Denial};
use crate::protocol::{Admission, Login, Proof, Protocol, Rights};

/// A protocol whose frames this project reads itself: one pure machine for each connection.
pub trait Framed: Protocol {
    /// The machine for a connection that was just accepted.
    fn accept(&self, start: Start) -> Box<dyn Machine>;
}

/// What is known when a connection is accepted.
#[derive(Debug, Clone)]
pub struct Start {
    pub now: Instant,
    /// Loopback or Unix socket: a password may come in clear.
    pub is_local: bool,
    /// TLS is already running (direct TLS).
    pub is_tls: bool,
    /// Whether the listener can do TLS.
    pub can_tls: bool,
    /// A dedicated listener's target, or the one that SNI named.
    pub target: Option<TargetName>,
    /// What was shown for the client before its first byte: it is asked for nothing more.
    pub shown: Option<Proof>,
}

/// A piece of work that needs a deep stack (parsing hostile text). The driver runs it on an
/// analysis thread and returns its result as [`Input::Worked`].
pub struct Work(pub Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>);

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work(…)")
    }
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input {
    /// `client_in` holds more bytes, or there is room again in `target_out`.
    ClientReadable,
    /// `target_in` holds more bytes, or there is room again in `client_out`.
    TargetReadable,
    /// The client will send no more.
    ClientClosed,
    /// The target will send no more.
    TargetClosed,
    /// TLS with the client is up.
    ClientTlsStarted,
    /// Answers [`Output::Admit`].
    Admitted(Box<Admission>),
    /// Answers [`Output::Admit`] or [`Output::DialTarget`]: tell the client and end.
    Refused(Denial),
    /// Answers [`Output::DialTarget`].
    TargetConnected,
    /// Answers [`Output::StartTargetTls`], with the certificate's `tls-server-end-point` hash
    /// (RFC 5929) for channel binding, where it could be computed.
    TargetTlsStarted { end_point: Option<Vec<u8>> },
    /// Answers [`Output::Work`].
    Worked(Box<dyn Any + Send>),
    /// Answers [`Output::Check`]: why preparing is refused, if it is.
    Checked(Option<Denial>),
    /// Answers [`Output::Decide`]; a second time, when a held statement was decided by people
    /// or its wait ended.
    Decided(Decision),
    /// Another connection asked, with this session's key, to cancel what runs.
    CancelAsked,
    /// Policy changed: this holds from the next statement on.
    RightsChanged(Rights),
    /// [`Machine::next_deadline`] has passed.
    DeadlinePassed,
    /// End now; tell the client why in the protocol's own way, and cancel what runs.
    End { reason: CloseReason, denial: Denial },
}

/// What a machine wants.
#[derive(Debug)]
pub enum Output {
    /// Write out `client_out`, then accept TLS on the client's connection.
    StartClientTls,
    /// Decide whether this client may in.
    Admit(Box<Login>),
    /// Connect to the admitted target.
    DialTarget,
    /// Write out `target_out`, then start TLS with the target.
    StartTargetTls,
    /// Login at the target succeeded: statements follow. No answer.
    ///
    /// `cancel_key`: what a client will show to cancel this session's statement; empty where the
    /// protocol has no such thing.
    SessionOpened { cancel_key: Vec<u8> },
    /// Run this on an analysis thread.
    Work(Work),
    /// Would this prepared statement be denied whatever its parameters? Only a denial is recorded.
    Check(Box<Statement>),
    /// Decide this statement and record the decision.
    Decide(Box<Statement>),
    /// The held statement is no longer wanted. No answer.
    Withdraw(StatementSeq),
    /// Record this; the buffers are written only after. No answer.
    Record(Box<EventBody>),
    /// This statement is not over, and so many of its rows went out up to now: they count. The
    /// record's [`EventBody::StatementCompleted`] has them, too. No answer.
    Rows { seq: StatementSeq, rows: u64 },
    /// Open another connection to the target and send exactly these bytes. No answer.
    CancelTarget(Vec<u8>),
    /// This connection only asks to cancel another one: the session that was opened with exactly
    /// this `cancel_key`. No answer.
    CancelSession(Vec<u8>),
    /// Write out `client_out` (and `target_out`) as far as they go, then close both.
    Close(CloseReason),
}

/// Whether the driver should read from a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    pub client: bool,
    pub target: bool,
}

/// A pure protocol, for one session.
pub trait Machine: Send {
    fn handle(&mut self, input: Input, now: Instant);

    /// The next thing to do; None when the machine waits for an input.
    fn poll_output(&mut self) -> Option<Output>;

    fn buffers(&mut self) -> &mut Buffers;

    /// Which sides may be read. Also false while a write buffer is above
    /// [`corral_model::limits::WRITE_BUFFER_BYTES_HIGH`] or an answer is awaited.
    fn wants(&self) -> Wants;

    /// When [`Input::DeadlinePassed`] is due.
    fn next_deadline(&self) -> Option<Instant>;
}
