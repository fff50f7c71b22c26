//! What the target sends: each answer belongs to the front of the queue.

use corral_gate::Output;
use corral_model::event::CloseReason;
use corral_model::limits;

use super::pending::{Pending, Running, Sender, take_skipped};
use super::questions::{given_up, names_unknown};
use super::store::Store;
use super::{Live, finish, finish_with_rows};
use crate::analysis::StatementKind;
use crate::codec::answers::{decode_command_complete, decode_error_fields, decode_ready};
use crate::codec::server::put_reduced_error;
use crate::codec::{CodecError, Head, head};
use crate::conditions::condition;
use crate::link::{Ending, Link, drop_first};

/// Whether a frame's bytes go to the client as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    ToClient,
    Swallowed,
}

pub(super) fn broken(_: CodecError) -> Ending {
    Ending::target_fault("a message cannot be read")
}

impl Live {
    /// Reads what the target sent, as far as the client takes it.
    pub(super) fn pump_target(&mut self, link: &mut Link) -> Result<(), Ending> {
        loop {
            if link.client_owed > 0 && !pass_owed(link) {
                return Ok(());
            }
            if link.buffers.client_out.len() >= limits::WRITE_BUFFER_BYTES_HIGH {
                return Ok(());
            }
            let Some(head) = head(&link.buffers.target_in).map_err(broken)? else { return Ok(()) };
            if head.tag == b'D' && self.pass_raw_rows(link)? {
                continue;
            }
            if link.buffers.target_in.len() < head.frame_len {
                return self.begin_long_frame(head, link);
            }
            self.read_answer(head, link)?;
        }
    }

    /// A frame that has not arrived whole: streamed where nothing in it matters, else waited for.
    fn begin_long_frame(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let can_stream = match head.tag {
            b'D' => self.front_has_raw_rows()?,
            b'd' => self.queue.front().and_then(|front| front.running()).is_some(),
            _ => false,
        };
        let arrived = link.buffers.target_in.len();
        if can_stream {
            if let Some(running) = self.queue.front_mut().and_then(|front| front.running_mut()) {
                running.rows += u64::from(head.tag == b'D');
                running.is_copying_out = head.tag == b'd';
                running.bytes += head.frame_len as u64;
            }
            link.client_owed = head.frame_len;
            pass_owed(link);
            return Ok(());
        }
        if head.frame_len > limits::TARGET_MESSAGE_BYTES_MAX {
            return Err(Ending::with(
                CloseReason::Protocol,
                "54000",
                format!(
                    "an answer of {} bytes is larger than the limit of {} bytes",
                    head.frame_len,
                    limits::TARGET_MESSAGE_BYTES_MAX
                ),
            ));
        }
        link.buffers.target_in.reserve(head.frame_len - arrived);
        Ok(())
    }

    /// One whole answer at the front of the target's buffer.
    fn read_answer(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        match head.tag {
            b'D' => return self.read_row(head, link),
            b'E' => return self.read_error(head, link),
            b'N' => return self.read_notice(head, link),
            b'A' => return self.read_notification(head, link),
            b'S' => return self.read_parameter_status(head, link),
            b'T' => {
                self.looked_up();
                return self.read_row_description(head, link);
            }
            b'Z' => return self.read_ready(head, link),
            _ => {}
        }
        let passing = match (head.tag, self.queue.front()) {
            (b'1', Some(Pending::Parse { sender, .. }))
            | (b'2', Some(Pending::Bind { sender, .. })) => self.pop_for(*sender, link),
            (b'3', Some(Pending::Close { sender, is_last_of_question, .. })) => {
                let is_last = *is_last_of_question;
                let passing = self.pop_for(*sender, link);
                if is_last {
                    skip_frame(head, link);
                    return self.questions_answered(link);
                }
                passing
            }
            (b't', Some(Pending::DescribeStatement)) => Passing::ToClient,
            (b'n', Some(Pending::DescribeStatement)) => self.pop_for(Sender::Client, link),
            (b'n', Some(Pending::DescribePortal { sender, .. })) => {
                let passing = self.pop_for(*sender, link);
                self.layouts.current = None;
                passing
            }
            (b'C' | b'I', Some(_)) => self.read_complete(head, link)?,
            (b's', Some(Pending::Execute { .. })) => {
                self.suspend(link);
                Passing::ToClient
            }
            (b'G', Some(Pending::Execute { .. } | Pending::Query { running: Some(_), .. })) => {
                self.copy.is_awaited = false;
                self.copy.is_active = true;
                self.looked_up();
                self.drop_ignored_syncs();
                Passing::ToClient
            }
            (b'H', Some(front)) => {
                if !is_copy_foreseen(front.running())? {
                    return Err(self.trip("a COPY came that was not foreseen".into(), link));
                }
                self.looked_up();
                Passing::ToClient
            }
            (b'd', Some(_)) => self.count_copy_data(head)?,
            (b'V', Some(Pending::Query { running: Some(running), .. })) if running.is_call => {
                self.count_copy_data(head)?
            }
            (b'c', Some(Pending::Execute { .. } | Pending::Query { running: Some(_), .. })) => {
                Passing::ToClient
            }
            _ => return Err(Ending::target_fault("a message that no request asked for")),
        };
        pass_frame(head, passing, link);
        Ok(())
    }

