//! An open watch ends when other fields are to be masked: what it sent before was sent under the
//! old mask, and the client is told to list again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use corral_session::scope::BoxFuture;
use corral_session::{HttpBody, HttpBodyError};
use http::StatusCode;
use hyper::body::{Body, Frame};

use super::body::{essence, write_envelope};
use super::status::status_json;
use super::wire::{Field, WireValue, write_bytes, write_field};

/// `metav1.StatusReasonExpired`: with code 410, the API's own word for "list again".
const REASON: &str = "Expired";
const MESSAGE: &str = "corral: other fields are masked since this watch began; list again";

/// Where one event of a watch ends and the next begins.
#[derive(Debug)]
pub(crate) enum Framing {
    /// JSON objects one after another.
    Json(JsonEvents),
    /// Each message behind its length, four bytes.
    Protobuf(LengthEvents),
    /// Nobody here can tell.
    Unknown,
}

impl Framing {
    pub(crate) fn of(content_type: &str) -> Self {
        match essence(content_type).as_str() {
            "application/json" => Self::Json(JsonEvents::default()),
            "application/vnd.kubernetes.protobuf" => Self::Protobuf(LengthEvents::default()),
            _ => Self::Unknown,
        }
    }

    fn pass(&mut self, piece: &[u8]) {
        match self {
            Self::Json(events) => events.pass(piece),
            Self::Protobuf(events) => events.pass(piece),
            Self::Unknown => {}
        }
    }

    /// The last event of the watch. None in the middle of another one.
    fn last_words(&self) -> Option<Vec<u8>> {
        match self {
            Self::Json(events) => events.is_between().then(json_event),
            Self::Protobuf(events) => events.is_between().then(protobuf_event),
            Self::Unknown => None,
        }
    }
}

/// Counts the brackets of JSON, outside of its texts.
#[derive(Debug, Default)]
pub(crate) struct JsonEvents {
    depth: u64,
    is_text: bool,
    is_escaped: bool,
}

