//! The files and directories that a channel holds open: the client's handles are the gateway's
//! own, so that a handle that was closed or belongs to another channel means nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use corral_session::Running;

use crate::sftp::codec::Status;
use crate::sftp::content::Content;
use crate::sftp::path::AbsolutePath;
use crate::sftp::statement::Access;

/// Handles are numbered once for all channels: none is ever given twice.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A handle's number; on the wire its eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HandleId(u64);

impl HandleId {
    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// What a handle is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandleKind {
    File(Access),
    Directory,
}

/// What is to be opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) path: AbsolutePath,
    pub(crate) kind: HandleKind,
    /// The permission bits that the open named.
    pub(crate) mode: Option<u32>,
}

/// An open file or directory, and the permit under which it is used.
#[derive(Debug)]
pub(crate) struct OpenHandle {
    /// The target's handle.
    pub(crate) target: Vec<u8>,
    pub(crate) opening: Opening,
    pub(crate) running: Running,
    pub(crate) content: Content,
    /// Names of directory entries that the client was given.
    pub(crate) names: u64,
    /// Requests without an answer.
    pub(crate) in_flight: usize,
    /// The client closed it.
    pub(crate) is_closing: bool,
    /// The target closed it.
    pub(crate) closed: Option<Status>,
}

/// The handles of one channel.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: HashMap<HandleId, OpenHandle>,
}

impl Handles {
    pub(crate) fn insert(&mut self, target: &[u8], opening: Opening, running: Running) -> HandleId {
        let id = HandleId(NEXT.fetch_add(1, Ordering::Relaxed));
        let handle = OpenHandle {
            target: target.to_owned(),
            opening,
            running,
            content: Content::default(),
            names: 0,
            in_flight: 0,
            is_closing: false,
            closed: None,
        };
        self.open.insert(id, handle);
        id
    }

    /// A client's handle that may be used.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<(HandleId, &OpenHandle)> {
        let id = HandleId::read(bytes)?;
        let handle = self.open.get(&id).filter(|handle| !handle.is_closing)?;
        Some((id, handle))
    }

    pub(crate) fn get_mut(&mut self, id: HandleId) -> Option<&mut OpenHandle> {
        self.open.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: HandleId) -> Option<OpenHandle> {
        self.open.remove(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Those that are left, the oldest first.
    pub(crate) fn take_all(&mut self) -> Vec<OpenHandle> {
        let mut left: Vec<(HandleId, OpenHandle)> = self.open.drain().collect();
        left.sort_unstable_by_key(|(id, _)| *id);
        left.into_iter().map(|(_, handle)| handle).collect()
    }
}
