//! What clients ask (section 6), and OpenSSH's extensions of it.

use crate::sftp::codec::attributes::Attributes;
use crate::sftp::codec::kind;
use crate::sftp::codec::wire::{Cursor, Malformed};

/// How a file is to be opened (section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFlags(pub(crate) u32);

impl OpenFlags {
    pub(crate) const READ: u32 = 0x1;
    pub(crate) const WRITE: u32 = 0x2;
    pub(crate) const APPEND: u32 = 0x4;
    pub(crate) const CREATE: u32 = 0x8;
    pub(crate) const TRUNCATE: u32 = 0x10;
    pub(crate) const EXCLUSIVE: u32 = 0x20;
    const KNOWN: u32 = 0x3f;

    pub(crate) fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// Servers open for reading when neither reading nor writing is asked for.
    pub(crate) fn reads(self) -> bool {
        self.has(Self::READ) || !self.has(Self::WRITE)
    }

    /// Creating and emptying change the target even where nothing is written.
    pub(crate) fn writes(self) -> bool {
        self.has(Self::WRITE | Self::APPEND | Self::CREATE | Self::TRUNCATE | Self::EXCLUSIVE)
    }
}

/// One request. Paths and handles are as the client sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: OpenFlags,
        attributes: Attributes,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    Lstat {
        path: &'a [u8],
    },
    Fstat {
        handle: &'a [u8],
    },
    Setstat {
        path: &'a [u8],
        attributes: Attributes,
    },
    Fsetstat {
        handle: &'a [u8],
        attributes: Attributes,
    },
    Opendir {
        path: &'a [u8],
    },
    Readdir {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    Mkdir {
        path: &'a [u8],
        attributes: Attributes,
    },
    Rmdir {
        path: &'a [u8],
    },
    Realpath {
        path: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Readlink {
        path: &'a [u8],
    },
    Symlink {
        content: &'a [u8],
        link: &'a [u8],
    },
    Extended {
        name: &'a [u8],
        request: Extended<'a>,
    },
    /// A type that version 3 does not have.
    Unknown {
        kind: u8,
    },
    /// Not what its type says.
    Unreadable {
        kind: u8,
    },
}

/// A request that an extension adds (OpenSSH's PROTOCOL, section 4;
/// draft-ietf-secsh-filexfer-extensions-00).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extended<'a> {
    PosixRename { from: &'a [u8], to: &'a [u8] },
    Statvfs { path: &'a [u8] },
    Fstatvfs { handle: &'a [u8] },
    Hardlink { from: &'a [u8], to: &'a [u8] },
    Fsync { handle: &'a [u8] },
    Lsetstat { path: &'a [u8], attributes: Attributes },
    Limits,
    ExpandPath { path: &'a [u8] },
    CopyData { from: &'a [u8], from_offset: u64, length: u64, to: &'a [u8], to_offset: u64 },
    HomeDirectory { username: &'a [u8] },
    NamesById { users: &'a [u8], groups: &'a [u8] },
    Unknown,
}

impl<'a> Request<'a> {
    /// Reads a packet after its length field: the request's id, and what it asks.
    ///
    /// # Errors
    /// There is no id; the client is to blame.
    pub(crate) fn read(packet: &'a [u8]) -> Result<(u32, Self), Malformed> {
        let mut cursor = Cursor::new(packet);
        let kind = cursor.byte()?;
        let id = cursor.number()?;
        Ok((id, Self::read_content(kind, cursor).unwrap_or(Self::Unreadable { kind })))
    }

    fn read_content(kind: u8, mut cursor: Cursor<'a>) -> Result<Self, Malformed> {
        let request = match kind {
            kind::OPEN => {
                let path = cursor.string()?;
                let flags = OpenFlags(cursor.number()?);
                if flags.0 & !OpenFlags::KNOWN != 0 {
                    return Err(Malformed);
                }
                Self::Open { path, flags, attributes: Attributes::read(&mut cursor)? }
            }
            kind::CLOSE => Self::Close { handle: cursor.string()? },
            kind::READ => Self::Read {
                handle: cursor.string()?,
                offset: cursor.long()?,
                length: cursor.number()?,
            },
            kind::WRITE => Self::Write {
                handle: cursor.string()?,
                offset: cursor.long()?,
                data: cursor.string()?,
            },
            kind::LSTAT => Self::Lstat { path: cursor.string()? },
            kind::FSTAT => Self::Fstat { handle: cursor.string()? },
            kind::SETSTAT => {
                Self::Setstat { path: cursor.string()?, attributes: Attributes::read(&mut cursor)? }
            }
            kind::FSETSTAT => Self::Fsetstat {
                handle: cursor.string()?,
                attributes: Attributes::read(&mut cursor)?,
            },
            kind::OPENDIR => Self::Opendir { path: cursor.string()? },
            kind::READDIR => Self::Readdir { handle: cursor.string()? },
            kind::REMOVE => Self::Remove { path: cursor.string()? },
            kind::MKDIR => {
                Self::Mkdir { path: cursor.string()?, attributes: Attributes::read(&mut cursor)? }
            }
            kind::RMDIR => Self::Rmdir { path: cursor.string()? },
            kind::REALPATH => Self::Realpath { path: cursor.string()? },
            kind::STAT => Self::Stat { path: cursor.string()? },
            kind::RENAME => Self::Rename { from: cursor.string()?, to: cursor.string()? },
            kind::READLINK => Self::Readlink { path: cursor.string()? },
            // Servers take what the link says first (OpenSSH's PROTOCOL, section 4.1), other than
            // the draft has it.
            kind::SYMLINK => Self::Symlink { content: cursor.string()?, link: cursor.string()? },
            kind::EXTENDED => {
                let name = cursor.string()?;
                let request = Extended::read(name, &mut cursor)?;
                if request == Extended::Unknown {
                    return Ok(Self::Extended { name, request });
                }
                Self::Extended { name, request }
            }
            kind => return Ok(Self::Unknown { kind }),
        };
        cursor.end()?;
        Ok(request)
    }

    /// Reads INIT; gives the client's version. What extensions it names is of no consequence.
    ///
    /// # Errors
    /// The client is to blame.
    pub(crate) fn read_init(packet: &[u8]) -> Result<u32, Malformed> {
        let mut cursor = Cursor::new(packet);
        match cursor.byte()? {
            kind::INIT => cursor.number(),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Extended<'a> {
    fn read(name: &[u8], cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        Ok(match name {
            b"posix-rename@openssh.com" => {
                Self::PosixRename { from: cursor.string()?, to: cursor.string()? }
            }
            b"statvfs@openssh.com" => Self::Statvfs { path: cursor.string()? },
            b"fstatvfs@openssh.com" => Self::Fstatvfs { handle: cursor.string()? },
            b"hardlink@openssh.com" => {
                Self::Hardlink { from: cursor.string()?, to: cursor.string()? }
            }
            b"fsync@openssh.com" => Self::Fsync { handle: cursor.string()? },
            b"lsetstat@openssh.com" => {
                Self::Lsetstat { path: cursor.string()?, attributes: Attributes::read(cursor)? }
            }
            b"limits@openssh.com" => Self::Limits,
            b"expand-path@openssh.com" => Self::ExpandPath { path: cursor.string()? },
            b"copy-data" => Self::CopyData {
                from: cursor.string()?,
                from_offset: cursor.long()?,
                length: cursor.long()?,
                to: cursor.string()?,
                to_offset: cursor.long()?,
            },
            b"home-directory" => Self::HomeDirectory { username: cursor.string()? },
            b"users-groups-by-id@openssh.com" => {
                Self::NamesById { users: cursor.string()?, groups: cursor.string()? }
            }
            _ => Self::Unknown,
        })
    }
}
