//! Frames and messages of the PostgreSQL protocol, version 3. Bytes in, values out, and back.
//!
//! ```text
//! client, before login:  | length i32 (itself included) | code i32 | body |
//! everything else:       | tag u8 | length i32 (itself included) | body |
//! ```
//! Sources: "Frontend/Backend Protocol" in PostgreSQL's manual. It must not know what a message
//! means for a session.

pub mod answers;
pub mod any;
pub mod client;
pub mod opening;
pub(crate) mod server;
pub(crate) mod target;

/// Why bytes are not a message. Whoever sent them is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a message's length is less than its own size")]
    Length,
    #[error("a message ends before its last field")]
    Short,
    #[error("a message has bytes after its last field")]
    Trailing,
    #[error("a text in a message is not UTF-8")]
    Utf8,
    #[error("a field of a message has a value that the protocol does not know")]
    Value,
}

/// The start of a message after login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub tag: u8,
    /// Tag and length field included, in bytes.
    pub frame_len: usize,
}

/// Bytes of a [`Head`] on the wire.
pub const HEAD_BYTES: usize = 5;

/// Reads the head of the message at the front of `bytes`; None when it has not arrived whole.
///
/// # Errors
/// [`CodecError::Length`] when the length cannot be true.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, CodecError> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=i32::MAX as u32).contains(&length) {
        return Err(CodecError::Length);
    }
    let length = usize::try_from(length).map_err(|_| CodecError::Length)?;
    Ok(Some(Head { tag, frame_len: length + 1 }))
}

/// Reads fields of one message's body, strictly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The body of a whole frame.
    pub(crate) fn of_frame(frame: &'a [u8]) -> Self {
        Self { rest: frame.get(HEAD_BYTES..).unwrap_or_default() }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        let (value, rest) = self.rest.split_first().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(*value)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*value))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, CodecError> {
        self.u16().map(u16::cast_signed)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*value))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, CodecError> {
        self.u32().map(u32::cast_signed)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (value, rest) = self.rest.split_at_checked(count).ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(value)
    }

    /// Bytes up to a NUL, which is taken too.
    pub(crate) fn until_nul(&mut self) -> Result<&'a [u8], CodecError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(CodecError::Short)?;
        let value = self.bytes(end)?;
        self.u8()?;
        Ok(value)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.until_nul()?).map_err(|_| CodecError::Utf8)
    }

    /// A value with a length in front; None for -1, which is NULL.
    pub(crate) fn cell(&mut self) -> Result<Option<&'a [u8]>, CodecError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| CodecError::Length)?;
                self.bytes(length).map(Some)
            }
        }
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_only_when_whole_and_possible() {
        type Found = Result<Option<usize>, CodecError>;
        let cases: [(&[u8], Found); 6] = [
            (b"", Ok(None)),
            (b"Q\0\0\0", Ok(None)),
            (b"S\0\0\0\x04", Ok(Some(5))),
            (b"Q\0\0\0\x08abcd", Ok(Some(9))),
            (b"Q\0\0\0\x03", Err(CodecError::Length)),
            (b"Q\xff\xff\xff\xff", Err(CodecError::Length)),
        ];
        for (bytes, expect) in cases {
            assert_eq!(head(bytes).map(|found| found.map(|head| head.frame_len)), expect);
        }
    }
}
