//! Bytes of SFTP version 3 (draft-ietf-secsh-filexfer-02): frames, requests and answers. Pure.
//!
//! ```text
//! packet:   length u32 │ type u8 │ request id u32 │ …      (INIT, VERSION: version, no id)
//! string:   length u32 │ bytes
//! ```

mod attributes;
mod reply;
mod request;
mod wire;

pub(crate) use attributes::Attributes;
pub(crate) use reply::{Reply, Status, Version, read_limits};
pub(crate) use request::{Extended, OpenFlags, Request};
pub(crate) use wire::{
    Builder, FrameError, LENGTH_BYTES, Malformed, frame_length, length_field, missing,
};

/// Packet types (section 3).
pub(crate) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// The version that is spoken both ways.
pub(crate) const VERSION: u32 = 3;

#[cfg(test)]
mod tests;
