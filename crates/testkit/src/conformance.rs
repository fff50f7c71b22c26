//! What every protocol must do, as one list of checks against a real target.
//!
//! A protocol's test implements [`Dialect`] and calls [`check_all`].

use std::time::Duration;

use corral_gate::{Admission, Denial, DenialKind, Framed, Input};
use corral_model::Statement;
use corral_model::event::{CloseReason, EventBody};
use corral_model::limits::LOGIN_DEADLINE;

use crate::rig::{Judge, Rig, Say};

/// Marks the statement that a check is about; it stands in no other bytes.
pub const MARK: &str = "marked_by_the_test";

/// How a protocol looks from outside.
pub trait Dialect {
    fn protocol(&self) -> &dyn Framed;
    /// `host:port` of a real target.
    fn address(&self) -> String;
    fn admission(&self) -> Admission;
    /// The client's messages up to a ready session, one after the other's answer.
    fn login(&self) -> Vec<Vec<u8>>;
    /// A statement that reads nothing but a constant.
    fn statement(&self, constant: &str) -> Vec<u8>;
    /// The client's goodbye.
    fn goodbye(&self) -> Vec<u8>;
    /// Whether these bytes to the client end with an answer after which the next may be sent.
    fn is_answered(&self) -> fn(&[u8]) -> bool;
    /// The text of a refusal in these bytes to the client.
    fn refusal(&self, client_out: &[u8]) -> Option<String>;
}

/// Runs every check.
///
/// # Panics
/// When one fails; its name is in the backtrace.
pub fn check_all(dialect: &dyn Dialect) {
    an_allowed_statement_is_answered(dialect);
    a_denied_statement_never_reaches_the_target(dialect);
    a_statement_waits_for_its_decision(dialect);
    a_held_statement_runs_when_it_is_approved(dialect);
    a_held_statement_is_refused_when_it_is_not_approved(dialect);
    a_client_that_leaves_withdraws_its_request(dialect);
    every_split_of_the_bytes_gives_the_same_answer(dialect);
    a_goodbye_closes_the_session(dialect);
    a_half_closed_client_ends_the_session(dialect);
    a_lost_target_ends_the_session(dialect);
    an_ended_session_tells_its_client(dialect);
    a_client_that_never_speaks_meets_a_deadline(dialect);
}

fn by_mark(statement: &Statement, marked: Say) -> Say {
    if statement.text.contains(MARK) { marked } else { Say::Allow }
}

fn open(dialect: &dyn Dialect, judge: Judge) -> Rig {
    let admission = dialect.admission();
    let mut rig = Rig::new(dialect.protocol(), &dialect.address(), admission, judge);
    for bytes in dialect.login() {
        rig.client_sends(&bytes);
        if rig.client_out.is_empty() {
            rig.settle();
        }
    }
    let answer = rig.read_until(dialect.is_answered());
    assert_eq!(rig.closed, None, "the login ends the session: {answer:?}");
    rig
}

fn ask(dialect: &dyn Dialect, rig: &mut Rig, constant: &str) -> Vec<u8> {
    rig.client_sends(&dialect.statement(constant));
    rig.read_until(dialect.is_answered())
}

fn target_saw(rig: &Rig, text: &str) -> bool {
    contains(&rig.target_out, text)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn assert_goes_on(dialect: &dyn Dialect, rig: &mut Rig) {
    let answer = ask(dialect, rig, "the next one");
    assert!(contains(&answer, "the next one"), "the session does not go on");
}

fn an_allowed_statement_is_answered(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |_| Say::Allow);
    let answer = ask(dialect, &mut rig, MARK);
    assert!(contains(&answer, MARK));
    let statement = rig.statements.last().expect("it was decided");
    assert!(statement.text.contains(MARK));
    let is_complete = |event: &EventBody| matches!(event, EventBody::StatementCompleted { .. });
    assert!(rig.events.iter().any(is_complete), "its end is recorded");
}

fn a_denied_statement_never_reaches_the_target(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |statement| by_mark(statement, Say::Deny));
    let answer = ask(dialect, &mut rig, MARK);
    let refusal = dialect.refusal(&answer).expect("the client reads a refusal");
    assert!(refusal.starts_with("corral:") && refusal.contains("the test says no"), "{refusal}");
    assert!(refusal.contains("decision-"), "{refusal}");
    assert!(!target_saw(&rig, MARK));
    assert_goes_on(dialect, &mut rig);
}

