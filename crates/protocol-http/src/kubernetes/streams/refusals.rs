//! Refused streams, for a short time: client-go answers any refusal of a WebSocket by asking
//! again over SPDY, on another connection, and shows its user only what it is told then.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corral_gate::Denial;
use corral_session::HttpBody;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::target::Refused;
use crate::http_parts::bodies::full;
use crate::kubernetes::status::{code_of, status_json};

/// Refusals kept at once; the oldest is forgotten.
const KEPT_MAX: usize = 256;
/// How long a client may take to ask again.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Who asked for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    pub(crate) fn new(token: &[u8; 32], target: &str, path_and_query: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(token);
        for part in [target, path_and_query] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredAnswer {
    pub(crate) code: StatusCode,
    /// A Status as JSON, or what the target said instead.
    body: Bytes,
    content_type: HeaderValue,
}

impl StoredAnswer {
    pub(crate) fn of_denial(denial: &Denial) -> Self {
        let (code, reason) = code_of(denial.kind);
        let body = status_json(code, reason, &denial.sentence()).into();
        Self { code, body, content_type: HeaderValue::from_static("application/json") }
    }

    pub(crate) fn of_refused(refused: &Refused) -> Self {
        match refused {
            Refused::Denied(denial) => Self::of_denial(denial),
            Refused::ByTarget { code, body, content_type } => {
                Self { code: *code, body: body.clone(), content_type: content_type.clone() }
            }
        }
    }

    pub(crate) fn response(self) -> Response<HttpBody> {
        let mut response = Response::new(full(self.body));
        *response.status_mut() = self.code;
        response.headers_mut().insert(CONTENT_TYPE, self.content_type);
        response
    }
}

/// The refusals of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    kept: Mutex<VecDeque<(Key, Instant, StoredAnswer)>>,
}

impl Refusals {
    pub(crate) fn keep(&self, key: Key, answer: StoredAnswer) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, since, _)| *other != key && since.elapsed() < AGE_MAX);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((key, Instant::now(), answer));
    }

    /// What this client was told when it asked for the same a moment ago; once.
    pub(crate) fn take(&self, key: &Key) -> Option<StoredAnswer> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, since, _)| since.elapsed() < AGE_MAX);
        let index = kept.iter().position(|(other, _, _)| other == key)?;
        kept.remove(index).map(|(_, _, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_gate::DenialKind;

    /// Two tokens.
    const T: [u8; 32] = [1; 32];
    const U: [u8; 32] = [2; 32];

    #[test]
    fn a_refusal_is_told_once_to_whom_it_was_told() {
        let refusals = Refusals::default();
        let key = Key::new(&T, "k", "/exec?command=ls");
        let answer = StoredAnswer::of_denial(&Denial::new(DenialKind::Forbidden, "no"));
        refusals.keep(key.clone(), answer.clone());
        assert_eq!(refusals.take(&Key::new(&U, "k", "/exec?command=ls")), None);
        assert_eq!(refusals.take(&Key::new(&T, "k/", "exec?command=ls")), None);
        assert_eq!(refusals.take(&key), Some(answer));
        assert_eq!(refusals.take(&key), None);
    }

    #[test]
    fn refusals_are_bounded() {
        let refusals = Refusals::default();
        let answer = StoredAnswer::of_denial(&Denial::new(DenialKind::Forbidden, "no"));
        for number in 0..2 * KEPT_MAX {
            refusals.keep(Key::new(&T, "k", &number.to_string()), answer.clone());
        }
        assert_eq!(refusals.take(&Key::new(&T, "k", "0")), None);
        assert_eq!(refusals.kept.lock().expect("is whole").len(), KEPT_MAX);
    }
}
