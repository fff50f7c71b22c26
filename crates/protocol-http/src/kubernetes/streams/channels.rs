//! The channels of exec and attach: which end may use which, what passes as bytes, and the few
//! messages that mean something by themselves. Pure.
//!
//! ```text
//! message   channel number, 1 byte; payload
//! client    0 stdin, 4 size of the terminal as JSON, 255 (v5) closes the channel that follows
//! target    1 stdout, 2 stderr, 3 result: a Status as JSON
//! ```
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#websockets>, and
//! k8s.io/apimachinery/pkg/util/remotecommand.

use bytes::Bytes;
use corral_model::event::StreamEnd;
use serde::Deserialize;
use serde_json::{Value, json};

use super::frame::Sender;
use super::handshake::Subprotocol;

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const RESULT: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A message that is read whole, in bytes: a size, a result.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// Why messages are none of these channels. Their sender is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("a message is for a channel that its sender may not use")]
    Channel,
    #[error("a message that is read whole is longer than {WHOLE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a message about the terminal's size, or the end of a channel, cannot be read")]
    Message,
}

/// What a part of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passing {
    /// Bytes of a stream, to be recorded; to be sent on as a message of this channel.
    Stream { from: StreamEnd, channel: u8, bytes: Bytes },
    /// The terminal's size; to be sent on as it is.
    Resize { columns: u32, rows: u32, message: Vec<u8> },
    /// How the command ended; to be sent on as it is. None: an empty message.
    Result { code: Option<String>, message: Vec<u8> },
    /// To be sent on as it is: the end of a channel.
    Close { message: Vec<u8> },
}

/// Reads the messages of one end.
#[derive(Debug)]
pub(crate) struct Channels {
    sender: Sender,
    subprotocol: Subprotocol,
    /// The channel of the message that is being read.
    channel: Option<u8>,
    /// A message that is read whole.
    whole: Vec<u8>,
    /// Of the message that is being read, something was given on.
    is_begun: bool,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u32,
    #[serde(rename = "Height")]
    height: u32,
}

impl Channels {
    pub(crate) fn new(sender: Sender, subprotocol: Subprotocol) -> Self {
        Self { sender, subprotocol, channel: None, whole: Vec::new(), is_begun: false }
    }

    /// Takes a part of a message.
    ///
    /// # Errors
    /// [`ChannelError`]: nothing more can be read.
    pub(crate) fn take(
        &mut self,
        is_end: bool,
        mut payload: Bytes,
    ) -> Result<Option<Passing>, ChannelError> {
        let channel = match self.channel {
            Some(channel) => channel,
            None if payload.is_empty() => return Ok(None),
            None => {
                let channel = payload.split_to(1).first().copied().unwrap_or_default();
                self.check(channel)?;
                self.channel = Some(channel);
                self.is_begun = false;
                channel
            }
        };
        if is_end {
            self.channel = None;
        }
        let from = match channel {
            STDIN => StreamEnd::Client,
            STDOUT => StreamEnd::Target,
            STDERR => StreamEnd::TargetError,
            _ => return self.whole(channel, is_end, &payload),
        };
        // A message without bytes is sent on once: it says that the channel is there.
        if payload.is_empty() && (!is_end || self.is_begun) {
            return Ok(None);
        }
        self.is_begun = true;
        Ok(Some(Passing::Stream { from, channel, bytes: payload }))
    }

    fn check(&self, channel: u8) -> Result<(), ChannelError> {
        let is_allowed = match (self.sender, channel) {
            (Sender::Client, STDIN | RESIZE) | (Sender::Target, STDOUT | STDERR | RESULT) => true,
            (_, CLOSE) => self.subprotocol == Subprotocol::V5,
            _ => false,
        };
        if is_allowed { Ok(()) } else { Err(ChannelError::Channel) }
    }

    fn whole(
        &mut self,
        channel: u8,
        is_end: bool,
        payload: &[u8],
    ) -> Result<Option<Passing>, ChannelError> {
        if self.whole.len() + payload.len() > WHOLE_BYTES_MAX {
            return Err(ChannelError::TooLong);
        }
        self.whole.extend_from_slice(payload);
        if !is_end {
            return Ok(None);
        }
        let body = std::mem::take(&mut self.whole);
        let mut message = vec![channel];
        message.extend_from_slice(&body);
        let passing = match channel {
            RESIZE => {
                let size: Size =
                    serde_json::from_slice(&body).map_err(|_| ChannelError::Message)?;
                Passing::Resize { columns: size.width, rows: size.height, message }
            }
            CLOSE if body.len() == 1 => Passing::Close { message },
            CLOSE => return Err(ChannelError::Message),
            _ => Passing::Result { code: code_of(&body), message },
        };
        Ok(Some(passing))
    }
}

