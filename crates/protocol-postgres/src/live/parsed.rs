//! What the target may run while it parses. A literal is made a value then, and a type of a user's
//! brings its own code along. So a Parse whose text has a literal, and the effect `unknown`, goes
//! out under a permit; the Bind that follows it runs under the same one.

use std::sync::Arc;

use corral_model::Effect;
use corral_model::statement::Parameter;

use super::extended::bound_parameters;
use super::pending::{Pending, Running, Sender};
use super::task::Analysed;
use super::{Live, finish_with_rows};
use crate::analysis::Analysis;
use crate::codec::client::decode_bind;
use crate::codec::head;
use crate::link::Link;

/// The permit of the Parse that was sent last, up to the message after it that is no Bind of its
/// statement, no Describe and no Flush.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) statement: String,
    /// Those that it was decided with.
    pub(crate) parameters: Arc<[Parameter]>,
    pub(crate) analysed: Arc<Analysed>,
    pub(crate) running: Box<Running>,
}

/// Whether parsing this text at the target may call code that nobody knows.
pub(super) fn runs_when_parsed(analysis: &Analysis, text: &str) -> bool {
    analysis.facts.effects.contains(Effect::Unknown) && may_have_literal(text)
}

/// Whether the text may have something in quotes: `'` in all its forms, or dollars. Numbers and
/// words are made values of PostgreSQL's own types first, and converted when the statement runs.
fn may_have_literal(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.contains(&b'\'')
        || bytes.windows(2).any(|pair| matches!(pair, [b'$', next] if !next.is_ascii_digit()))
}

/// The parameters of the Bind of this statement that has arrived behind the Parse at the front, so
/// that both are decided at once. None when another message is there, or nothing yet.
pub(super) fn parameters_ahead(
    link: &Link,
    frame_len: usize,
    statement: &str,
    types: &[u32],
) -> Arc<[Parameter]> {
    let ahead = link.buffers.client_in.get(frame_len..).unwrap_or_default();
    let Ok(Some(found)) = head(ahead) else { return Arc::default() };
    let frame = ahead.get(..found.frame_len).filter(|_| found.tag == b'B');
    match frame.map(decode_bind) {
        Some(Ok(bind)) if bind.statement == statement => bound_parameters(&bind.values, types),
        _ => Arc::default(),
    }
}

impl Live {
    /// The permit under which this statement was parsed, if it holds for its Bind as well.
    pub(super) fn take_parsed(
        &mut self,
        statement: &str,
        parameters: &[Parameter],
    ) -> Option<Box<Parsed>> {
        let scope_version = self.scope.version;
        self.parsed.take_if(|parsed| {
            parsed.statement == statement
                && *parsed.parameters == *parameters
                && parsed.analysed.scope_version == scope_version
        })
    }

    /// No Bind will use the permit of the last Parse: it ends with the target's answer to it.
    pub(super) fn end_parsed(&mut self, link: &mut Link) {
        let Some(parsed) = self.parsed.take() else { return };
        let mut ended = parsed.running;
        let unanswered = self.queue.iter_mut().rev().find_map(|pending| match pending {
            Pending::Parse { sender: Sender::Client, running, .. } => Some(running),
            _ => None,
        });
        match unanswered {
            Some(running) => *running = Some(ended),
            None => finish_with_rows(&mut ended, "00000", link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_every_kind_are_seen() {
        for text in ["select '{5}'::d", "select E'\\x'", "select $$1$$::d", "select $a$1$a$::d"] {
            assert!(may_have_literal(text), "{text}");
        }
        for text in ["select f($1, 5, true, null)", "call p()", "select \"a\""] {
            assert!(!may_have_literal(text), "{text}");
        }
    }
}
