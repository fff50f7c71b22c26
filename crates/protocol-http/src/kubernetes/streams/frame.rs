//! WebSocket's frames (RFC 6455 section 5), read and written without a socket.
//!
//! ```text
//! FIN RSV RSV RSV OPCODE(4)  MASK LEN(7)  [LEN(16) or LEN(64)]  [KEY(32)]  PAYLOAD
//! ```
//! A frame's payload is given on in pieces as it arrives: no frame is ever held whole.

use bytes::{Buf, Bytes, BytesMut};
use corral_model::limits::{STREAM_PIECE_BYTES_MAX, WEBSOCKET_FRAME_BYTES_MAX};

/// What a control frame may carry.
const CONTROL_BYTES_MAX: usize = 125;

/// The end that sends what is read: clients mask their frames, targets do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Target,
}

/// Why bytes are no WebSocket frames. Their sender is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a WebSocket frame uses an extension that was not agreed on")]
    Reserved,
    #[error("a WebSocket frame has an unknown opcode")]
    Opcode,
    #[error("a WebSocket frame is masked where it must not be, or not where it must")]
    Mask,
    #[error("a WebSocket frame is longer than {WEBSOCKET_FRAME_BYTES_MAX} bytes")]
    TooLong,
    #[error("a WebSocket frame's length is not written in its shortest form")]
    Length,
    #[error("a WebSocket control frame is fragmented or longer than {CONTROL_BYTES_MAX} bytes")]
    Control,
    #[error("a WebSocket message begins or continues where it may not")]
    Order,
    #[error("a WebSocket close frame has no valid code and reason")]
    Close,
}

impl FrameError {
    /// The close code that tells the sender (RFC 6455 section 7.4.1).
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::TooLong => 1009,
            Self::Reserved
            | Self::Opcode
            | Self::Mask
            | Self::Length
            | Self::Control
            | Self::Order
            | Self::Close => 1002,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn read(bits: u8) -> Result<Self, FrameError> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return Err(FrameError::Opcode),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part of a message.
    Data {
        is_start: bool,
        is_end: bool,
        payload: Bytes,
    },
    Ping(Bytes),
    Pong(Bytes),
    Close(Bytes),
}

#[derive(Debug, Clone, Copy)]
struct OpenFrame {
    is_fin: bool,
    /// Its message begins with what comes next.
    is_start: bool,
    left: u64,
    key: Option<[u8; 4]>,
    /// Where in the key the next byte stands.
    key_at: usize,
}

/// Reads one end's frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    sender: Sender,
    buffer: BytesMut,
    open: Option<OpenFrame>,
    is_in_message: bool,
}

impl FrameReader {
    pub(crate) fn new(sender: Sender) -> Self {
        Self { sender, buffer: BytesMut::new(), open: None, is_in_message: false }
    }

    /// Where bytes from the socket go.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next piece; None when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`]: nothing more can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, FrameError> {
        if let Some(open) = self.open {
            return Ok(self.payload(open));
        }
        let Some(head) = Head::read(&self.buffer)? else { return Ok(None) };
        let must_mask = self.sender == Sender::Client;
        if head.key.is_some() != must_mask {
            return Err(FrameError::Mask);
        }
        if head.opcode.is_control() {
            return Ok(self.control(head));
        }
        let continues = head.opcode == Opcode::Continuation;
        if continues != self.is_in_message {
            return Err(FrameError::Order);
        }
        self.buffer.advance(head.len);
        self.is_in_message = true;
        let open = OpenFrame {
            is_fin: head.is_fin,
            is_start: !continues,
            left: head.payload_len,
            key: head.key,
            key_at: 0,
        };
        self.open = Some(open);
        Ok(self.payload(open))
    }

    fn payload(&mut self, mut open: OpenFrame) -> Option<Piece> {
        let left = usize::try_from(open.left).unwrap_or(usize::MAX);
        if self.buffer.is_empty() && left > 0 {
            return None;
        }
        let len = left.min(self.buffer.len()).min(STREAM_PIECE_BYTES_MAX);
        let mut payload = self.buffer.split_to(len);
        if let Some(key) = open.key {
            unmask(&mut payload, key, open.key_at);
            open.key_at = (open.key_at + len) % 4;
        }
        open.left = open.left.saturating_sub(u64::try_from(len).unwrap_or(u64::MAX));
        let is_frame_over = open.left == 0;
        let is_end = is_frame_over && open.is_fin;
        let piece = Piece::Data { is_start: open.is_start, is_end, payload: payload.freeze() };
        open.is_start = false;
        self.open = (!is_frame_over).then_some(open);
        self.is_in_message = !is_end;
        Some(piece)
    }

    /// Control frames are short, and given on whole.
    fn control(&mut self, head: Head) -> Option<Piece> {
        let len = usize::try_from(head.payload_len).unwrap_or(usize::MAX);
        if self.buffer.len() < head.len + len {
            return None;
        }
        self.buffer.advance(head.len);
        let mut payload = self.buffer.split_to(len);
        if let Some(key) = head.key {
            unmask(&mut payload, key, 0);
        }
        let payload = payload.freeze();
        Some(match head.opcode {
            Opcode::Ping => Piece::Ping(payload),
            Opcode::Pong => Piece::Pong(payload),
            Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                Piece::Close(payload)
            }
        })
    }
}