/// What a result says, as the record keeps it: `0`, the exit code, or the reason of a failure.
fn code_of(body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    if text("/status") == Some("Success") {
        return Some("0".to_owned());
    }
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    let exit_code = causes.into_iter().flatten().find_map(|cause| {
        let is_code = cause.get("reason").and_then(Value::as_str) == Some("ExitCode");
        let message = cause.get("message").and_then(Value::as_str)?;
        is_code.then_some(message)?.parse::<u8>().ok()
    });
    match exit_code {
        Some(code) => Some(code.to_string()),
        None => {
            Some(text("/reason").filter(|reason| is_word(reason)).unwrap_or("Failure").to_owned())
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A result that tells a client that its stream is refused or ended. kubectl prints the message
/// and exits with 1.
pub(crate) fn failure(sentence: &str, reason: &str, code: u16) -> Vec<u8> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": sentence, "reason": reason, "code": code,
    });
    let mut message = vec![RESULT];
    message.extend_from_slice(status.to_string().as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    fn whole(sender: Sender, message: &[u8]) -> Result<Option<Passing>, ChannelError> {
        let mut channels = Channels::new(sender, Subprotocol::V5);
        channels.take(true, Bytes::copy_from_slice(message))
    }

    #[test]
    fn each_end_has_its_own_channels() {
        for channel in [1, 2, 3, 5, 254] {
            assert_eq!(whole(Sender::Client, &[channel]), Err(ChannelError::Channel));
        }
        for channel in [0, 4, 5, 254] {
            assert_eq!(whole(Sender::Target, &[channel]), Err(ChannelError::Channel));
        }
        let mut old = Channels::new(Sender::Client, Subprotocol::V4);
        let close = old.take(true, Bytes::from_static(&[255, 0]));
        assert_eq!(close, Err(ChannelError::Channel));
        assert!(matches!(whole(Sender::Client, &[255, 0]), Ok(Some(Passing::Close { .. }))));
        assert_eq!(whole(Sender::Client, &[255]), Err(ChannelError::Message));
        assert_eq!(whole(Sender::Client, &[]), Ok(None));
    }

    #[test]
    fn a_size_and_a_result_are_read() {
        let size = whole(Sender::Client, b"\x04{\"Width\":80,\"Height\":24}");
        let is_size = matches!(size, Ok(Some(Passing::Resize { columns: 80, rows: 24, .. })));
        assert!(is_size, "{size:?}");
        assert_eq!(whole(Sender::Client, b"\x04{}"), Err(ChannelError::Message));
        let result = |body: &str| match whole(Sender::Target, format!("\u{3}{body}").as_bytes()) {
            Ok(Some(Passing::Result { code, .. })) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(result(""), None);
        assert_eq!(result(r#"{"status":"Success"}"#).as_deref(), Some("0"));
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(result(failed).as_deref(), Some("7"));
        assert_eq!(
            result(r#"{"status":"Failure","reason":"InternalError"}"#).as_deref(),
            Some("InternalError")
        );
        assert_eq!(result("not json").as_deref(), Some("Failure"));
    }

    #[test]
    fn a_message_that_is_read_whole_is_bounded() {
        let mut channels = Channels::new(Sender::Target, Subprotocol::V4);
        assert_eq!(channels.take(false, Bytes::from_static(&[3])), Ok(None));
        let part = Bytes::from(vec![b' '; 60_000]);
        assert_eq!(channels.take(false, part.clone()), Ok(None));
        assert_eq!(channels.take(false, part), Err(ChannelError::TooLong));
    }

    #[test]
    fn a_failure_is_a_result() {
        let message = failure("corral: no", "Forbidden", 403);
        let Ok(Some(Passing::Result { code, .. })) = whole(Sender::Target, &message) else {
            panic!("no result");
        };
        assert_eq!(code.as_deref(), Some("Forbidden"));
    }

    proptest! {
        /// However a message is cut, its bytes are the same.
        #[test]
        fn a_stream_keeps_its_bytes(
            messages in prop::collection::vec((1_u8..3, prop::collection::vec(any::<u8>(), 0..50)), 0..8),
            cut in 1_usize..20,
        ) {
            let mut channels = Channels::new(Sender::Target, Subprotocol::V5);
            let mut passed: [Vec<u8>; 2] = Default::default();
            let mut expect: [Vec<u8>; 2] = Default::default();
            for (channel, body) in &messages {
                expect[usize::from(*channel) - 1].extend_from_slice(body);
                let mut message = vec![*channel];
                message.extend_from_slice(body);
                let parts: Vec<&[u8]> = message.chunks(cut).collect();
                for (index, part) in parts.iter().enumerate() {
                    let is_end = index + 1 == parts.len();
                    let taken = channels.take(is_end, Bytes::copy_from_slice(part));
                    if let Ok(Some(Passing::Stream { channel, bytes, .. })) = taken {
                        passed[usize::from(channel) - 1].extend_from_slice(&bytes);
                    }
                }
            }
            prop_assert_eq!(passed, expect);
        }
    }
}
