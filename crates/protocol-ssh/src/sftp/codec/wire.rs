//! Numbers and strings of SFTP, read and written.

use crate::sftp::bounds;

/// A packet whose content is not what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet is not what its type says")]
pub(crate) struct Malformed;

/// A length field that no packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a packet has no type")]
    Empty,
    #[error("a packet of {bytes} bytes is larger than {}", bounds::PACKET_BYTES_MAX)]
    TooLarge { bytes: u32 },
}

/// Bytes before a packet's type.
pub(crate) const LENGTH_BYTES: usize = 4;

/// The length of the first packet in `bytes`, with its length field; None while it is not there
/// whole. A bad length is told as soon as it is there, before what it announces.
pub(crate) fn frame_length(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(field) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*field);
    let length = match usize::try_from(announced) {
        Ok(0) => return Err(FrameError::Empty),
        Ok(length) if length <= bounds::PACKET_BYTES_MAX => length + LENGTH_BYTES,
        Ok(_) | Err(_) => return Err(FrameError::TooLarge { bytes: announced }),
    };
    Ok((bytes.len() >= length).then_some(length))
}

/// How many bytes the first packet in `bytes` lacks; None when it is whole, or has no length yet.
pub(crate) fn missing(bytes: &[u8]) -> Option<usize> {
    let announced = u32::from_be_bytes(*bytes.first_chunk::<LENGTH_BYTES>()?);
    let length = usize::try_from(announced).ok()?.min(bounds::PACKET_BYTES_MAX) + LENGTH_BYTES;
    length.checked_sub(bytes.len()).filter(|missing| *missing > 0)
}

/// What is left to read of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*chunk)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.chunk()?))
    }

    pub(crate) fn number(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }

    pub(crate) fn long(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.chunk()?))
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(string)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything was read: what follows the last field would reach the target unseen.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// One packet that is being written, in a buffer that is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// A packet with a request id.
    pub(crate) fn new(kind: u8, id: u32) -> Self {
        Self::default().start(kind, id)
    }

    /// Begins again, in the same memory.
    pub(crate) fn start(mut self, kind: u8, id: u32) -> Self {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        self.bytes.push(kind);
        self.number(id)
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, number: u64) -> Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// # Limits
    /// `string` comes out of a packet or is a text of ours; what is longer than a packet may be is
    /// cut there.
    pub(crate) fn string(self, string: &[u8]) -> Self {
        let string = string.get(..bounds::PACKET_BYTES_MAX).unwrap_or(string);
        let mut builder = self.number(length_field(string.len()));
        builder.bytes.extend_from_slice(string);
        builder
    }

    /// The packet, whose last `following` bytes come from elsewhere.
    pub(crate) fn head(&mut self, following: usize) -> &[u8] {
        let length = (self.bytes.len() + following).saturating_sub(LENGTH_BYTES);
        let field = length_field(length).to_be_bytes();
        if let Some(place) = self.bytes.first_chunk_mut::<LENGTH_BYTES>() {
            *place = field;
        }
        &self.bytes
    }

    pub(crate) fn into_packet(mut self) -> Vec<u8> {
        self.head(0);
        self.bytes
    }
}

/// Lengths here are within a packet's; a longer one makes a length that every reader refuses.
pub(crate) fn length_field(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
