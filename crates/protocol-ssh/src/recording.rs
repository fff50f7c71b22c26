//! The account of one end of a stream: what passed, in pieces, without known secrets, and the
//! digest and size of all of it.

use aws_lc_rs::digest::{Context, Digest, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_gate::blank::{Blanker, Secrets};
use corral_model::event::{EventBody, StreamData, StreamEnd};
use corral_model::ids::StatementSeq;
use corral_model::limits;
use corral_session::{SessionHandle, Usage};

/// What is kept of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Everything,
    /// How many bytes.
    Count,
}

/// One end's account.
pub(crate) struct Recording {
    session: SessionHandle,
    seq: StatementSeq,
    from: StreamEnd,
    kept: Kept,
    blanker: Blanker,
    /// The start of a character whose rest has not come.
    partial: Vec<u8>,
    recorded: u64,
    bytes: u64,
    digest: Context,
}

/// How much passed, and the digest of it.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
}

impl Recording {
    pub(crate) fn new(
        session: SessionHandle,
        seq: StatementSeq,
        from: StreamEnd,
        kept: Kept,
        secrets: Secrets,
    ) -> Self {
        Self {
            session,
            seq,
            from,
            kept,
            blanker: Blanker::new(secrets),
            partial: Vec::new(),
            recorded: 0,
            bytes: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// Accounts bytes that are about to pass. Past [`limits::STREAM_RECORD_BYTES_MAX`] only size
    /// and digest are kept.
    pub(crate) async fn pass(&mut self, bytes: &[u8]) {
        let count = bytes.len() as u64;
        self.bytes = self.bytes.saturating_add(count);
        self.session.count(match self.from {
            StreamEnd::Client => Usage { bytes_to_target: count, ..Usage::default() },
            StreamEnd::Target | StreamEnd::TargetError => {
                Usage { bytes_to_client: count, ..Usage::default() }
            }
        });
        match self.kept {
            Kept::Everything => self.digest.update(bytes),
            Kept::Count => return,
        }
        if self.recorded >= limits::STREAM_RECORD_BYTES_MAX {
            return;
        }
        self.recorded = self.recorded.saturating_add(count);
        let shown = self.blanker.pass(bytes);
        self.note(shown, Rest::MayCome).await;
    }

    /// Accounts a line that the gateway itself wrote to the client.
    pub(crate) async fn own_line(&mut self, line: &str) {
        self.note(line.as_bytes().to_vec(), Rest::MayCome).await;
    }

    /// Nothing more comes from this end.
    pub(crate) async fn finish(mut self) -> Passed {
        let kept = self.blanker.finish();
        self.note(kept, Rest::IsHere).await;
        Passed { bytes: self.bytes, digest: self.digest.finish() }
    }

    async fn note(&mut self, shown: Vec<u8>, rest: Rest) {
        let mut all = std::mem::take(&mut self.partial);
        all.extend(shown);
        if let Rest::MayCome = rest {
            self.partial = all.split_off(whole_characters(&all));
        }
        for piece in all.chunks(limits::STREAM_PIECE_BYTES_MAX) {
            let data = match std::str::from_utf8(piece) {
                Ok(text) => StreamData::Text(text.to_owned()),
                Err(_) => StreamData::Base64(STANDARD.encode(piece)),
            };
            let body = EventBody::StreamPassed { seq_in_session: self.seq, from: self.from, data };
            self.session.note(body).await;
        }
    }
}

enum Rest {
    MayCome,
    IsHere,
}

/// Length without a character at the end that is not whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => bytes.len(),
    }
}

/// One digest of a channel: of the digests of what the client sent, and of what the target sent
/// as output and as errors, in this order.
pub(crate) fn digest_of(client: Passed, target: Passed, target_error: Passed) -> String {
    let mut context = Context::new(&SHA256);
    for passed in [client, target, target_error] {
        context.update(passed.digest.as_ref());
    }
    hex(context.finish().as_ref())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_not_whole_waits_for_its_rest() {
        let check = |bytes: &[u8], expect: usize| assert_eq!(whole_characters(bytes), expect);
        check("grün".as_bytes(), 5);
        check(&"grün".as_bytes()[..3], 2);
        check(b"\xff\xfeab", 4);
        check(b"", 0);
    }
}
