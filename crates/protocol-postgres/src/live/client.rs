//! What the client sends: one message after the other, each only when the one before is decided.

use std::borrow::Cow;
use std::sync::Arc;

use corral_gate::Harmless;
use corral_model::event::CloseReason;
use corral_model::limits;

use super::Live;
use super::pending::{Pending, Sender};
use super::task::{Step, Task, What};
use crate::analysis::outline;
use crate::codec::client::{decode_empty, decode_query};
use crate::codec::target::put_flush;
use crate::codec::{CodecError, Head, head};
use crate::deny::Refusal;
use crate::encoding;
use crate::link::{Ending, Link, drop_first};

impl Live {
    /// Looks at the client's messages until one has to wait, or none is whole.
    pub(super) fn pump_client(&mut self, link: &mut Link) -> Result<(), Ending> {
        while matches!(self.step, Step::Ready) && !self.copy.is_awaited {
            if self.queue.len() >= limits::PIPELINE_DEPTH_MAX {
                self.flush_full_queue(link);
                return Ok(());
            }
            if link.buffers.target_out.len() >= limits::WRITE_BUFFER_BYTES_HIGH {
                return Ok(());
            }
            if self.copy.owed > 0 {
                if link.buffers.client_in.is_empty() {
                    return Ok(());
                }
                self.pass_copy(link)?;
                continue;
            }
            let bytes = &link.buffers.client_in;
            let Some(head) = head(bytes).map_err(Ending::client_fault)? else { return Ok(()) };
            let is_long = head.frame_len > limits::WRITE_BUFFER_BYTES_HIGH;
            if head.tag == b'd' && self.copy.is_active && is_long && bytes.len() < head.frame_len {
                self.begin_long_copy(head, link)?;
                continue;
            }
            if head.frame_len > limits::CLIENT_MESSAGE_BYTES_MAX {
                return Err(Ending::with(
                    CloseReason::Protocol,
                    "54000",
                    format!(
                        "a message of {} bytes is larger than the limit of {} bytes",
                        head.frame_len,
                        limits::CLIENT_MESSAGE_BYTES_MAX
                    ),
                ));
            }
            if bytes.len() < head.frame_len {
                return Ok(());
            }
            if head.tag == b'X' && !self.queue.is_empty() {
                // What was sent ahead of the goodbye is answered first.
                return Ok(());
            }
            self.is_front_unsettled = self.is_unsettled(head, link);
            if self.is_front_unsettled {
                return Ok(());
            }
            if self.scope.is_masked() && self.transaction.is_idle() {
                self.keeper.begins(link.now);
            }
            self.read_message(head, link)?;
        }
        Ok(())
    }

    /// The target keeps answers back until it is asked for them: a client that waits for none
    /// would otherwise wait for ever.
    pub(super) fn flush_full_queue(&mut self, link: &mut Link) {
        if self.transaction.is_pipeline_open() && !self.has_flushed {
            link.tell_target(Harmless::Control, put_flush);
            self.has_flushed = true;
        }
    }

    fn read_message(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        if head.tag == b'X' {
            return Err(Ending::quiet(CloseReason::Client));
        }
        if self.copy.is_active {
            return self.read_copy_message(head, link);
        }
        if self.parsed.is_some() && !matches!(head.tag, b'B' | b'D' | b'H') {
            self.end_parsed(link);
        }
        if self.is_skipping && head.tag != b'S' {
            return if is_known(head.tag) {
                self.drop_front(head.frame_len, link);
                Ok(())
            } else {
                Err(unknown(head.tag))
            };
        }
        match head.tag {
            b'Q' => self.read_query(head, link),
            b'P' => self.read_parse(head, link),
            b'B' => self.read_bind(head, link),
            b'D' => self.read_describe(head, link),
            b'E' => self.read_execute(head, link),
            b'C' => self.read_close(head, link),
            b'S' => self.read_sync(head, link),
            b'H' => {
                decode_empty(front(link, head)).map_err(Ending::client_fault)?;
                self.forward_front(head, link);
                Ok(())
            }
            b'F' => self.read_call(head, link),
            // What is left of a COPY that the target has given up.
            b'd' | b'c' | b'f' => {
                self.drop_front(head.frame_len, link);
                Ok(())
            }
            tag => Err(unknown(tag)),
        }
    }

