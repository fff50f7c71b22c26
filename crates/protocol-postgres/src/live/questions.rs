//! The gateway's own questions to the target, in the client's conversation: what the catalogue
//! holds, and what names mean in this session.

use std::any::Any;

use corral_gate::machine::Work;
use corral_gate::{Harmless, Output};
use corral_model::limits;

use super::Live;
use super::names::Need;
use super::pending::{Pending, Question, Sender, Setting};
use super::resolve::Done;
use super::task::{Step, Task, What};
use crate::analysis::catalogue::{LOAD_SQL, SESSION_SQL, TEMPORARY_SQL};
use crate::codec::client::Named;
use crate::codec::target::{AnswerIn, put_flush, put_question, put_sync};
use crate::deny::Refusal;
use crate::link::{Ending, Link};
use crate::target_login::unavailable;

/// Where a client made plans dear (`enable_seqscan = off`), or a catalogue is large, the target would
/// compile the questions, which takes seconds. It holds up to the Sync that ends them, and is asked
/// for only before a question that reads tables.
const PLAINLY_SQL: &str = "SELECT pg_catalog.set_config('jit', 'off', true)";

/// The same where a transaction of the client's may be open, which must go on as it was: a setting
/// of the gateway's own keeps what `AS_BEFORE_SQL` puts back. Neither outlives the transaction, and
/// a failed question fails it, as it takes both back.
const PLAINLY_WITHIN_SQL: &str = "SELECT pg_catalog.set_config('corral.jit', \
    pg_catalog.current_setting('jit'), true), pg_catalog.set_config('jit', 'off', true)";
const AS_BEFORE_SQL: &str = "SELECT pg_catalog.set_config('jit', \
    pg_catalog.current_setting('corral.jit'), true)";

/// Statements of SQL's PREPARE, in whatever function it was run. As wide as the other questions.
const PREPARED_SQL: &str = "SELECT p.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    FROM pg_catalog.pg_prepared_statements AS p WHERE p.from_sql";

/// A cancel, or `statement_timeout`.
const QUERY_CANCELED: &str = "57014";
const IN_FAILED_SQL_TRANSACTION: &str = "25P02";

impl Live {
    /// Asks, and lets the task wait for the answers.
    pub(super) fn ask_names(&mut self, need: Need, mut task: Box<Task>, link: &mut Link) {
        match need {
            Need::Newer => {
                self.give_up(&task, snapshot_too_old(), link);
                return;
            }
            Need::Others { look_at } => {
                task.look_at = Some(look_at);
                self.step = Step::ExpectOthers(task);
                return;
            }
            Need::Nothing | Need::Probe | Need::Catalogue => {}
        }
        self.keeper.asking(need);
        let catalogue = (need == Need::Catalogue).then_some(Question::Catalogue);
        let temporary = self.keeper.has_temporary().then_some(Question::Temporary);
        let is_doubtful = self.doubts.has_statements() && self.store.has_named_statement();
        let prepared = is_doubtful.then_some(Question::Prepared);
        if is_doubtful {
            self.keeper.rows.prepared = Some(Vec::new());
            self.doubts.asked();
        }
        let questions = [catalogue, Some(Question::Session), temporary, prepared];
        self.send_questions(questions.into_iter().flatten(), task, link);
    }