    /// Takes the front of the queue away; says whether its sender reads the answer.
    fn pop_for(&mut self, sender: Sender, link: &mut Link) -> Passing {
        match self.queue.pop_front() {
            Some(
                Pending::Bind { undo: Some(undo), .. } | Pending::Close { undo: Some(undo), .. },
            ) => {
                for mut running in Store::done(*undo) {
                    finish_with_rows(&mut running, "00000", link);
                }
            }
            Some(Pending::Parse { running: Some(mut running), .. }) => {
                finish_with_rows(&mut running, "00000", link);
            }
            _ => {}
        }
        match sender {
            Sender::Client => Passing::ToClient,
            Sender::Gateway | Sender::Question => Passing::Swallowed,
        }
    }

    fn count_copy_data(&mut self, head: Head) -> Result<Passing, Ending> {
        match self.queue.front_mut().and_then(|front| front.running_mut()) {
            Some(running) => {
                running.bytes += head.frame_len as u64;
                running.is_copying_out = !running.is_call;
                Ok(Passing::ToClient)
            }
            None => Err(Ending::target_fault("COPY data that no request asked for")),
        }
    }

    /// While the target takes COPY data it ignores Sync: those that were sent have no answer.
    fn drop_ignored_syncs(&mut self) {
        while self.queue.get(1).is_some_and(Pending::is_sync) {
            self.queue.remove(1);
            // The client sends another one after its data.
            self.transaction.open_pipeline();
        }
    }

    /// CommandComplete or EmptyQueryResponse.
    fn read_complete(&mut self, head: Head, link: &mut Link) -> Result<Passing, Ending> {
        let frame = link.buffers.target_in.get(..head.frame_len).unwrap_or_default();
        let tag = match head.tag {
            b'C' => Some(decode_command_complete(frame).map_err(broken)?.to_owned()),
            _ => None,
        };
        let is_in_block = self.transaction.is_in_block();
        if tag.as_deref().is_some_and(|tag| has_committed(tag, is_in_block)) {
            self.keeper.committed();
        }
        match self.queue.front_mut() {
            Some(Pending::Ask(_)) => Ok(self.pop_for(Sender::Question, link)),
            Some(Pending::Execute { .. }) => {
                if let Some(Pending::Execute { mut running, portal, number }) =
                    self.queue.pop_front()
                {
                    completed(&mut running, tag);
                    finish_with_rows(&mut running, "00000", link);
                    // Executed ahead of its own suspension.
                    let portal = self.store.same_portal_mut(&portal, number);
                    if let Some(mut before) = portal.and_then(|portal| portal.suspended.take()) {
                        finish_with_rows(&mut before, "00000", link);
                    }
                }
                self.layouts.current = None;
                Ok(Passing::ToClient)
            }
            Some(Pending::Query { running: slot @ Some(_), .. }) => {
                self.layouts.current = None;
                let is_only = slot.as_ref().is_some_and(|run| run.analysis.kinds.len() <= 1);
                if let Some(running) = slot {
                    completed(running, tag);
                    running.plan = None;
                    if is_only {
                        // With several statements, ReadyForQuery tells that this was the last.
                        self.sql.answered(&running.analysis, running.permit.seq(), false);
                        finish_with_rows(running, "00000", link);
                        *slot = None;
                    }
                }
                Ok(Passing::ToClient)
            }
            _ => Err(Ending::target_fault("a completion that no request asked for")),
        }
    }

    /// PortalSuspended: the permit stays with the portal, unless the name is another one's by now:
    /// a permit is for its own statement only.
    fn suspend(&mut self, link: &mut Link) {
        self.layouts.current = None;
        let Some(Pending::Execute { portal, number, mut running }) = self.queue.pop_front() else {
            return;
        };
        // Nobody can tell when it goes on.
        link.ask(Output::Rows { seq: running.permit.seq(), rows: running.rows });
        // What goes on later takes its turn again.
        running.using = None;
        let before = match self.store.same_portal_mut(&portal, number) {
            Some(portal) => portal.suspended.replace(running),
            None => Some(running),
        };
        if let Some(mut before) = before {
            finish_with_rows(&mut before, "00000", link);
        }
    }

