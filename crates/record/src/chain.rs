//! One chain being written: where it ends, and how the next entry gets there whole or not at all.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use corral_model::limits;

use crate::format::{EntryKind, HEADER_BYTES, Head, Header, encode_frame};
use crate::sink::{Sink, write_all};
use crate::unsynced::{Due, Unsynced};

thread_local! {
    /// Where this thread makes entries: taken and given back within one of them, so that no chain
    /// holds room for its next one.
    static ENTRY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A chain's last file. An entry is in it whole, or the file is cut back to the entry before.
pub(crate) struct Chain {
    sink: Arc<dyn Sink>,
    head: Head,
    /// Length of the header and all whole entries; what stands behind is never read again.
    bytes: u64,
    /// Cutting back failed: it is tried again before the next entry is written.
    is_torn: bool,
    unsynced: Unsynced,
}

/// An entry that is in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    /// Of the whole entry.
    pub(crate) bytes: u64,
}

/// Writes an entry's payload behind what is in the buffer; it is told the entry's number and the
/// hash of the entry before.
pub(crate) type Fill<'a> = &'a mut dyn FnMut(&mut Vec<u8>, Head) -> io::Result<()>;

impl Chain {
    /// A chain that goes on after `head` in a file of `bytes` bytes.
    pub(crate) fn resume(sink: Arc<dyn Sink>, head: Head, bytes: u64) -> Self {
        Self { sink, head, bytes, is_torn: false, unsynced: Unsynced::Uncounted }
    }

    /// Writes the header and the first entry of a file, in one write.
    ///
    /// # Errors
    /// The device's; then the file is empty, or has to be removed.
    pub(crate) fn start(sink: Arc<dyn Sink>, first: &FirstEntry) -> io::Result<Self> {
        let mut chain = Self::resume(sink, first.head, 0);
        chain.write(&first.bytes)?;
        Ok(chain)
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Keeps what is written until it is synced. Said once the file's first entry is written.
    pub(crate) fn count_unsynced(&mut self) {
        self.unsynced = Unsynced::File;
    }

    /// What has to be made durable for every entry so far to be so.
    pub(crate) fn take_due(&mut self) -> Due {
        self.unsynced.take(self.bytes)
    }

    /// A sync failed.
    pub(crate) fn doubt(&mut self) {
        self.unsynced.doubt();
    }

    /// Writes one entry with one system call.
    ///
    /// # Errors
    /// The device's, or `InvalidInput` when the entry is too long; the chain is as it was, and the
    /// same call may succeed later.
    pub(crate) fn append(&mut self, kind: EntryKind, fill: Fill<'_>) -> io::Result<Written> {
        let mut entry = ENTRY.take();
        entry.clear();
        let result = self.append_in(&mut entry, kind, fill);
        if entry.capacity() <= limits::RECORD_BUFFER_BYTES_KEPT {
            ENTRY.set(entry);
        }
        result
    }

    fn append_in(
        &mut self,
        entry: &mut Vec<u8>,
        kind: EntryKind,
        fill: Fill<'_>,
    ) -> io::Result<Written> {
        let head = encode_frame(entry, kind, self.head, fill)?;
        if self.is_torn {
            self.sink.truncate(self.bytes)?;
            self.is_torn = false;
        }
        let start = self.bytes;
        self.write(entry)?;
        self.head = head;
        self.unsynced.add(entry);
        Ok(Written { seq: head.seq, bytes: self.bytes - start })
    }

    /// All of it is in the file behind what is counted, or the file is cut back.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = write_all(self.sink.as_ref(), bytes, self.bytes);
        if written.is_ok() {
            self.bytes += bytes.len() as u64;
        } else {
            // Also when nothing was counted: a failed write may have moved the end of the file.
            self.is_torn = self.sink.truncate(self.bytes).is_err();
            tracing::debug!(is_torn = self.is_torn, "an entry was cut back");
        }
        written
    }
}

/// A file's header and first entry, made before anything is written, because the first hash goes
/// into the gateway's chain before the file exists.
pub(crate) struct FirstEntry {
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
}

impl FirstEntry {
    /// What is to be said of it once it is in the record.
    pub(crate) fn written(&self) -> Written {
        Written { seq: self.head.seq, bytes: self.bytes.len() as u64 }
    }

    /// # Errors
    /// `fill`'s, or `InvalidInput` when the entry is too long.
    pub(crate) fn encode(header: Header, kind: EntryKind, fill: Fill<'_>) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 512);
        bytes.extend_from_slice(&header.encode());
        let head = encode_frame(&mut bytes, kind, header.follows, fill)?;
        Ok(Self { bytes, head })
    }
}
