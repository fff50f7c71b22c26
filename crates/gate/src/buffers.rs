//! The four buffers of a session. Bytes reach the target's only by a permit or as a named
//! harmless message.

use bytes::{Buf, Bytes, BytesMut};
use corral_model::limits::IDLE_BUFFER_BYTES_KEPT;

use crate::decision::Permit;

/// Bytes of the protocol that carry no statement of the client's. Every use is a place to review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harmless {
    /// Negotiation and login with the gateway's own credential.
    Login,
    /// Flush, Sync, Close, Describe, Terminate: they act on what was permitted before.
    Control,
    /// The gateway's own fixed questions: the catalogue, the search path.
    Probe,
    /// A fixed text that must fail, in a denied statement's place.
    Poison,
    /// A prepared statement's text, checked but not yet run; running it needs a permit.
    Preparation,
}

/// Bytes on their way to the target.
#[derive(Debug, Default)]
pub struct TargetBuffer {
    bytes: BytesMut,
}

impl TargetBuffer {
    /// Adds a permitted statement's bytes.
    pub fn push(&mut self, _permit: &Permit, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds bytes that need no permit, and why.
    pub fn push_harmless(&mut self, _why: Harmless, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is to be written.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes
    }

    /// The first `count` bytes were written.
    pub fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// Everything that is to be written, without copying it.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives memory back when nothing waits.
    pub fn shrink_idle(&mut self) {
        shrink_idle(&mut self.bytes);
    }
}

/// Gives an empty buffer's memory back, unless it is at most [`IDLE_BUFFER_BYTES_KEPT`].
pub fn shrink_idle(buffer: &mut BytesMut) {
    // Its capacity says nothing: what was read from the front does not count, and is reclaimed.
    if buffer.is_empty() && buffer.try_reclaim(IDLE_BUFFER_BYTES_KEPT + 1) {
        *buffer = BytesMut::new();
    }
}

/// A session's buffers. The driver reads into the `_in` ones and writes from the `_out` ones; the
/// machine does the opposite.
#[derive(Debug, Default)]
pub struct Buffers {
    pub client_in: BytesMut,
    pub client_out: BytesMut,
    pub target_in: BytesMut,
    pub target_out: TargetBuffer,
}

impl Buffers {
    /// Gives the memory of empty buffers back: a session that waits holds none.
    pub fn shrink_idle(&mut self) {
        shrink_idle(&mut self.client_in);
        shrink_idle(&mut self.client_out);
        shrink_idle(&mut self.target_in);
        self.target_out.shrink_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_empty_buffer_holds_is_given_back() {
        let mut large = BytesMut::zeroed(IDLE_BUFFER_BYTES_KEPT + 1);
        shrink_idle(&mut large);
        assert_eq!(large.len(), IDLE_BUFFER_BYTES_KEPT + 1, "what waits stays");
        large.advance(IDLE_BUFFER_BYTES_KEPT + 1);
        shrink_idle(&mut large);
        assert!(!large.try_reclaim(1), "nothing is held any more");

        let mut small = BytesMut::with_capacity(IDLE_BUFFER_BYTES_KEPT);
        small.extend_from_slice(b"x");
        small.advance(1);
        shrink_idle(&mut small);
        assert!(small.try_reclaim(IDLE_BUFFER_BYTES_KEPT), "a small buffer is kept");
    }
}
