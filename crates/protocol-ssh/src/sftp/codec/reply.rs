//! What targets answer (section 7), as far as the gateway reads it.

use crate::sftp::codec::kind;
use crate::sftp::codec::wire::{Cursor, Malformed};

/// Status codes (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u32);

impl Status {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const EOF: Self = Self(1);
    pub(crate) const NO_SUCH_FILE: Self = Self(2);
    pub(crate) const PERMISSION_DENIED: Self = Self(3);
    pub(crate) const FAILURE: Self = Self(4);
    pub(crate) const BAD_MESSAGE: Self = Self(5);
    pub(crate) const NO_CONNECTION: Self = Self(6);
    pub(crate) const CONNECTION_LOST: Self = Self(7);
    pub(crate) const UNSUPPORTED: Self = Self(8);

    /// The code in words, for the record.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::OK => "ok",
            Self::EOF => "end of file",
            Self::NO_SUCH_FILE => "no such file",
            Self::PERMISSION_DENIED => "permission denied by the target",
            Self::FAILURE => "failure",
            Self::BAD_MESSAGE => "bad message",
            Self::NO_CONNECTION => "no connection",
            Self::CONNECTION_LOST => "connection lost",
            Self::UNSUPPORTED => "unsupported by the target",
            _ => "a status that version 3 does not have",
        }
    }
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Status(Status),
    Handle(&'a [u8]),
    Data(&'a [u8]),
    /// How many names, and the first one's name.
    Names {
        count: u32,
        first: &'a [u8],
    },
    Attributes,
    /// Its content after the id.
    Extended(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// Reads a packet after its length field: the request's id, and the answer.
    ///
    /// # Errors
    /// The target is to blame.
    pub(crate) fn read(packet: &'a [u8]) -> Result<(u32, Self), Malformed> {
        let mut cursor = Cursor::new(packet);
        let kind = cursor.byte()?;
        let id = cursor.number()?;
        let reply = match kind {
            // Some servers leave out the message and its language.
            kind::STATUS => Self::Status(Status(cursor.number()?)),
            kind::HANDLE => Self::Handle(cursor.string()?),
            kind::DATA => {
                let data = cursor.string()?;
                cursor.end()?;
                Self::Data(data)
            }
            kind::NAME => match cursor.number()? {
                0 => Self::Names { count: 0, first: b"" },
                count => Self::Names { count, first: cursor.string()? },
            },
            kind::ATTRS => Self::Attributes,
            kind::EXTENDED_REPLY => Self::Extended(packet.get(5..).unwrap_or_default()),
            _ => return Err(Malformed),
        };
        Ok((id, reply))
    }
}

/// The target's first packet: its version and what it can do beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) version: u32,
    /// Names with their data.
    pub(crate) extensions: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Version<'a> {
    /// # Errors
    /// The target is to blame.
    pub(crate) fn read(packet: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(packet);
        if cursor.byte()? != kind::VERSION {
            return Err(Malformed);
        }
        let version = cursor.number()?;
        let mut extensions: Vec<(&[u8], &[u8])> = Vec::new();
        while !cursor.is_empty() {
            extensions.push((cursor.string()?, cursor.string()?));
        }
        Ok(Self { version, extensions })
    }
}

/// The content of an answer to `limits@openssh.com`.
///
/// # Errors
/// The target is to blame.
pub(crate) fn read_limits(content: &[u8]) -> Result<[u64; 4], Malformed> {
    let mut cursor = Cursor::new(content);
    Ok([cursor.long()?, cursor.long()?, cursor.long()?, cursor.long()?])
}
