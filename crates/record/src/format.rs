//! The bytes of a recording: a header, then frames that each carry the hash of the one before.
//!
//! ```text
//! file header, 72 bytes                       frame (one entry), 77 bytes and its payload
//!  0   8  "CORRALRC"                            0   4  length of the payload
//!  8   1  format version, 1                     4   1  kind (EntryKind)
//!  9   1  1 gateway, 2 session, 3 journal       5   8  number in its chain, from 1
//! 10   1  payloads: 0 = JSON in clear          13  32  hash of the entry before (or the genesis)
//! 11   5  zero                                 45   n  payload
//! 16   8  number of the first entry          45+n  32  SHA-256 of the 45+n bytes before
//! 24  32  hash that the first entry follows
//! 56  16  id of the record, random
//! ```
//! Numbers are big-endian. The genesis hash of a chain is in [`gateway_genesis`] and
//! [`session_genesis`]: it binds the gateway's key and the record's id, and for a session its id, so
//! that a file under another name or from another record does not verify.

use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use corral_model::ids::SessionId;
use corral_model::limits;

/// A SHA-256 digest.
pub type Hash = [u8; HASH_BYTES];

/// Tells the records that one key signed apart: made at random when a record begins.
pub type RecordId = [u8; RECORD_ID_BYTES];

pub(crate) const HASH_BYTES: usize = 32;
pub(crate) const HEADER_BYTES: usize = 72;
pub(crate) const RECORD_ID_BYTES: usize = 16;
pub(crate) const FRAME_HEAD_BYTES: usize = 45;

const MAGIC: &[u8; 8] = b"CORRALRC";
const VERSION: u8 = 1;
const PAYLOAD_JSON: u8 = 0;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A segment of the gateway's chain.
    Gateway,
    /// One session's chain.
    Session,
    /// Rounds of the journal of synced sessions.
    Journal,
}

impl FileKind {
    fn byte(self) -> u8 {
        match self {
            Self::Gateway => 1,
            Self::Session => 2,
            Self::Journal => 3,
        }
    }
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// JSON of one event.
    Event,
    /// Gateway's chain only: a session begins; JSON with its id, day and first hash.
    SessionOpened,
    /// Gateway's chain only: a session ended; JSON with its id, number of entries and last hash.
    SessionClosed,
    /// Gateway's chain only: 64 bytes of Ed25519 signature, then JSON with the heads of sessions.
    Checkpoint,
    /// Journal only: 4 bytes of length, that much JSON, entries of sessions' files as they stand
    /// there, zeros.
    Round,
}

impl EntryKind {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Event => 1,
            Self::SessionOpened => 2,
            Self::SessionClosed => 3,
            Self::Checkpoint => 4,
            Self::Round => 5,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Event),
            2 => Some(Self::SessionOpened),
            3 => Some(Self::SessionClosed),
            4 => Some(Self::Checkpoint),
            5 => Some(Self::Round),
            _ => None,
        }
    }
}

/// The last entry of a chain; number 0 and the genesis hash when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
}

/// The first bytes of a file: what it is, and which entry its first one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FileKind,
    pub(crate) follows: Head,
    pub(crate) record: RecordId,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = self.kind.byte();
        bytes[10] = PAYLOAD_JSON;
        bytes[16..24].copy_from_slice(&(self.follows.seq + 1).to_be_bytes());
        bytes[24..56].copy_from_slice(&self.follows.hash);
        bytes[56..].copy_from_slice(&self.record);
        bytes
    }

    /// Reads a header. Every byte counts, so that none can be changed unseen.
    ///
    /// # Errors
    /// What is wrong with it: the file is to blame.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], kind: FileKind) -> Result<Self, String> {
        if &bytes[..8] != MAGIC {
            return Err("this is not a file of the record".to_owned());
        }
        if bytes[8] != VERSION {
            return Err(format!(
                "format version {} is not known; this program reads version {VERSION}",
                bytes[8]
            ));
        }
        if bytes[9] != kind.byte() {
            return Err(format!("the header says kind {}, not {}", bytes[9], kind.byte()));
        }
        if bytes[10..16] != [PAYLOAD_JSON, 0, 0, 0, 0, 0] {
            return Err("the header's reserved bytes are not zero".to_owned());
        }
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[16..24]);
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&bytes[24..56]);
        let mut record = [0; RECORD_ID_BYTES];
        record.copy_from_slice(&bytes[56..]);
        let seq = u64::from_be_bytes(number)
            .checked_sub(1)
            .ok_or_else(|| "the header's first number is 0".to_owned())?;
        Ok(Self { kind, follows: Head { seq, hash }, record })
    }
}

