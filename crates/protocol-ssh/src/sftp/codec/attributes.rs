//! A file's attributes (section 5).

use std::fmt::Write as _;

use crate::sftp::codec::wire::{Builder, Cursor, Malformed};

const SIZE: u32 = 0x1;
const OWNERS: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const TIMES: u32 = 0x8;
const KNOWN: u32 = SIZE | OWNERS | PERMISSIONS | TIMES;

/// Attributes as a client sets them. Extended ones are not known here: a request that has some
/// cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) size: Option<u64>,
    /// User, group.
    pub(crate) owners: Option<(u32, u32)>,
    pub(crate) permissions: Option<u32>,
    /// Access, change; seconds since 1970.
    pub(crate) times: Option<(u32, u32)>,
}

impl Attributes {
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let flags = cursor.number()?;
        if flags & !KNOWN != 0 {
            return Err(Malformed);
        }
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(cursor.long()?);
        }
        if flags & OWNERS != 0 {
            attributes.owners = Some((cursor.number()?, cursor.number()?));
        }
        if flags & PERMISSIONS != 0 {
            attributes.permissions = Some(cursor.number()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((cursor.number()?, cursor.number()?));
        }
        Ok(attributes)
    }

    pub(crate) fn write(&self, builder: Builder) -> Builder {
        let has = |flag: u32, is_set: bool| if is_set { flag } else { 0 };
        let mut builder = builder.number(
            has(SIZE, self.size.is_some())
                | has(OWNERS, self.owners.is_some())
                | has(PERMISSIONS, self.permissions.is_some())
                | has(TIMES, self.times.is_some()),
        );
        if let Some(size) = self.size {
            builder = builder.long(size);
        }
        if let Some((user, group)) = self.owners {
            builder = builder.number(user).number(group);
        }
        if let Some(permissions) = self.permissions {
            builder = builder.number(permissions);
        }
        if let Some((access, change)) = self.times {
            builder = builder.number(access).number(change);
        }
        builder
    }

    /// For a statement's text: ` size=5 mode=0644`, empty when nothing is set.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        // Writing to a string cannot fail.
        if let Some(size) = self.size {
            let _ = write!(words, " size={size}");
        }
        if let Some((user, group)) = self.owners {
            let _ = write!(words, " uid={user} gid={group}");
        }
        if let Some(permissions) = self.permissions {
            let _ = write!(words, " mode={permissions:04o}");
        }
        if let Some((access, change)) = self.times {
            let _ = write!(words, " atime={access} mtime={change}");
        }
        words
    }
}
