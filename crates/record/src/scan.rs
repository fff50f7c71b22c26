//! Reading a file of the record entry by entry, and naming the first byte that is wrong.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use corral_model::limits;

use crate::format::{
    EntryKind, FRAME_HEAD_BYTES, FileKind, HASH_BYTES, HEADER_BYTES, Hash, Head, Header, RecordId,
    sha256,
};

/// What a device writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Why a file cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Start of the entry (0: of the file) that is wrong.
    pub(crate) offset: u64,
    /// Number of that entry; 0 for the header.
    pub(crate) seq: u64,
    pub(crate) what: String,
    /// The file ends in the middle of an entry, as after a crash.
    pub(crate) is_torn: bool,
}

impl Fault {
    /// Nothing whole is in the file.
    pub(crate) fn start_is_torn() -> Self {
        let what = "the file holds no whole entry".to_owned();
        Self { offset: 0, seq: 0, what, is_torn: true }
    }
}

/// One entry whose hash is right and which follows the entry before.
pub(crate) struct Entry<'a> {
    pub(crate) seq: u64,
    pub(crate) kind: EntryKind,
    pub(crate) follows: Hash,
    pub(crate) hash: Hash,
    pub(crate) payload: &'a [u8],
}

/// The entries of one file in order.
pub(crate) struct Entries<R = BufReader<File>> {
    reader: R,
    file_bytes: u64,
    offset: u64,
    head: Head,
    record: RecordId,
    frame: Vec<u8>,
}

impl Entries {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// The device's, or what is wrong with the header.
    pub(crate) fn open(path: &Path, kind: FileKind) -> io::Result<Result<Self, Fault>> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut bytes = [0; HEADER_BYTES];
        if let Err(error) = reader.read_exact(&mut bytes) {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return Err(error);
            }
            let what = format!("the file is {file_bytes} bytes long, shorter than a header");
            return Ok(Err(Fault { offset: 0, seq: 0, what, is_torn: true }));
        }
        Ok(match Header::decode(&bytes, kind) {
            Ok(header) => Ok(Self {
                reader,
                file_bytes,
                offset: HEADER_BYTES as u64,
                head: header.follows,
                record: header.record,
                frame: Vec::new(),
            }),
            Err(what) => Err(Fault { offset: 0, seq: 0, what, is_torn: false }),
        })
    }
}

impl<'a> Entries<&'a [u8]> {
    /// Entries in memory that follow `head`.
    pub(crate) fn following(head: Head, record: RecordId, bytes: &'a [u8]) -> Self {
        let file_bytes = bytes.len() as u64;
        Self { reader: bytes, file_bytes, offset: 0, head, record, frame: Vec::new() }
    }
}

impl<R: BufRead> Entries<R> {
    /// The entry that was read last (before the first: what the header says).
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// The id of the record that the file belongs to.
    pub(crate) fn record(&self) -> RecordId {
        self.record
    }

    /// Length of the header and of the entries read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the file ends in the middle of the next entry. That entry is read in vain then.
    pub(crate) fn is_torn_here(&mut self) -> bool {
        let rest = self.file_bytes.saturating_sub(self.offset);
        let Ok(head) = self.reader.fill_buf() else { return false };
        if rest == 0 {
            return false;
        }
        if rest < FRAME_HEAD_BYTES as u64 || head.len() < 4 {
            return true;
        }
        let payload_bytes = u64::from(read_u32(head));
        rest < payload_bytes + (FRAME_HEAD_BYTES + HASH_BYTES) as u64
    }

    /// Reads the next entry; None at the end of the file.
    ///
    /// # Errors
    /// What is wrong with it. Reading on after a fault gives more faults.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Fault> {
        let rest = self.file_bytes.saturating_sub(self.offset);
        if rest == 0 {
            return Ok(None);
        }
        if rest < FRAME_HEAD_BYTES as u64 {
            return Err(self.torn());
        }
        self.frame.resize(FRAME_HEAD_BYTES, 0);
        self.fill(0)?;
        let payload_bytes = read_u32(&self.frame) as usize;
        if payload_bytes > limits::RECORD_ENTRY_BYTES_MAX {
            let what = format!("its length, {payload_bytes}, is larger than an entry can be");
            return Err(self.bad(what));
        }
        let hashed_bytes = FRAME_HEAD_BYTES + payload_bytes;
        if rest < (hashed_bytes + HASH_BYTES) as u64 {
            return Err(self.torn());
        }
        self.frame.resize(hashed_bytes + HASH_BYTES, 0);
        self.fill(FRAME_HEAD_BYTES)?;
        self.check(hashed_bytes)
    }

    fn check(&mut self, hashed_bytes: usize) -> Result<Option<Entry<'_>>, Fault> {
        let (hashed, stored) = self.frame.split_at(hashed_bytes);
        let hash = sha256(hashed);
        if stored != hash {
            return Err(self.bad("its hash does not belong to its bytes".to_owned()));
        }
        let seq = read_u64(hashed.get(5..13).unwrap_or_default());
        let mut follows = [0; HASH_BYTES];
        follows.copy_from_slice(hashed.get(13..FRAME_HEAD_BYTES).unwrap_or(&[0; HASH_BYTES]));
        if seq != self.head.seq + 1 {
            let what = format!("number {seq} stands where number {} belongs", self.head.seq + 1);
            return Err(self.bad(what));
        }
        if follows != self.head.hash {
            return Err(self.bad("it does not follow the entry before it".to_owned()));
        }
        let kind_byte = hashed.get(4).copied().unwrap_or(0);
        let Some(kind) = EntryKind::from_byte(kind_byte) else {
            return Err(self.bad(format!("its kind, {kind_byte}, is not known")));
        };
        self.offset += self.frame.len() as u64;
        self.head = Head { seq, hash };
        let payload = self.frame.get(FRAME_HEAD_BYTES..hashed_bytes).unwrap_or_default();
        Ok(Some(Entry { seq, kind, follows, hash, payload }))
    }

    fn fill(&mut self, from: usize) -> Result<(), Fault> {
        let Some(place) = self.frame.get_mut(from..) else { return Ok(()) };
        match self.reader.read_exact(place) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.torn()),
            Err(error) => Err(self.bad(format!("it cannot be read: {error}"))),
        }
    }

    fn torn(&self) -> Fault {
        Fault {
            offset: self.offset,
            seq: self.head.seq + 1,
            what: "the file ends in the middle of this entry".to_owned(),
            is_torn: true,
        }
    }

    fn bad(&self, what: String) -> Fault {
        Fault { offset: self.offset, seq: self.head.seq + 1, what, is_torn: false }
    }
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Whether a file holds nothing but zeros from `offset`, or from a sector in the entry that begins
/// there: so a loss of power leaves it, when the file's length was written out and its last bytes
/// were not.
///
/// # Errors
/// The device's.
pub(crate) fn ends_in_zeros(path: &Path, offset: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let file = File::open(path)?;
    let mut start = [0; 4];
    let mut zeros_from = offset;
    let mut at = offset;
    let mut block = [0; 8192];
    loop {
        let count = file.read_at(&mut block, at)?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if at == offset {
            start.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        }
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            zeros_from = at + last as u64 + 1;
        }
        at += count as u64;
    }
    let entry_bytes = u64::from(u32::from_be_bytes(start)) + (FRAME_HEAD_BYTES + HASH_BYTES) as u64;
    let is_zero = zeros_from == offset;
    Ok(is_zero || zeros_from.next_multiple_of(SECTOR_BYTES) < (offset + entry_bytes).min(at))
}