    fn read_query(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let text = decode_query(front(link, head)).map_err(Ending::client_fault)?;
        match self.readable(text) {
            Ok(None) => self.resolve(Box::new(Task::unread(What::Query, head.frame_len)), link),
            Ok(Some(text)) => {
                let task = match outline(&text) {
                    // Such a text is a new one each time: it is not looked for.
                    Some(outline) => {
                        let outline = self.texts.share(&outline);
                        let text = Arc::from(&*text);
                        Task { outline, ..Task::new(What::Query, text, head.frame_len) }
                    }
                    None => Task::new(What::Query, self.texts.share(&text), head.frame_len),
                };
                self.resolve(Box::new(task), link)
            }
            Err(refusal) => {
                self.refuse_query(refusal, head.frame_len, link);
                Ok(())
            }
        }
    }

    fn read_sync(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        decode_empty(front(link, head)).map_err(Ending::client_fault)?;
        self.forward_front(head, link);
        self.is_skipping = false;
        self.described = None;
        let is_in_block = self.transaction.is_in_block();
        let epoch = self.transaction.sync_sent();
        self.queue.push_back(Pending::Sync { sender: Sender::Client, epoch });
        if !is_in_block {
            self.keeper.transaction_may_end();
            // Triggers run at the commit.
            self.doubts.may_run_on(self.store.last_number());
        }
        Ok(())
    }

    /// A statement's text as the target will read it, if it may be looked at; None until it is known
    /// in which encoding the target reads it.
    pub(super) fn readable<'a>(&self, text: &'a [u8]) -> Result<Option<Cow<'a, str>>, Refusal> {
        if text.len() > limits::SQL_TEXT_BYTES_MAX {
            return Err(Refusal::own(
                "54000",
                format_args!(
                    "a statement of {} bytes is larger than the limit of {} bytes",
                    text.len(),
                    limits::SQL_TEXT_BYTES_MAX
                ),
            ));
        }
        // It means the same in every encoding.
        if text.is_ascii()
            && let Ok(text) = std::str::from_utf8(text)
        {
            return Ok(Some(Cow::Borrowed(text)));
        }
        if !self.keeper.is_foreign()
            && let Err(error) = std::str::from_utf8(text)
        {
            return Err(Refusal::own(
                "22021",
                format_args!("the statement is not UTF-8 at byte {}", error.valid_up_to() + 1),
            ));
        }
        let Some(names) = self.keeper.probed() else { return Ok(None) };
        let (client, server) = (names.session.client_encoding(), names.session.server_encoding());
        match encoding::decode(text, client, server) {
            Ok(text) => Ok(Some(text)),
            Err(why) => Err(Refusal::own("22021", why)),
        }
    }

    /// Takes the message at the front away without sending it.
    pub(super) fn drop_front(&mut self, frame_len: usize, link: &mut Link) {
        drop_first(&mut link.buffers.client_in, frame_len);
    }

    /// Sends a message that carries no statement as it is.
    pub(super) fn forward_front(&mut self, head: Head, link: &mut Link) {
        self.send_front(Harmless::Control, head.frame_len, link);
    }

    /// Sends the message at the front as it is, without a permit.
    pub(super) fn send_front(&mut self, why: Harmless, frame_len: usize, link: &mut Link) {
        link.send_harmless(why, frame_len);
    }
}

/// The whole message at the front.
pub(super) fn front(link: &Link, head: Head) -> &[u8] {
    link.buffers.client_in.get(..head.frame_len).unwrap_or_default()
}

fn is_known(tag: u8) -> bool {
    matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'F' | b'd' | b'c' | b'f')
}

fn unknown(tag: u8) -> Ending {
    Ending::client_fault(format_args!(
        "message type 0x{tag:02X} is not known ({})",
        CodecError::Value
    ))
}
