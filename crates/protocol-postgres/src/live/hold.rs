//! Statements that wait for people, and what ends their wait from outside.

use corral_gate::Output;
use corral_gate::decision::Hold as Held;
use corral_model::limits;

use super::Live;
use super::refuse::plain;
use super::task::{Hold, Step, Task};
use crate::codec::server::{Report, Severity, put_report};
use crate::deny::Refusal;
use crate::link::Link;

impl Live {
    /// People have to decide: the client is told, and its next messages wait.
    pub(super) fn hold(&mut self, mut task: Box<Task>, held: Held, link: &mut Link) {
        // It takes its turn again once they have decided.
        task.using = None;
        task.defining = None;
        task.turn_since = None;
        if self.is_skipping {
            link.ask(Output::Withdraw(held.seq));
            self.skip(&task, link);
            return;
        }
        self.hasten_answers(link);
        let mut notice = held.notice;
        if !notice.starts_with("corral:") {
            notice.insert_str(0, "corral: ");
        }
        if self.transaction.is_in_transaction() {
            notice.push_str(
                "; it waits inside a transaction, whose locks are held until it is decided",
            );
        }
        if self.keeper.is_foreign() {
            notice = plain(&notice);
        }
        let hold = Hold { task, seq: held.seq, notice, next_notice: link.now };
        self.step = Step::Held(Box::new(hold));
        self.repeat_notice(link);
    }

    /// Tells a waiting client that it still waits.
    pub(super) fn repeat_notice(&mut self, link: &mut Link) {
        let Step::Held(hold) = &mut self.step else { return };
        if hold.next_notice > link.now {
            return;
        }
        hold.next_notice = link.now + limits::APPROVAL_NOTICE_INTERVAL;
        // A client that reads nothing is told nothing more.
        let is_full = link.buffers.client_out.len() >= limits::WRITE_BUFFER_BYTES_HIGH;
        if link.client_owed > 0 || is_full {
            return;
        }
        let report = Report {
            severity: Severity::Notice,
            code: "00000",
            message: &hold.notice,
            detail: None,
            position: None,
        };
        put_report(&mut link.buffers.client_out, &report);
    }

    /// Another connection asked to cancel what this one runs.
    pub(super) fn cancel_asked(&mut self, link: &mut Link) {
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Held(hold) => {
                link.ask(Output::Withdraw(hold.seq));
                let refusal =
                    Refusal::as_postgres("57014", "canceling statement due to user request");
                self.refuse(&hold.task, refusal, link);
            }
            Step::ExpectOthers(task) if task.is_message() => {
                let refusal =
                    Refusal::as_postgres("57014", "canceling statement due to user request");
                self.give_up(&task, refusal, link);
            }
            step => {
                self.step = step;
                if !self.queue.is_empty() {
                    self.cancel_target(link);
                }
            }
        }
    }

    /// A pipeline failed in front of the message in work.
    pub(super) fn pipeline_failed(&mut self, link: &mut Link) {
        self.is_skipping = true;
        self.copy.is_awaited = false;
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Held(hold) => {
                link.ask(Output::Withdraw(hold.seq));
                self.skip(&hold.task, link);
            }
            Step::ExpectNames(task) => {
                self.names_not_told();
                self.skip_unused(&task, link);
            }
            Step::ExpectOthers(task) => self.skip_unused(&task, link),
            // Their answers come, and find the pipeline failed.
            step => self.step = step,
        }
    }
}