fn a_statement_waits_for_its_decision(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |statement| by_mark(statement, Say::Nothing));
    rig.client_sends(&dialect.statement(MARK));
    rig.settle();
    assert!(!target_saw(&rig, MARK) && rig.client_out.is_empty());
    rig.resolve(Say::Allow);
    let answer = rig.read_until(dialect.is_answered());
    assert!(contains(&answer, MARK));
}

fn a_held_statement_runs_when_it_is_approved(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |statement| by_mark(statement, Say::Hold));
    rig.client_sends(&dialect.statement(MARK));
    rig.settle();
    assert!(!target_saw(&rig, MARK), "nothing runs before it is approved");
    assert!(!dialect.is_answered()(&rig.client_out));
    rig.resolve(Say::Allow);
    let answer = rig.read_until(dialect.is_answered());
    assert!(contains(&answer, MARK));
    assert_goes_on(dialect, &mut rig);
}

fn a_held_statement_is_refused_when_it_is_not_approved(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |statement| by_mark(statement, Say::Hold));
    rig.client_sends(&dialect.statement(MARK));
    rig.settle();
    rig.resolve(Say::Deny);
    let answer = rig.read_until(dialect.is_answered());
    assert!(dialect.refusal(&answer).is_some());
    assert!(!target_saw(&rig, MARK));
    assert_goes_on(dialect, &mut rig);
}

fn a_client_that_leaves_withdraws_its_request(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |statement| by_mark(statement, Say::Hold));
    rig.client_sends(&dialect.statement(MARK));
    rig.settle();
    rig.tell(Input::ClientClosed);
    rig.settle();
    assert!(rig.closed.is_some() && !target_saw(&rig, MARK));
}

fn every_split_of_the_bytes_gives_the_same_answer(dialect: &dyn Dialect) {
    let whole = ask(dialect, &mut open(dialect, |_| Say::Allow), MARK);
    let bytes = dialect.statement(MARK);
    let mut rig = open(dialect, |_| Say::Allow);
    for at in 1..bytes.len() {
        let (first, second) = bytes.split_at(at);
        rig.client_sends(first);
        rig.client_sends(second);
        assert_eq!(rig.read_until(dialect.is_answered()), whole, "split at {at}");
    }
    for byte in &bytes {
        rig.client_sends(std::slice::from_ref(byte));
    }
    assert_eq!(rig.read_until(dialect.is_answered()), whole, "byte by byte");
}

fn a_goodbye_closes_the_session(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |_| Say::Allow);
    rig.client_sends(&dialect.goodbye());
    rig.settle();
    assert_eq!(rig.closed, Some(CloseReason::Client));
}

fn a_half_closed_client_ends_the_session(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |_| Say::Allow);
    rig.tell(Input::ClientClosed);
    rig.settle();
    assert_eq!(rig.closed, Some(CloseReason::Client));
}

fn a_lost_target_ends_the_session(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |_| Say::Allow);
    rig.target_breaks();
    assert_eq!(rig.closed, Some(CloseReason::Target));
}

fn an_ended_session_tells_its_client(dialect: &dyn Dialect) {
    let mut rig = open(dialect, |_| Say::Allow);
    let denial = Denial::new(DenialKind::Ended, "somebody ended this session");
    rig.tell(Input::End { reason: CloseReason::Killed, denial });
    rig.settle();
    let refusal = dialect.refusal(&rig.client_out).expect("the client reads why");
    assert!(refusal.contains("somebody ended this session"), "{refusal}");
    assert_eq!(rig.closed, Some(CloseReason::Killed));
}

fn a_client_that_never_speaks_meets_a_deadline(dialect: &dyn Dialect) {
    let admission = dialect.admission();
    let mut rig = Rig::new(dialect.protocol(), &dialect.address(), admission, |_| Say::Allow);
    rig.wait(LOGIN_DEADLINE + Duration::from_millis(1));
    assert!(rig.closed.is_some());
    assert!(rig.target_out.is_empty());
}