/// The hash that the first entry of the gateway's chain follows.
#[must_use]
pub fn gateway_genesis(public_key: &[u8], record: &RecordId) -> Hash {
    hash_of(&[b"corral record v1 gateway\0", public_key, record])
}

/// The hash that the first entry of a session's chain follows.
#[must_use]
pub fn session_genesis(public_key: &[u8], record: &RecordId, session: &SessionId) -> Hash {
    hash_of(&[b"corral record v1 session\0", public_key, record, session.as_str().as_bytes()])
}

/// The name of a gateway's chain, unique for ever: `gw_` and the genesis' first 16 digits.
#[must_use]
pub fn chain_name(genesis: &Hash) -> String {
    let (start, _) = genesis.split_at(8);
    format!("gw_{}", hex(start))
}

fn hash_of(parts: &[&[u8]]) -> Hash {
    sha256(&parts.concat())
}

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Appends one frame to `buffer`, whose payload `fill` writes in place. On an error `buffer` is as
/// it was.
///
/// # Errors
/// `fill`'s error, or `InvalidInput` when the payload is longer than
/// [`limits::RECORD_ENTRY_BYTES_MAX`].
pub(crate) fn encode_frame(
    buffer: &mut Vec<u8>,
    kind: EntryKind,
    follows: Head,
    fill: &mut dyn FnMut(&mut Vec<u8>, Head) -> io::Result<()>,
) -> io::Result<Head> {
    let start = buffer.len();
    let result = fill_frame(buffer, kind, follows, fill);
    if result.is_err() {
        buffer.truncate(start);
    }
    result
}

fn fill_frame(
    buffer: &mut Vec<u8>,
    kind: EntryKind,
    follows: Head,
    fill: &mut dyn FnMut(&mut Vec<u8>, Head) -> io::Result<()>,
) -> io::Result<Head> {
    let start = buffer.len();
    let seq = follows.seq + 1;
    buffer.extend_from_slice(&[0; 4]);
    buffer.push(kind.byte());
    buffer.extend_from_slice(&seq.to_be_bytes());
    buffer.extend_from_slice(&follows.hash);
    fill(buffer, Head { seq, hash: follows.hash })?;
    let payload_bytes = buffer.len() - start - FRAME_HEAD_BYTES;
    if payload_bytes > limits::RECORD_ENTRY_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "an entry of {payload_bytes} bytes is longer than the {} that are allowed",
                limits::RECORD_ENTRY_BYTES_MAX
            ),
        ));
    }
    // The limit above is far below u32::MAX.
    let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_be_bytes();
    buffer[start..start + 4].copy_from_slice(&length);
    let hash = sha256(&buffer[start..]);
    buffer.extend_from_slice(&hash);
    Ok(Head { seq, hash })
}

/// A hash as lower-case hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The inverse of [`hex`] for a hash; None when the text is not one.
pub(crate) fn hash_from_hex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != HASH_BYTES * 2 {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(hash)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_every_byte_counts() {
        let follows = Head { seq: 41, hash: [7; HASH_BYTES] };
        let header = Header { kind: FileKind::Session, follows, record: [9; RECORD_ID_BYTES] };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes, FileKind::Session), Ok(header));
        for index in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[index] ^= 0x80;
            assert_ne!(Header::decode(&changed, FileKind::Session), Ok(header), "byte {index}");
        }
    }

    #[test]
    fn hexadecimal_round_trips() {
        let hash = sha256(b"corral");
        assert_eq!(hash_from_hex(&hex(&hash)), Some(hash));
        for bad in ["", "00", &"G".repeat(64), &"A".repeat(64)] {
            assert_eq!(hash_from_hex(bad), None, "{bad}");
        }
    }
}
