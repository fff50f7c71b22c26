//! Ids of traces and spans. They follow from the ids of runs and sessions, so that every gateway,
//! also after a restart, names the same run in the same way.

use aws_lc_rs::digest::{SHA256, digest};
use corral_model::ids::{RunId, SessionId, StatementSeq};

/// Bytes of a trace's id.
const TRACE_LEN: usize = 16;
/// Bytes of a span's id.
const SPAN_LEN: usize = 8;

pub(crate) type TraceId = [u8; TRACE_LEN];
pub(crate) type SpanId = [u8; SPAN_LEN];

/// Everything below one root run is one trace.
pub(crate) fn trace_of_run(root: &RunId) -> TraceId {
    cut(&format!("trace run {root}"))
}

/// A session of nobody's run is a trace of its own.
pub(crate) fn trace_of_session(session: &SessionId) -> TraceId {
    cut(&format!("trace session {session}"))
}

pub(crate) fn span_of_run(run: &RunId) -> SpanId {
    cut(&format!("span run {run}"))
}

pub(crate) fn span_of_session(session: &SessionId) -> SpanId {
    cut(&format!("span session {session}"))
}

pub(crate) fn span_of_statement(session: &SessionId, seq: StatementSeq) -> SpanId {
    cut(&format!("span statement {session} {}", seq.0))
}

/// A refusal of nobody's run is a trace of its own.
pub(crate) fn trace_of_refusal(refusal: &str) -> TraceId {
    cut(&format!("trace refusal {refusal}"))
}

pub(crate) fn span_of_refusal(refusal: &str) -> SpanId {
    cut(&format!("span refusal {refusal}"))
}

/// The first bytes of SHA-256; an id of zeros is none in the standard.
fn cut<const LEN: usize>(name: &str) -> [u8; LEN] {
    let mut id = [0; LEN];
    for (byte, from) in id.iter_mut().zip(digest(&SHA256, name.as_bytes()).as_ref()) {
        *byte = *from;
    }
    if id.iter().all(|byte| *byte == 0) { [1; LEN] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thing_has_an_id_of_its_own_which_stays() {
        let run = RunId::new("r_1").expect("an id");
        let session = SessionId::new("r_1").expect("an id");
        assert_eq!(span_of_run(&run), span_of_run(&run));
        let spans = [
            span_of_run(&run),
            span_of_session(&session),
            span_of_statement(&session, StatementSeq(1)),
            span_of_statement(&session, StatementSeq(2)),
        ];
        for (index, span) in spans.iter().enumerate() {
            assert!(!spans[..index].contains(span), "{index}");
        }
        assert_ne!(trace_of_run(&run), trace_of_session(&session));
    }
}
