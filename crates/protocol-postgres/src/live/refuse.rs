//! Refusing a message so that order, pipelining and transaction state stay PostgreSQL's own.
//!
//! Where nothing is open at the target, the client is answered at once. Otherwise something that
//! must fail is sent in the message's place, and its error becomes the refusal.

use corral_gate::Harmless;

use super::Live;
use super::pending::Pending;
use super::task::{Task, What};
use crate::codec::server::put_ready;
use crate::codec::target::{put_query, put_refused_parse};
use crate::deny::Refusal;
use crate::link::Link;

impl Live {
    /// Refuses the message that a task is about.
    pub(super) fn refuse(&mut self, task: &Task, refusal: Refusal, link: &mut Link) {
        match task.what {
            What::Open => {}
            What::Query => self.refuse_query(refusal, task.frame_len, link),
            What::Parse { .. } | What::Bind(_) | What::Execute { .. } => {
                self.refuse_extended(refusal, task.frame_len, link);
            }
        }
    }

    fn can_answer_alone(&self, link: &Link) -> bool {
        self.queue.is_empty() && self.transaction.is_idle() && link.client_owed == 0
    }

    /// Refuses a message that the target would answer with ReadyForQuery at its end.
    pub(super) fn refuse_query(&mut self, refusal: Refusal, frame_len: usize, link: &mut Link) {
        self.drop_front(frame_len, link);
        if self.can_answer_alone(link) {
            refusal.put(&mut link.buffers.client_out);
            put_ready(&mut link.buffers.client_out, b'I');
            return;
        }
        let poison = refusal.poison();
        link.tell_target(Harmless::Poison, |out| put_query(out, &poison));
        let epoch = self.transaction.next_epoch();
        self.queue.push_back(Pending::Query {
            running: None,
            stand_in: Some(Box::new(refusal)),
            epoch,
        });
    }

    /// Refuses a message of the extended protocol; what follows is skipped up to the Sync.
    pub(super) fn refuse_extended(&mut self, refusal: Refusal, frame_len: usize, link: &mut Link) {
        self.drop_front(frame_len, link);
        self.is_skipping = true;
        if self.can_answer_alone(link) {
            refusal.put(&mut link.buffers.client_out);
            return;
        }
        let poison = refusal.poison();
        link.tell_target(Harmless::Poison, |out| put_refused_parse(out, &poison));
        self.open_pipeline();
        self.queue.push_back(Pending::Refused(Box::new(refusal)));
    }

    /// The message in work is skipped because the pipeline that it is in has failed.
    pub(super) fn skip(&mut self, task: &Task, link: &mut Link) {
        debug_assert!(!matches!(task.what, What::Open), "opening is in no pipeline");
        self.drop_front(task.frame_len, link);
    }
}