    /// Looks again for what another session asks.
    pub(super) fn look_again(&mut self, link: &mut Link) -> Result<(), Ending> {
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectOthers(task) if task.look_at.is_none_or(|at| at <= link.now) => {
                self.resolve(task, link)
            }
            step => {
                self.step = step;
                Ok(())
            }
        }
    }

    fn send_questions(
        &mut self,
        questions: impl Iterator<Item = Question>,
        task: Box<Task>,
        link: &mut Link,
    ) {
        let is_in_pipeline = self.transaction.is_pipeline_open();
        let is_idle = self.transaction.is_idle();
        let mut is_plain = false;
        for question in questions {
            let reads_tables = matches!(question, Question::Catalogue | Question::Temporary);
            if reads_tables && !is_plain {
                let plainly = if is_idle { Setting::Plainly } else { Setting::PlainlyWithin };
                self.send_question(Question::Set(plainly), link);
                is_plain = true;
            }
            self.send_question(question, link);
        }
        if is_plain && !is_idle {
            self.send_question(Question::Set(Setting::AsBefore), link);
        }
        if is_in_pipeline {
            if let Some(Pending::Close { is_last_of_question, .. }) = self.queue.back_mut() {
                *is_last_of_question = true;
            }
            link.tell_target(Harmless::Probe, put_flush);
        } else {
            link.tell_target(Harmless::Probe, put_sync);
            let epoch = self.transaction.sync_sent();
            self.queue.push_back(Pending::Sync { sender: Sender::Question, epoch });
        }
        self.step = Step::ExpectNames(task);
    }

    fn send_question(&mut self, question: Question, link: &mut Link) {
        let sender = Sender::Question;
        let close = || Pending::Close { sender, undo: None, is_last_of_question: false };
        let text = match question {
            Question::Set(Setting::Plainly) => PLAINLY_SQL,
            Question::Set(Setting::PlainlyWithin) => PLAINLY_WITHIN_SQL,
            Question::Set(Setting::AsBefore) => AS_BEFORE_SQL,
            Question::Catalogue => LOAD_SQL,
            Question::Session => SESSION_SQL,
            Question::Temporary => TEMPORARY_SQL,
            Question::Prepared => PREPARED_SQL,
        };
        let answer = match question {
            Question::Set(_) => AnswerIn::Session,
            _ if self.keeper.is_foreign() => AnswerIn::Utf8,
            _ => AnswerIn::Session,
        };
        link.tell_target(Harmless::Probe, |out| put_question(out, text, answer));
        self.queue.extend([
            close(),
            Pending::Parse { sender, undo: None, running: None, using: None },
            Pending::Bind { sender, number: 0, undo: None, using: None },
            Pending::Ask(question),
            close(),
            close(),
        ]);
    }

    /// The last answer has come.
    pub(super) fn questions_answered(&mut self, link: &mut Link) -> Result<(), Ending> {
        let task = match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectNames(task) => task,
            other => {
                self.step = other;
                return Ok(());
            }
        };
        if self.keeper.rows.has_failed {
            let given_up = self.keeper.rows.given_up.take();
            self.names_not_told();
            return self.names_failed(&task, given_up, link);
        }
        if self.keeper.lacks_temporary() {
            self.send_questions(std::iter::once(Question::Temporary), task, link);
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.keeper.rows);
        for row in rows.prepared.take().into_iter().flatten() {
            if let Some(Some(name)) = row.first() {
                self.store.forget(Named::Statement, Some(name));
            }
        }
        if rows.catalogue.is_some() {
            let analyst = self.analyst.clone();
            let work = Work(Box::new(move || {
                let read = rows.read(&*analyst).map(Box::new);
                let done: Box<dyn Any + Send> = Box::new(Done::Names(read));
                done
            }));
            link.ask(Output::Work(work));
            self.step = Step::ExpectWork(task);
            return Ok(());
        }
        let read = rows.read(&*self.analyst).map(Box::new);
        self.names_read(task, read, link)
    }

    /// The target did not answer the questions.
    pub(super) fn names_not_told(&mut self) {
        if self.keeper.rows.prepared.is_some() {
            self.doubts.failed();
        }
        self.keeper.failed();
    }

    /// Names cannot be told: the statement that needed them is refused.
    pub(super) fn names_failed(
        &mut self,
        task: &Task,
        given_up: Option<Refusal>,
        link: &mut Link,
    ) -> Result<(), Ending> {
        if matches!(task.what, What::Open) {
            return Err(unavailable("its catalogue cannot be read"));
        }
        let refusal = if given_up.is_none() && self.transaction.is_failed() {
            failed_transaction()
        } else {
            names_unknown(given_up)
        };
        self.give_up(task, refusal, link);
        Ok(())
    }
}

/// The refusal of a statement whose names cannot be told. Where the target gave the question up, it
/// did so in the statement's place, and the client hears that as it would without a gateway.
pub(super) fn names_unknown(given_up: Option<Refusal>) -> Refusal {
    given_up.unwrap_or_else(|| {
        Refusal::own(
            "08006",
            "what names mean at the target cannot be told: its catalogue cannot be read",
        )
    })
}

/// What the target says where it gives any statement up.
pub(super) fn given_up(code: &str, message: &str) -> Option<Refusal> {
    match code {
        QUERY_CANCELED => Some(Refusal::as_postgres(QUERY_CANCELED, message)),
        IN_FAILED_SQL_TRANSACTION => Some(failed_transaction()),
        _ => None,
    }
}

/// As one that PostgreSQL cannot serialize: what to do about it is the same.
fn snapshot_too_old() -> Refusal {
    let seconds = limits::CATALOGUE_AGE_MAX.as_secs();
    Refusal::own(
        "40001",
        format_args!(
            "what names mean by now cannot be read in this transaction: it keeps its snapshot \
             (REPEATABLE READ or SERIALIZABLE), columns are masked, and objects changed since, or \
             {seconds} s have passed; roll back and try again, or use READ COMMITTED"
        ),
    )
}

/// As PostgreSQL says it.
pub(super) fn failed_transaction() -> Refusal {
    Refusal::as_postgres(
        IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_about_statements_has_the_columns_that_an_answer_in_utf8_names() {
        let columns = PREPARED_SQL.split(" FROM ").next().unwrap_or_default();
        assert_eq!(columns.matches(',').count() + 1, ('a'..='h').count());
    }
}
