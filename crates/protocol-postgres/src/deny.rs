//! Refusals as PostgreSQL errors (CONTRACT section 6).

use bytes::BytesMut;
use corral_gate::{Denial, DenialKind};

use crate::analysis::{Analysis, SQL_MAJOR_VERSION};
use crate::codec::server::{Report, Severity, put_report};

/// The SQLSTATE that a client reads for a refusal.
pub(crate) fn sqlstate(kind: DenialKind) -> &'static str {
    match kind {
        DenialKind::Authentication => "28P01",
        DenialKind::Forbidden | DenialKind::ApprovalDenied => "42501",
        DenialKind::TooManySessions => "53300",
        DenialKind::BudgetSpent => "53400",
        DenialKind::ApprovalExpired | DenialKind::Withdrawn => "57014",
        DenialKind::TooLarge => "54000",
        DenialKind::RecordUnavailable => "58030",
        DenialKind::TargetUnavailable => "08006",
        DenialKind::NotSupported => "0A000",
        DenialKind::Protocol => "08P01",
        DenialKind::Ended | DenialKind::Shutdown => "57P01",
    }
}

/// The error that stands in a refused statement's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    /// In characters, from 1.
    pub(crate) position: Option<usize>,
    /// Named to the target in the text that must fail, so that its log can be matched.
    pub(crate) decision_id: Option<String>,
}

impl Refusal {
    /// A refusal by the gate. `text` is the statement, for the position.
    pub(crate) fn of(denial: &Denial, text: &str) -> Self {
        let position = denial.position.and_then(|offset| position_in_characters(text, offset));
        Self {
            code: sqlstate(denial.kind),
            message: denial.sentence(),
            detail: None,
            position,
            decision_id: denial.decision_id.clone(),
        }
    }

    /// Says why the parser could not read the text, where that is why nothing permitted it. It
    /// quotes the client's own text, and nothing else.
    pub(crate) fn with_parse_error(mut self, analysis: Option<&Analysis>) -> Self {
        self.detail = analysis
            // An obstacle has the reason in its own sentence.
            .filter(|analysis| analysis.facts.obstacle.is_none())
            .and_then(|analysis| analysis.parse_error.as_ref())
            .map(|why| format!("{why}; SQL is read as PostgreSQL {SQL_MAJOR_VERSION} reads it"));
        self
    }

    /// A refusal that PostgreSQL itself would give.
    pub(crate) fn as_postgres(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, position: None, decision_id: None }
    }

    /// A refusal by the wire, without a decision.
    pub(crate) fn own(code: &'static str, text: impl std::fmt::Display) -> Self {
        Self::as_postgres(code, format!("corral: {text}"))
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        let report = Report {
            severity: Severity::Error,
            code: self.code,
            message: &self.message,
            detail: self.detail.as_deref(),
            position: self.position,
        };
        put_report(out, &report);
    }

    /// A text that no PostgreSQL can parse.
    pub(crate) fn poison(&self) -> String {
        let id = self.decision_id.as_deref().unwrap_or("none");
        let safe: String =
            id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
        format!("corral refused \"{safe}.\"")
    }
}

fn position_in_characters(text: &str, offset: usize) -> Option<usize> {
    text.get(..offset).map(|before| before.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_counted_in_characters() {
        let mut denial = Denial::new(DenialKind::Forbidden, "no");
        denial.position = Some(9);
        assert_eq!(Refusal::of(&denial, "select é from x").position, Some(9));
        denial.position = Some(8);
        assert_eq!(Refusal::of(&denial, "select é from x").position, None);
        denial.position = Some(800);
        assert_eq!(Refusal::of(&denial, "select 1").position, None);
    }

    #[test]
    fn poison_holds_nothing_but_the_decision() {
        let mut denial = Denial::new(DenialKind::Forbidden, "no");
        denial.decision_id = Some("d\"; drop table x; --".into());
        assert_eq!(Refusal::of(&denial, "").poison(), "corral refused \"ddroptablex--.\"");
    }
}
