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
            What::Query | What::Call { .. } => self.refuse_query(refusal, task.frame_len, link),
            What::Parse { .. } | What::Bind(_) | What::Execute { .. } => {
                self.refuse_extended(refusal, task.frame_len, link);
            }
        }
    }

    /// Tells the client; in ASCII where it may read something else than UTF-8.
    pub(super) fn say(&self, refusal: &Refusal, link: &mut Link) {
        if self.keeper.is_foreign() {
            let message = plain(&refusal.message);
            let detail = refusal.detail.as_deref().map(plain);
            Refusal { message, detail, ..refusal.clone() }.put(&mut link.buffers.client_out);
        } else {
            refusal.put(&mut link.buffers.client_out);
        }
    }

    fn can_answer_alone(&self, link: &Link) -> bool {
        self.queue.is_empty() && self.transaction.is_idle() && link.client_owed == 0
    }

    /// Refuses a message that the target would answer with ReadyForQuery at its end.
    pub(super) fn refuse_query(&mut self, refusal: Refusal, frame_len: usize, link: &mut Link) {
        self.drop_front(frame_len, link);
        if self.can_answer_alone(link) {
            self.say(&refusal, link);
            put_ready(&mut link.buffers.client_out, b'I');
            return;
        }
        let poison = refusal.poison();
        link.tell_target(Harmless::Poison, |out| put_query(out, &poison));
        let epoch = self.transaction.query_sent();
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
            self.say(&refusal, link);
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

/// The text with a question mark for each letter outside ASCII.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect()
}
