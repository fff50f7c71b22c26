//! What one end sent on one channel and nobody took yet. Bytes are bounded by the channel's window
//! (a sender that ignores it is disconnected), requests by a count.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use corral_model::event::StreamEnd;
use russh::{ChannelId, Sig};
use tokio::sync::Notify;

use crate::bounds;
use corral_model::limits::STREAM_PIECE_BYTES_MAX;

/// Something that came on a channel.
#[derive(Debug)]
pub(crate) enum Item {
    Bytes(StreamEnd, Bytes),
    Word(Word),
}

/// What is not data.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    Eof,
    /// The channel is gone; nothing comes after it.
    Close,
    Resized(Size),
    Signal(Sig),
    Exited(u32),
    Killed {
        signal: Sig,
        has_core: bool,
        message: String,
    },
    /// The target granted what was asked for.
    Success,
    Failure,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: u32,
    pub(crate) rows: u32,
    pub(crate) width_px: u32,
    pub(crate) height_px: u32,
}

/// The sender does not keep to its window, or floods a channel with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more was sent on a channel than it has room for")]
pub(crate) struct Flood;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Piece>,
    bytes: usize,
    words: usize,
    is_closed: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(StreamEnd, BytesMut),
    Word(Word),
}

impl Inbox {
    /// # Errors
    /// [`Flood`]: the sender is to blame; its connection ends.
    pub(crate) fn push_bytes(&self, from: StreamEnd, data: &[u8]) -> Result<(), Flood> {
        {
            let mut state = self.lock();
            if state.is_closed || data.is_empty() {
                return Ok(());
            }
            state.bytes = state.bytes.saturating_add(data.len());
            // The window itself, and the gateway's own notices to a client.
            if state.bytes > 2 * bounds::WINDOW_BYTES as usize {
                return Err(Flood);
            }
            match state.items.back_mut() {
                // Small packets are put together, so that they cost no more memory than bytes.
                Some(Piece::Bytes(end, piece))
                    if *end == from && piece.len() + data.len() <= STREAM_PIECE_BYTES_MAX =>
                {
                    piece.extend_from_slice(data);
                }
                Some(Piece::Bytes(..) | Piece::Word(_)) | None => {
                    state.items.push_back(Piece::Bytes(from, BytesMut::from(data)));
                }
            }
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// # Errors
    /// [`Flood`]: the sender is to blame; its connection ends.
    pub(crate) fn push_word(&self, word: Word) -> Result<(), Flood> {
        let is_close = matches!(word, Word::Close);
        {
            let mut state = self.lock();
            if state.is_closed {
                return Ok(());
            }
            // Who drags a window's corner while nobody listens means the last size.
            if let (Word::Resized(size), Some(Piece::Word(Word::Resized(last)))) =
                (&word, state.items.back_mut())
            {
                *last = *size;
                return Ok(());
            }
            if !is_close && state.words >= bounds::CHANNEL_WORDS_MAX {
                return Err(Flood);
            }
            state.words += 1;
            state.is_closed = is_close;
            state.items.push_back(Piece::Word(word));
        }
        self.arrived.notify_one();
        if is_close {
            self.closed.notify_waiters();
        }
        Ok(())
    }

    /// The next thing that came. After [`Word::Close`] it waits for ever.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&self) -> Item {
        loop {
            let arrived = self.arrived.notified();
            if let Some(item) = self.take() {
                return item;
            }
            arrived.await;
        }
    }

    /// Waits until the sender closed the channel, whatever else waits before that.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub(crate) async fn closed(&self) {
        loop {
            let closed = self.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.lock().is_closed {
                return;
            }
            closed.await;
        }
    }

    fn take(&self) -> Option<Item> {
        let mut state = self.lock();
        match state.items.pop_front()? {
            Piece::Bytes(from, bytes) => {
                state.bytes = state.bytes.saturating_sub(bytes.len());
                Some(Item::Bytes(from, bytes.freeze()))
            }
            Piece::Word(word) => {
                state.words = state.words.saturating_sub(1);
                Some(Item::Word(word))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inboxes of one connection's channels.
#[derive(Debug, Default)]
pub(crate) struct Inboxes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    inboxes: HashMap<ChannelId, Arc<Inbox>>,
    is_closed: bool,
}

impl Inboxes {
    /// The channel's inbox; bytes may arrive before whoever opened the channel asks for it.
    pub(crate) fn of(&self, channel: ChannelId) -> Arc<Inbox> {
        let mut table = self.lock();
        let is_closed = table.is_closed;
        let inbox = table.inboxes.entry(channel).or_default().clone();
        if is_closed {
            // A close is taken by every inbox, however full.
            let _ = inbox.push_word(Word::Close);
        }
        inbox
    }

    pub(crate) fn forget(&self, channel: ChannelId) {
        self.lock().inboxes.remove(&channel);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().inboxes.len()
    }

    /// The connection is gone.
    pub(crate) fn close_all(&self) {
        let mut table = self.lock();
        table.is_closed = true;
        for inbox in table.inboxes.values() {
            let _ = inbox.push_word(Word::Close);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_packets_are_put_together_and_ends_kept_apart() {
        let inbox = Inbox::default();
        inbox.push_bytes(StreamEnd::Target, b"ab").expect("room");
        inbox.push_bytes(StreamEnd::Target, b"cd").expect("room");
        inbox.push_bytes(StreamEnd::TargetError, b"no").expect("room");
        inbox.push_word(Word::Eof).expect("room");
        let Item::Bytes(StreamEnd::Target, bytes) = inbox.next().await else { panic!("output") };
        assert_eq!(&bytes[..], b"abcd");
        let Item::Bytes(StreamEnd::TargetError, bytes) = inbox.next().await else {
            panic!("errors")
        };
        assert_eq!(&bytes[..], b"no");
        assert!(matches!(inbox.next().await, Item::Word(Word::Eof)));
    }

    #[tokio::test]
    async fn of_many_sizes_the_last_counts() {
        let inbox = Inbox::default();
        let size = |columns: u32| Size { columns, rows: 24, width_px: 0, height_px: 0 };
        for columns in 0..1_000 {
            inbox.push_word(Word::Resized(size(columns))).expect("room");
        }
        assert!(matches!(inbox.next().await, Item::Word(Word::Resized(last)) if last == size(999)));
    }

    #[tokio::test]
    async fn a_sender_that_ignores_its_window_is_a_flood() {
        let inbox = Inbox::default();
        let piece = vec![0_u8; bounds::PACKET_BYTES as usize];
        let room = 2 * bounds::WINDOW_BYTES / bounds::PACKET_BYTES;
        for _ in 0..room {
            inbox.push_bytes(StreamEnd::Client, &piece).expect("room");
        }
        assert_eq!(inbox.push_bytes(StreamEnd::Client, &piece), Err(Flood));
        for _ in 0..bounds::CHANNEL_WORDS_MAX {
            inbox.push_word(Word::Signal(Sig::INT)).expect("room");
        }
        assert_eq!(inbox.push_word(Word::Signal(Sig::INT)), Err(Flood));
        inbox.push_word(Word::Close).expect("a close is always taken");
        inbox.closed().await;
    }
}
