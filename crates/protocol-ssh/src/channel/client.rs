//! The client's end of a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use corral_model::event::StreamEnd;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelWriteHalf, Sig};

use crate::bounds;
use crate::inbox::{Inbox, Item};

/// SSH_EXTENDED_DATA_STDERR (RFC 4254 section 5.2).
const STDERR: u32 = 1;

/// What a channel's task has of its client.
pub(crate) struct ClientChannel {
    write: ChannelWriteHalf<Msg>,
    handle: Handle,
    inbox: Arc<Inbox>,
    is_started: AtomicBool,
    /// Lines end as terminals want it.
    has_terminal: bool,
    /// Consumed bytes for which no window was given back.
    owed: AtomicU32,
    /// The end of the data was told.
    is_at_end: AtomicBool,
}

impl ClientChannel {
    pub(crate) fn new(channel: Channel<Msg>, handle: Handle, inbox: Arc<Inbox>) -> Self {
        // What comes is taken from the inbox; the library's own queue would stop its loop.
        let (_, write) = channel.split();
        Self {
            write,
            handle,
            inbox,
            is_started: AtomicBool::new(false),
            has_terminal: false,
            owed: AtomicU32::new(0),
            is_at_end: AtomicBool::new(false),
        }
    }

    /// The client asked for a terminal.
    pub(crate) fn with_terminal(mut self) -> Self {
        self.has_terminal = true;
        self
    }

    pub(crate) fn id(&self) -> ChannelId {
        self.write.id()
    }

    /// From here on, whoever copies sees that the client is gone.
    pub(crate) fn started(&self) {
        self.is_started.store(true, Ordering::Relaxed);
    }

    /// The client closed the channel before anything ran.
    pub(crate) async fn gone_before_start(&self) {
        self.inbox.closed().await;
        if self.is_started.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
    }

    pub(crate) async fn next(&self) -> Item {
        self.inbox.next().await
    }

    /// # Errors
    /// The connection is gone.
    pub(crate) async fn send(&self, from: StreamEnd, bytes: Bytes) -> Result<(), russh::Error> {
        match from {
            StreamEnd::Target | StreamEnd::Client => self.write.data_bytes(bytes).await,
            StreamEnd::TargetError => self.write.extended_data_bytes(STDERR, bytes).await,
        }
    }

    /// Gives window back for what was consumed, in portions.
    pub(crate) async fn consumed(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let owed = self.owed.load(Ordering::Relaxed).saturating_add(count);
        if owed < bounds::GRANT_BYTES {
            self.owed.store(owed, Ordering::Relaxed);
            return;
        }
        self.owed.store(0, Ordering::Relaxed);
        // A connection that is gone needs no window.
        let _ = self.write.grant_window(owed).await;
    }

    /// Writes a line of the gateway's own to the client's standard error, while it reads. One
    /// that was told the end of the data takes more for an error.
    pub(crate) async fn say(&self, line: &str) {
        if self.is_at_end.load(Ordering::Relaxed) {
            return;
        }
        let line_end = if self.has_terminal { "\r\n" } else { "\n" };
        let bytes = Bytes::from(format!("{line}{line_end}"));
        let words = self.write.extended_data_bytes(STDERR, bytes);
        tokio::select! {
            _ = words => {}
            () = self.inbox.closed() => {}
            () = tokio::time::sleep(bounds::CHANNEL_FAREWELL) => {}
        }
    }

    /// Says that no more data comes; once, because clients take a second one for an error.
    pub(crate) async fn eof(&self) {
        if !self.is_at_end.swap(true, Ordering::Relaxed) {
            let _ = self.write.eof().await;
        }
    }

    pub(crate) async fn exit(&self, status: u32) {
        let _ = self.write.exit_status(status).await;
    }

    pub(crate) async fn killed(&self, signal: Sig, has_core: bool, message: String) {
        let language = String::new();
        let id = self.id();
        let _ = self.handle.exit_signal_request(id, signal, has_core, message, language).await;
    }

    pub(crate) async fn close(&self) {
        self.eof().await;
        let _ = self.write.close().await;
    }
}
