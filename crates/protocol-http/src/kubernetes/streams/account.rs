//! The account of one stream: what passed and how much, before it goes on.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_gate::Denial;
use corral_gate::blank::{Blanker, Secrets};
use corral_model::event::{EventBody, StreamData, StreamEnd};
use corral_model::ids::StatementSeq;
use corral_model::limits::{STREAM_PIECE_BYTES_MAX, STREAM_RECORD_BYTES_MAX};
use corral_session::{SessionHandle, Usage};

use super::relay::Ledger;

/// One end's part.
struct Part {
    from: StreamEnd,
    bytes: u64,
    digest: Context,
    blanker: Blanker,
}

impl Part {
    fn new(from: StreamEnd, secrets: &Secrets) -> Self {
        let blanker = Blanker::new(secrets.clone());
        Self { from, bytes: 0, digest: Context::new(&SHA256), blanker }
    }
}

/// Whether what passes is kept, or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Content,
    Count,
}

/// One direction's account.
pub(crate) struct Account {
    session: SessionHandle,
    seq: StatementSeq,
    keep: Keep,
    parts: Vec<Part>,
}

/// What an account came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) bytes: u64,
    /// Of the digests of its ends' bytes.
    pub(crate) digest: Vec<u8>,
}

impl Account {
    /// `secrets` stay out of the record; digests are of what passed.
    pub(crate) fn new(
        session: SessionHandle,
        seq: StatementSeq,
        keep: Keep,
        ends: &[StreamEnd],
        secrets: &Secrets,
    ) -> Self {
        let parts = ends.iter().map(|end| Part::new(*end, secrets)).collect();
        Self { session, seq, keep, parts }
    }

    /// Nothing more passes.
    pub(crate) async fn finish(self) -> Total {
        let Self { session, seq, parts, .. } = self;
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let mut digest = Vec::new();
        for mut part in parts {
            for body in pieces(seq, part.from, &part.blanker.finish()) {
                session.note(body).await;
            }
            digest.extend_from_slice(part.digest.finish().as_ref());
        }
        Total { bytes, digest }
    }
}

/// The events of what is recorded.
fn pieces(seq: StatementSeq, from: StreamEnd, shown: &[u8]) -> Vec<EventBody> {
    let event = |piece: &[u8]| {
        let data = match std::str::from_utf8(piece) {
            Ok(text) => StreamData::Text(text.to_owned()),
            Err(_) => StreamData::Base64(STANDARD.encode(piece)),
        };
        EventBody::StreamPassed { seq_in_session: seq, from, data }
    };
    shown.chunks(STREAM_PIECE_BYTES_MAX).map(event).collect()
}

impl Ledger for Account {
    /// Accounts bytes that are about to pass. Past [`STREAM_RECORD_BYTES_MAX`] of one end, only
    /// size and digest are kept. What may be the start of a secret is recorded with what comes
    /// next.
    ///
    /// # Errors
    /// A [`Denial`] when what a client sends cannot be recorded: it must not pass.
    async fn pass(&mut self, from: StreamEnd, bytes: &[u8]) -> Result<(), Denial> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.session.count(match from {
            StreamEnd::Client => Usage { bytes_to_target: count, ..Usage::default() },
            StreamEnd::Target | StreamEnd::TargetError => {
                Usage { bytes_to_client: count, ..Usage::default() }
            }
        });
        let Some(part) = self.parts.iter_mut().find(|part| part.from == from) else {
            return Ok(());
        };
        let recorded = part.bytes;
        part.bytes = part.bytes.saturating_add(count);
        part.digest.update(bytes);
        if self.keep == Keep::Count || recorded >= STREAM_RECORD_BYTES_MAX {
            return Ok(());
        }
        let shown = part.blanker.pass(bytes);
        for body in pieces(self.seq, from, &shown) {
            match from {
                // What it makes the target do must be in the record first.
                StreamEnd::Client => self.session.append(body).await?,
                StreamEnd::Target | StreamEnd::TargetError => self.session.note(body).await,
            }
        }
        Ok(())
    }

    async fn resized(&self, columns: u32, rows: u32) {
        let body = EventBody::TerminalResized { seq_in_session: self.seq, columns, rows };
        self.session.note(body).await;
    }
}

/// One digest of a stream: of the digests of its ends, in this order.
pub(crate) fn digest_of(totals: &[&Total]) -> String {
    let mut context = Context::new(&SHA256);
    totals.iter().for_each(|total| context.update(&total.digest));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