    fn read_ready(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let frame = link.buffers.target_in.get(..head.frame_len).unwrap_or_default();
        let status = decode_ready(frame).map_err(broken)?;
        let (sender, epoch) = match self.queue.pop_front() {
            Some(Pending::Sync { sender, epoch }) => (sender, epoch),
            Some(Pending::Query { running, epoch, stand_in }) => {
                if stand_in.is_some() {
                    return Err(Ending::target_fault("what had to fail did not"));
                }
                if let Some(mut running) = running {
                    finish_with_rows(&mut running, "00000", link);
                }
                self.copy.is_awaited = self.awaits_copy();
                (Sender::Client, epoch)
            }
            _ => return Err(Ending::target_fault("it is ready before everything is answered")),
        };
        self.copy.is_active = false;
        self.layouts.current = None;
        self.transaction.answered(epoch, status);
        if status == b'I' {
            for mut running in self.store.end_transaction(epoch) {
                finish_with_rows(&mut running, "00000", link);
            }
            self.keeper.transaction_ended(epoch);
            // Others read the catalogue again by now, and then go on.
            self.turn.ended(!self.keeper.changes_objects());
            self.sql.transaction_ended(epoch);
            self.cursors.transaction_ended(epoch);
            self.doubts.transaction_ended(epoch);
        } else if status == b'E' {
            self.turn.ended(false);
        }
        match sender {
            Sender::Client => pass_frame(head, Passing::ToClient, link),
            Sender::Gateway => pass_frame(head, Passing::Swallowed, link),
            Sender::Question => {
                pass_frame(head, Passing::Swallowed, link);
                self.questions_answered(link)?;
            }
        }
        Ok(())
    }

    fn read_error(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let frame = link.buffers.target_in.split_to(head.frame_len);
        let fields = decode_error_fields(&frame).map_err(broken)?;
        if matches!(fields.severity, "FATAL" | "PANIC") {
            if self.is_open() {
                self.put_error(&frame, link)?;
                return Err(Ending::quiet(CloseReason::Target));
            }
            return Err(self.opening_failed().unwrap_or(Ending::quiet(CloseReason::Target)));
        }
        self.copy.is_active = false;
        self.layouts.current = None;
        let result = self.fail_front(&frame, fields.code, link);
        self.copy.is_awaited = self.awaits_copy();
        result
    }

    /// The error is the answer to the front of the queue.
    fn fail_front(&mut self, frame: &[u8], code: &str, link: &mut Link) -> Result<(), Ending> {
        match self.queue.front_mut() {
            None => self.put_error(frame, link),
            // A commit that a Sync asked for failed.
            Some(Pending::Sync { sender, .. }) => match sender {
                Sender::Client => self.put_error(frame, link),
                Sender::Gateway | Sender::Question => Ok(()),
            },
            Some(Pending::Query { running, stand_in, .. }) => {
                if let Some(mut running) = running.take() {
                    self.sql.answered(&running.analysis, running.permit.seq(), true);
                    finish_with_rows(&mut running, code, link);
                }
                match stand_in.take() {
                    Some(refusal) => {
                        self.say(&refusal, link);
                        Ok(())
                    }
                    None => self.put_error(frame, link),
                }
            }
            Some(_) => self.fail_pipeline(frame, code, link),
        }
    }

    /// An error in the extended protocol: the target skips up to the next Sync.
    fn fail_pipeline(&mut self, frame: &[u8], code: &str, link: &mut Link) -> Result<(), Ending> {
        self.end_parsed(link);
        let failed = self.queue.front().is_some_and(Pending::is_question);
        let given_up = if failed {
            given_up(code, decode_error_fields(frame).map_err(broken)?.message)
        } else {
            None
        };
        let unbound = match self.queue.front() {
            Some(Pending::Bind { number, .. }) => Some(*number),
            _ => None,
        };
        let skipped = take_skipped(&mut self.queue);
        let mut refusal = None;
        let is_first_last = skipped.len().saturating_sub(1);
        for (index, pending) in skipped.into_iter().rev().enumerate() {
            let is_front = index == is_first_last;
            // What could not be bound did not run for that reason.
            let is_unbound =
                matches!(&pending, Pending::Execute { number, .. } if Some(*number) == unbound);
            let code = if is_front || is_unbound { code } else { "25P02" };
            refusal = self.unmake(pending, code, link);
        }
        let is_sync_of_question = self.queue.front().is_some_and(Pending::is_question);
        if failed && is_sync_of_question {
            self.keeper.rows.has_failed = true;
            self.keeper.rows.given_up = given_up;
            return Ok(());
        }
        if self.queue.is_empty() {
            self.pipeline_failed(link);
        }
        match refusal {
            Some(refusal) => self.say(&refusal, link),
            None if failed => self.say(&names_unknown(given_up), link),
            None => self.put_error(frame, link)?,
        }
        Ok(())
    }