impl JsonEvents {
    fn pass(&mut self, piece: &[u8]) {
        for byte in piece {
            match (self.is_text, self.is_escaped, byte) {
                (true, true, _) => self.is_escaped = false,
                (true, false, b'\\') => self.is_escaped = true,
                (_, false, b'"') => self.is_text = !self.is_text,
                (false, _, b'{' | b'[') => self.depth = self.depth.saturating_add(1),
                (false, _, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_between(&self) -> bool {
        self.depth == 0 && !self.is_text
    }
}

/// Counts the bytes that are missing of a message.
#[derive(Debug, Default)]
pub(crate) struct LengthEvents {
    /// The length that is being read.
    length: Vec<u8>,
    missing: usize,
}

impl LengthEvents {
    fn pass(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((first, after)) = rest.split_first() {
            if self.missing > 0 {
                let taken = self.missing.min(rest.len());
                self.missing -= taken;
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            self.length.push(*first);
            rest = after;
            if let Some(length) = self.length.first_chunk::<4>() {
                self.missing = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                self.length.clear();
            }
        }
    }

    fn is_between(&self) -> bool {
        self.missing == 0 && self.length.is_empty()
    }
}

fn json_event() -> Vec<u8> {
    let mut event = br#"{"type":"ERROR","object":"#.to_vec();
    event.extend(status_json(StatusCode::GONE, REASON, MESSAGE));
    event.extend(b"}\n");
    event
}

/// `WatchEvent { 1 type, 2 object { 1 raw: Status { 2 status, 3 message, 4 reason, 6 code } } }`.
fn protobuf_event() -> Vec<u8> {
    let mut status: Vec<u8> = Vec::new();
    write_bytes(&mut status, 1, b"");
    write_bytes(&mut status, 2, b"Failure");
    write_bytes(&mut status, 3, MESSAGE.as_bytes());
    write_bytes(&mut status, 4, REASON.as_bytes());
    let code = WireValue::Varint(u64::from(StatusCode::GONE.as_u16()));
    write_field(&mut status, Field { number: 6, value: code });
    let mut object: Vec<u8> = Vec::new();
    write_bytes(&mut object, 1, &write_envelope("v1", "Status", &status));
    let mut event: Vec<u8> = Vec::new();
    write_bytes(&mut event, 1, b"ERROR");
    write_bytes(&mut event, 2, &object);
    // A few hundred bytes.
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &event].concat()
}

/// A watch was cut in the middle of an event.
#[derive(Debug, thiserror::Error)]
#[error("other fields are masked since this watch began")]
struct Cut;

/// The answer to a watch, until something ends it.
pub(crate) struct WatchBody {
    body: HttpBody,
    framing: Framing,
    state: State,
}

enum State {
    Passing {
        ended: BoxFuture<'static, ()>,
        /// Accounts the end.
        account: BoxFuture<'static, ()>,
    },
    Ending {
        account: BoxFuture<'static, ()>,
    },
    Done,
}

impl WatchBody {
    /// `body` passes until `ended`; then `account` is run, and the client gets the last event.
    pub(crate) fn new(
        body: HttpBody,
        content_type: &str,
        ended: BoxFuture<'static, ()>,
        account: BoxFuture<'static, ()>,
    ) -> Self {
        let framing = Framing::of(content_type);
        Self { body, framing, state: State::Passing { ended, account } }
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = HttpBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpBodyError>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Ending { mut account } => {
                    if account.as_mut().poll(cx).is_pending() {
                        self.state = State::Ending { account };
                        return Poll::Pending;
                    }
                    let last = self.framing.last_words().map(|event| Frame::data(event.into()));
                    return Poll::Ready(Some(last.ok_or_else(|| HttpBodyError::from(Cut))));
                }
                State::Passing { mut ended, account } => {
                    // First: nothing more passes under the old mask.
                    if ended.as_mut().poll(cx).is_ready() {
                        self.state = State::Ending { account };
                        continue;
                    }
                    self.state = State::Passing { ended, account };
                    let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
                    if let Some(Ok(frame)) = &frame
                        && let Some(data) = frame.data_ref()
                    {
                        self.framing.pass(data);
                    }
                    return Poll::Ready(frame);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::http_parts::bodies::full;
    use crate::kubernetes::body::Envelope;
    use crate::kubernetes::wire::Fields;

    fn is_between(mut framing: Framing, bytes: &[u8]) -> bool {
        for piece in bytes.chunks(3) {
            framing.pass(piece);
        }
        framing.last_words().is_some()
    }

    #[test]
    fn the_end_of_a_json_event_is_found() {
        let json = || Framing::of("application/json;stream=watch");
        assert!(is_between(json(), b""));
        assert!(is_between(json(), b"{\"type\":\"ADDED\",\"object\":{\"a\":[1]}}\n"));
        assert!(is_between(json(), br#"{"a":"}\"{"}{"b":"\\"}"#));
        for open in [r#"{"a":"}"#, r#"{"a":{}"#, "{\n", r#"{"a":"\"}"#, r#"["x""#] {
            assert!(!is_between(json(), open.as_bytes()), "{open}");
        }
    }

    #[test]
    fn the_end_of_a_protobuf_event_is_found() {
        let protobuf = || Framing::of("application/vnd.kubernetes.protobuf;stream=watch");
        assert!(is_between(protobuf(), b""));
        assert!(is_between(protobuf(), b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c"));
        for open in [b"\0\0\0\x02a".as_slice(), b"\0\0", b"\0\0\0\x01a\0"] {
            assert!(!is_between(protobuf(), open), "{open:?}");
        }
        assert!(!is_between(Framing::of("application/cbor-seq"), b""));
    }

    #[test]
    fn the_last_event_in_protobuf_is_a_status() {
        let event = protobuf_event();
        assert!(is_between(Framing::Protobuf(LengthEvents::default()), &event));
        let mut fields = Fields::of(&event[4..]).map(|field| field.expect("a field"));
        assert_eq!(fields.next().and_then(|field| field.text().ok()), Some("ERROR"));
        let object = fields.next().expect("an object").bytes().expect("bytes");
        let raw = Fields::of(object).next().expect("raw").expect("a field");
        let envelope = Envelope::read(raw.bytes().expect("bytes")).expect("an envelope");
        assert_eq!((envelope.api_version, envelope.kind), ("v1", "Status"));
        let status: Vec<_> = Fields::of(envelope.raw).map(|field| field.expect("one")).collect();
        assert_eq!(status[3].text(), Ok(REASON));
        assert_eq!(status[4].value, WireValue::Varint(410));
    }

    #[tokio::test]
    async fn nothing_passes_once_it_ended() {
        let now = || -> BoxFuture<'static, ()> { Box::pin(std::future::ready(())) };
        let body = WatchBody::new(full("{\"secret\":1}\n"), "application/json", now(), now());
        let text = body.collect().await.expect("it is whole").to_bytes();
        let event: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(event["object"]["code"], 410);
        let cut = WatchBody::new(full("x"), "text/plain", now(), now());
        assert!(cut.collect().await.is_err());
    }
}