/// What stands in front of a payload.
#[derive(Debug, Clone, Copy)]
struct Head {
    is_fin: bool,
    opcode: Opcode,
    payload_len: u64,
    key: Option<[u8; 4]>,
    /// Its own length.
    len: usize,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some([first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        let opcode = Opcode::read(first & 0x0F)?;
        let is_fin = first & 0x80 != 0;
        let short = second & 0x7F;
        if opcode.is_control() && (!is_fin || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(FrameError::Control);
        }
        let rest = bytes.get(2..).unwrap_or_default();
        let (payload_len, len_bytes) = match short {
            126 => match rest.first_chunk::<2>() {
                Some(long) => (u64::from(u16::from_be_bytes(*long)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(long) => (u64::from_be_bytes(*long), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let shortest: u64 = match len_bytes {
            2 => 126,
            8 => 65_536,
            _ => 0,
        };
        if payload_len > WEBSOCKET_FRAME_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        if payload_len < shortest {
            return Err(FrameError::Length);
        }
        let mut len = 2 + len_bytes;
        let mut key = None;
        if second & 0x80 != 0 {
            let Some(found) = bytes.get(len..).and_then(<[u8]>::first_chunk::<4>) else {
                return Ok(None);
            };
            key = Some(*found);
            len += 4;
        }
        Ok(Some(Self { is_fin, opcode, payload_len, key, len }))
    }
}

fn unmask(payload: &mut [u8], key: [u8; 4], at: usize) {
    let keys = key.iter().cycle().skip(at);
    payload.iter_mut().zip(keys).for_each(|(byte, key)| *byte ^= key);
}

/// Whether a close frame's payload is none, or a valid code with a text.
///
/// # Errors
/// [`FrameError::Close`].
pub(crate) fn check_close(payload: &[u8]) -> Result<(), FrameError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(()) } else { Err(FrameError::Close) };
    };
    let code = u16::from_be_bytes(*code);
    let is_valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    match is_valid && std::str::from_utf8(reason).is_ok() {
        true => Ok(()),
        false => Err(FrameError::Close),
    }
}

/// The payload of a close frame; the reason is cut where it is too long.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes().get(..end).unwrap_or_default());
    payload
}

/// Appends one frame whose payload are the parts, one behind the other.
pub(crate) fn write_frame(
    out: &mut BytesMut,
    opcode: Opcode,
    is_fin: bool,
    parts: &[&[u8]],
    key: Option<[u8; 4]>,
) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let masked: u8 = if key.is_some() { 0x80 } else { 0 };
    let fin: u8 = if is_fin { 0x80 } else { 0 };
    out.extend_from_slice(&[fin | opcode.bits()]);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..126), _) => out.extend_from_slice(&[masked | short]),
        (_, Ok(long)) => {
            out.extend_from_slice(&[masked | 126]);
            out.extend_from_slice(&long.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[masked | 127]);
            out.extend_from_slice(&u64::try_from(len).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    if let (Some(key), Some(payload)) = (key, out.get_mut(start..)) {
        unmask(payload, key, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    /// Reads all that is there; data of one message is joined.
    fn read(sender: Sender, bytes: &[u8], cut: usize) -> Result<Vec<Piece>, FrameError> {
        let mut reader = FrameReader::new(sender);
        let mut pieces: Vec<Piece> = Vec::new();
        for part in bytes.chunks(cut.max(1)) {
            reader.buffer().extend_from_slice(part);
            while let Some(piece) = reader.next()? {
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    fn messages(pieces: &[Piece]) -> Vec<Vec<u8>> {
        let mut messages: Vec<Vec<u8>> = Vec::new();
        for piece in pieces {
            if let Piece::Data { is_start, payload, .. } = piece {
                if *is_start {
                    messages.push(Vec::new());
                }
                if let Some(last) = messages.last_mut() {
                    last.extend_from_slice(payload);
                }
            }
        }
        messages
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let target = |bytes: &[u8], expect: FrameError| {
            assert_eq!(read(Sender::Target, bytes, 100), Err(expect), "{bytes:?}");
        };
        // A frame of 2^63 bytes, one of 2^63 - 1, and one just above the limit.
        target(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], FrameError::TooLong);
        target(&[0x82, 127, 0x7F, 255, 255, 255, 255, 255, 255, 255], FrameError::TooLong);
        let above = (WEBSOCKET_FRAME_BYTES_MAX + 1).to_be_bytes();
        target(&[&[0x82, 127], &above[..]].concat(), FrameError::TooLong);
        target(&[0xC2, 0], FrameError::Reserved);
        target(&[0x92, 0], FrameError::Reserved);
        target(&[0x83, 0], FrameError::Opcode);
        target(&[0x8B, 0], FrameError::Opcode);
        target(&[0x82, 0x80, 1, 2, 3, 4], FrameError::Mask);
        target(&[0x82, 126, 0, 125], FrameError::Length);
        target(&[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255], FrameError::Length);
        target(&[0x89, 126, 0, 126], FrameError::Control);
        target(&[0x09, 0], FrameError::Control);
        target(&[0x80, 0], FrameError::Order);
        target(&[0x02, 0, 0x82, 0], FrameError::Order);
        assert_eq!(read(Sender::Client, &[0x82, 0], 9), Err(FrameError::Mask));
    }

    #[test]
    fn control_frames_may_stand_inside_a_message() {
        let bytes =
            [&[0x02, 1, b'a'][..], &[0x89, 2, b'h', b'i'], &[0x80, 1, b'b'], &[0x88, 0]].concat();
        let pieces = read(Sender::Target, &bytes, 1).expect("reads");
        assert_eq!(messages(&pieces), [b"ab"]);
        assert!(pieces.contains(&Piece::Ping(Bytes::from_static(b"hi"))));
        assert_eq!(pieces.last(), Some(&Piece::Close(Bytes::new())));
    }

    #[test]
    fn every_form_of_a_length_is_written_and_read() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let payload = vec![7; len];
            let mut bytes = BytesMut::new();
            write_frame(&mut bytes, Opcode::Binary, true, &[&payload], Some([1, 2, 3, 4]));
            let pieces = read(Sender::Client, &bytes, 1_000).expect("reads");
            assert_eq!(messages(&pieces), [payload]);
        }
    }

    #[test]
    fn close_payloads_are_checked() {
        for good in [&b""[..], &[3, 232], &[3, 233, b'b', b'y', b'e'], &[0x0F, 0xA0]] {
            assert_eq!(check_close(good), Ok(()), "{good:?}");
        }
        for bad in [&[3][..], &[3, 236], &[3, 237], &[3, 238], &[0, 0], &[3, 232, 255]] {
            assert_eq!(check_close(bad), Err(FrameError::Close), "{bad:?}");
        }
        let payload = close_payload(1001, &"ü".repeat(100));
        assert!(payload.len() <= CONTROL_BYTES_MAX);
        assert_eq!(check_close(&payload), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
            key in any::<Option<[u8; 4]>>(), cut in 1_usize..5_000,
        ) {
            let mut bytes = BytesMut::new();
            for payload in &payloads {
                let (front, back) = payload.split_at(payload.len() / 2);
                write_frame(&mut bytes, Opcode::Binary, true, &[front, back], key);
            }
            let sender = if key.is_some() { Sender::Client } else { Sender::Target };
            let pieces = read(sender, &bytes, cut);
            prop_assert_eq!(pieces.map(|pieces| messages(&pieces)), Ok(payloads));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), cut in 1_usize..20) {
            let _ = read(Sender::Client, &bytes, cut);
            let _ = read(Sender::Target, &bytes, cut);
        }
    }
}