    /// Takes back what a failed or skipped message did here. Gives the refusal that it stood for.
    fn unmake(
        &mut self,
        pending: Pending,
        code: &str,
        link: &mut Link,
    ) -> Option<Box<crate::deny::Refusal>> {
        match pending {
            Pending::Parse { undo, running: Some(mut running), .. } => {
                finish_with_rows(&mut running, code, link);
                self.unmake(
                    Pending::Parse { sender: Sender::Client, undo, running: None, using: None },
                    code,
                    link,
                )
            }
            Pending::Parse { undo, running: None, .. }
            | Pending::Bind { undo, .. }
            | Pending::Close { undo, .. } => {
                if let Some(undo) = undo {
                    for mut running in self.take_back(*undo) {
                        finish_with_rows(&mut running, code, link);
                    }
                }
                None
            }
            Pending::Execute { mut running, .. } => {
                finish_with_rows(&mut running, code, link);
                None
            }
            Pending::Query { running, .. } => {
                if let Some(running) = running {
                    finish(&running, code, link);
                }
                None
            }
            Pending::Refused(refusal) => Some(refusal),
            Pending::DescribeStatement
            | Pending::DescribePortal { .. }
            | Pending::Ask(_)
            | Pending::Sync { .. } => None,
        }
    }

    /// An error of the target's: whole, or reduced where masks are in force.
    fn put_error(&self, frame: &[u8], link: &mut Link) -> Result<(), Ending> {
        if !self.scope.is_masked() {
            link.buffers.client_out.extend_from_slice(frame);
            return Ok(());
        }
        let fields = decode_error_fields(frame).map_err(broken)?;
        let severity = match fields.severity {
            "FATAL" => "FATAL",
            "PANIC" => "PANIC",
            _ => "ERROR",
        };
        let known = condition(fields.code).unwrap_or(("XX000", "internal_error"));
        let position =
            fields.position.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        put_reduced_error(&mut link.buffers.client_out, severity, known, position);
        Ok(())
    }

    /// The result is not what was foreseen: nothing of it goes out, and the session ends.
    pub(super) fn trip(&self, detail: String, link: &mut Link) -> Ending {
        let running = self.queue.front().and_then(|front| front.running());
        let seq = running.map_or(corral_model::ids::StatementSeq(self.seq), |run| run.permit.seq());
        link.ask(Output::Record(Box::new(corral_model::event::EventBody::SessionTripped {
            seq_in_session: seq,
            detail,
        })));
        Ending::with(
            CloseReason::Tripwire,
            "42501",
            "masking: the result is not what the analysis foresaw; the session ends",
        )
    }
}

/// Whether what ended with this tag may have ended a transaction before ReadyForQuery tells so.
/// Procedures do, and DETACH PARTITION CONCURRENTLY, but not in a transaction block.
fn has_committed(tag: &str, is_in_block: bool) -> bool {
    tag.starts_with("COMMIT") || (!is_in_block && matches!(tag, "ALTER TABLE" | "CALL" | "DO"))
}

/// Whether a stream of COPY data to the client is what the analysis saw, where masks are in force.
fn is_copy_foreseen(running: Option<&Running>) -> Result<bool, Ending> {
    let Some(running) = running else {
        return Err(Ending::target_fault("a COPY that no request asked for"));
    };
    let is_foreseen = running.analysis.kinds.contains(&StatementKind::CopyOut);
    Ok(is_foreseen || !running.scope.is_masked())
}

/// Sends the client what it is owed of a long frame. False when not all of it has arrived.
fn pass_owed(link: &mut Link) -> bool {
    let count = link.client_owed.min(link.buffers.target_in.len());
    link.pass_to_client(count);
    link.client_owed -= count;
    link.client_owed == 0
}

pub(super) fn pass_frame(head: Head, passing: Passing, link: &mut Link) {
    match passing {
        Passing::ToClient => link.pass_to_client(head.frame_len),
        Passing::Swallowed => drop_first(&mut link.buffers.target_in, head.frame_len),
    }
}

fn skip_frame(head: Head, link: &mut Link) {
    pass_frame(head, Passing::Swallowed, link);
}

/// The target says that a statement is done. A row of COPY is not a message of its own: its head
/// and its end are too.
fn completed(running: &mut Running, tag: Option<String>) {
    if std::mem::take(&mut running.is_copying_out) {
        let count = tag.as_deref().and_then(|tag| tag.strip_prefix("COPY "));
        running.rows += count.and_then(|count| count.parse().ok()).unwrap_or(0_u64);
    }
    running.tag = tag;
}
