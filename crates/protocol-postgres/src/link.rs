//! What a machine shares with its driver: the buffers, the things to do, and the time.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use corral_gate::{Buffers, Harmless, Output, Permit, shrink_idle};
use corral_model::event::CloseReason;

use crate::codec::server::{Report, Severity, put_report};

/// Buffers, outputs and the time of the last input.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) buffers: Buffers,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) now: Instant,
    /// For messages to the target that are made here; always empty between two calls.
    scratch: BytesMut,
    /// Bytes of a message to the client that have not arrived from the target yet. Until then no
    /// other message may be written to the client.
    pub(crate) client_owed: usize,
}

impl Link {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            buffers: Buffers::default(),
            outputs: VecDeque::new(),
            now,
            scratch: BytesMut::new(),
            client_owed: 0,
        }
    }

    pub(crate) fn ask(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Sends the client's message at the front, of this length, under its permit.
    pub(crate) fn send_permitted(&mut self, permit: &Permit, frame_len: usize) {
        let Buffers { client_in, target_out, .. } = &mut self.buffers;
        target_out.push(permit, first(client_in, frame_len));
        drop_first(client_in, frame_len);
    }

    /// Sends the client's message at the front, of this length, without a permit, and why.
    pub(crate) fn send_harmless(&mut self, why: Harmless, frame_len: usize) {
        let Buffers { client_in, target_out, .. } = &mut self.buffers;
        target_out.push_harmless(why, first(client_in, frame_len));
        drop_first(client_in, frame_len);
    }

    /// Gives the client what is at the front of the target's bytes.
    pub(crate) fn pass_to_client(&mut self, count: usize) {
        let Buffers { target_in, client_out, .. } = &mut self.buffers;
        client_out.extend_from_slice(first(target_in, count));
        drop_first(target_in, count);
    }

    /// Writes a message of the gateway's own to the target.
    pub(crate) fn tell_target(&mut self, why: Harmless, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.scratch);
        self.buffers.target_out.push_harmless(why, &self.scratch);
        self.scratch.clear();
        shrink_idle(&mut self.scratch);
    }

    /// Writes an error that ends the connection, where a message may stand, and closes.
    pub(crate) fn close_with(&mut self, ending: &Ending) {
        if let (Some(code), 0) = (ending.code, self.client_owed) {
            let report = Report {
                severity: Severity::Fatal,
                code,
                message: &ending.text,
                detail: None,
                position: None,
            };
            put_report(&mut self.buffers.client_out, &report);
        }
        self.ask(Output::Close(ending.reason));
    }
}

/// What is at the front of a buffer, or all of it.
fn first(buffer: &BytesMut, count: usize) -> &[u8] {
    buffer.get(..count).unwrap_or(buffer)
}

/// Takes it away. Unlike `split_to` this makes no second owner of the memory.
pub(crate) fn drop_first(buffer: &mut BytesMut, count: usize) {
    let count = count.min(buffer.len());
    buffer.advance(count);
}

/// Why a connection ends, and what its client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: CloseReason,
    /// SQLSTATE; None when nobody is there to read it.
    pub(crate) code: Option<&'static str>,
    pub(crate) text: String,
}

impl Ending {
    pub(crate) fn quiet(reason: CloseReason) -> Self {
        Self { reason, code: None, text: String::new() }
    }

    pub(crate) fn with(reason: CloseReason, code: &'static str, text: impl Into<String>) -> Self {
        Self { reason, code: Some(code), text: format!("corral: {}", text.into()) }
    }

    /// The client broke the protocol.
    pub(crate) fn client_fault(text: impl std::fmt::Display) -> Self {
        Self::with(CloseReason::Protocol, "08P01", text.to_string())
    }

    /// The target broke the protocol; what it said is for nobody.
    pub(crate) fn target_fault(what: &'static str) -> Self {
        Self::with(CloseReason::Protocol, "08P01", format!("the target broke the protocol: {what}"))
    }
}
