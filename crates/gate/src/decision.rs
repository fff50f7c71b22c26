//! Verdict plus receipt gives a decision; only a decision to allow holds a permit.

use std::sync::Arc;
use std::time::Duration;

use corral_model::ids::{ApprovalId, PolicyVersion, StatementSeq};

/// Proof by the recorder that an entry is in the record. Only the `record` crate (and test
/// doubles in `testkit`) makes one; `cargo xtask tidy` looks for other uses.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    entry_seq: u64,
}

impl Receipt {
    /// To be called right after the entry with this number was written.
    #[must_use]
    pub fn of_written_entry(entry_seq: u64) -> Self {
        Self { entry_seq }
    }

    #[must_use]
    pub fn entry_seq(&self) -> u64 {
        self.entry_seq
    }
}

/// Why somebody is refused, as the protocols translate it (CONTRACT section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialKind {
    /// No, wrong, expired or foreign token.
    Authentication,
    /// The right is missing.
    Forbidden,
    /// Too many sessions at once.
    TooManySessions,
    /// A budget of the run is spent.
    BudgetSpent,
    /// An approver said no.
    ApprovalDenied,
    /// No approver answered in time.
    ApprovalExpired,
    /// The client cancelled the statement while it waited.
    Withdrawn,
    /// The text or message is larger than a limit.
    TooLarge,
    /// The record cannot be written.
    RecordUnavailable,
    /// The target cannot be reached, or refuses the gateway.
    TargetUnavailable,
    /// The protocol has it, this version of the gateway does not.
    NotSupported,
    /// The client broke the protocol.
    Protocol,
    /// Killed, expired or offboarded: the connection ends.
    Ended,
    /// The gateway stops.
    Shutdown,
}

/// A refusal. The client reads `client_text` and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub kind: DenialKind,
    /// `@id`s of the rules that refused; empty when nothing permitted it.
    pub rules: Vec<String>,
    /// Without the `corral:` in front, which the protocol adds. Never a rule's pattern, an
    /// address or an internal error.
    pub client_text: String,
    /// For the log; may name internals.
    pub internal: Option<String>,
    /// Byte offset in the statement's text, where one is known.
    pub position: Option<usize>,
    /// Named to the client, so that a person can look it up with `corral policy explain`.
    pub decision_id: Option<String>,
}

impl Denial {
    #[must_use]
    pub fn new(kind: DenialKind, client_text: impl Into<String>) -> Self {
        Self {
            kind,
            rules: Vec::new(),
            client_text: client_text.into(),
            internal: None,
            position: None,
            decision_id: None,
        }
    }

    /// The whole sentence that a client reads.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = String::from("corral: ");
        if !self.rules.is_empty() {
            sentence.push_str(&self.rules.join(", "));
            sentence.push_str(": ");
        }
        sentence.push_str(&self.client_text);
        if let Some(id) = &self.decision_id {
            sentence.push_str(" (decision ");
            sentence.push_str(id);
            sentence.push(')');
        }
        sentence
    }
}

/// What must happen before a held statement may run: all terms, each by its own people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HoldTerm {
    /// The rule that holds.
    pub rule: String,
    /// Who may approve.
    pub group: String,
    /// How many different people.
    pub quorum: u32,
    pub reason: String,
    /// How long the client may wait, when the rule says so.
    pub expires_in: Option<Duration>,
}

/// What policy says of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny(Denial),
    Hold(Vec<HoldTerm>),
}

/// A verdict with what is needed to explain and record it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Unique; the client sees it in refusals.
    pub decision_id: String,
    pub verdict: Verdict,
    /// `@id`s of the rules that determined it.
    pub rules: Arc<[String]>,
    pub policy_version: PolicyVersion,
}

/// Leave to send one statement to the target. It cannot be copied, and is consumed when its
/// statement ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    seq: StatementSeq,
    decision_id: String,
    receipt: Receipt,
}

impl Permit {
    #[must_use]
    pub fn seq(&self) -> StatementSeq {
        self.seq
    }

    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.decision_id
    }

    /// The statement ended; gives the number of the entry that recorded its decision.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.receipt.entry_seq
    }
}

/// A statement that waits, as the protocol sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub seq: StatementSeq,
    pub approval: ApprovalId,
    /// What the waiting client is told: where to approve, by whom. Without `corral:` in front.
    pub notice: String,
}

/// A statement that waits, as the driver keeps it. It becomes a permit only through
/// [`Held::approve`].
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub seq: StatementSeq,
    pub approval: ApprovalId,
}

impl Held {
    /// Turns an approval into a decision. `ruling` is the policy asked again, right before the
    /// run, with the approved terms taken as satisfied: anything but `Allow` denies. `receipt` is
    /// of the entry that recorded it.
    #[must_use]
    pub fn approve(self, ruling: Ruling, receipt: Receipt) -> Decision {
        Decision::of(self.seq, ruling, receipt)
    }
}

/// What may happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Permit),
    Deny(Denial),
    Hold(Hold),
}

impl Decision {
    /// Makes a permit or a refusal of a ruling that was recorded. A ruling to hold needs the
    /// approval that was filed for it: see [`Decision::hold`].
    #[must_use]
    pub fn of(seq: StatementSeq, ruling: Ruling, receipt: Receipt) -> Self {
        match ruling.verdict {
            Verdict::Allow => Self::Allow(Permit { seq, decision_id: ruling.decision_id, receipt }),
            Verdict::Deny(mut denial) => {
                denial.decision_id = Some(ruling.decision_id);
                Self::Deny(denial)
            }
            Verdict::Hold(_) => Self::Deny(Denial::new(
                DenialKind::Forbidden,
                "this statement needs an approval, and none could be asked for",
            )),
        }
    }

    /// A recorded ruling to hold, with the approval that was filed for it: what the driver keeps,
    /// and what the protocol is told.
    #[must_use]
    pub fn hold(
        seq: StatementSeq,
        approval: ApprovalId,
        notice: String,
        _receipt: Receipt,
    ) -> (Held, Self) {
        let held = Held { seq, approval: approval.clone() };
        (held, Self::Hold(Hold { seq, approval, notice }))
    }

    #[must_use]
    pub fn deny(kind: DenialKind, client_text: impl Into<String>) -> Self {
        Self::Deny(Denial::new(kind, client_text))
    }
}
