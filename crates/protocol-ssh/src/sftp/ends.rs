//! An SFTP channel between a client's and a target's SSH channel.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use corral_gate::Denial;
use corral_model::TraceParent;
use corral_model::event::StreamEnd;
use corral_session::{Completion, Running};
use tokio::time::timeout;

use crate::channel::{ClientChannel, TargetChannel};
use crate::inbox::{Item, Word};
use crate::live::Live;
use crate::sftp::bounds;
use crate::sftp::serve::{ClientSide, Ending, Opener, Piece, Side, serve};

/// The subsystem's name.
pub(crate) const SUBSYSTEM: &str = "sftp";

/// Serves a started subsystem to its end, and completes its statement.
///
/// # Errors
/// A [`Denial`] that the client's person has not read yet: the session ended, or one side broke
/// the protocol.
pub(crate) async fn run(
    live: &Live,
    client: &ClientChannel,
    target: &TargetChannel,
    traceparent: Option<&TraceParent>,
    running: Running,
) -> Result<(), Denial> {
    let client_end = ClientEnd { channel: client, bytes: AtomicU64::new(0) };
    let target_end =
        TargetEnd { channel: target, bytes: AtomicU64::new(0), exit: Mutex::default() };
    let opener = Opener { account: &live.login, traceparent };
    let ending = serve(&live.session, opener, &client_end, &target_end).await;
    target.close().await;
    let exit = *target_end.exit.lock().unwrap_or_else(PoisonError::into_inner);
    let (code, refusal) = match ending {
        Ending::TargetLeft | Ending::ClientLeft => {
            if let Some(status) = exit {
                client.exit(status).await;
            }
            (exit.map_or_else(|| "closed".to_owned(), |status| status.to_string()), None)
        }
        Ending::SessionEnded(end) => ("aborted".to_owned(), Some(end.denial)),
        Ending::Refused(denial) => ("refused".to_owned(), Some(denial)),
    };
    let passed = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
    let bytes = passed(&client_end.bytes).saturating_add(passed(&target_end.bytes));
    running.finish(Completion { code, bytes, ..Completion::default() }).await;
    refusal.map_or(Ok(()), Err)
}

struct ClientEnd<'c> {
    channel: &'c ClientChannel,
    /// Came from here.
    bytes: AtomicU64,
}

struct TargetEnd<'c> {
    channel: &'c TargetChannel,
    /// Came from here.
    bytes: AtomicU64,
    /// Exit status of the target's server.
    exit: Mutex<Option<u32>>,
}

fn add(bytes: &AtomicU64, count: usize) {
    bytes.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Side for ClientEnd<'_> {
    async fn next(&self) -> Piece {
        loop {
            match self.channel.next().await {
                Item::Bytes(_, bytes) => return Piece::Bytes(bytes),
                Item::Word(Word::Eof | Word::Close) => return Piece::End,
                // There is no terminal, and nothing to signal.
                Item::Word(
                    Word::Success
                    | Word::Failure
                    | Word::Resized(_)
                    | Word::Signal(_)
                    | Word::Exited(_)
                    | Word::Killed { .. },
                ) => {}
            }
        }
    }

    async fn taken(&self, count: usize) {
        add(&self.bytes, count);
        self.channel.consumed(count).await;
    }

    async fn send(&self, bytes: Bytes) -> bool {
        self.channel.send(StreamEnd::Target, bytes).await.is_ok()
    }

    async fn end(&self) {
        self.channel.eof().await;
    }
}

impl ClientSide for ClientEnd<'_> {
    async fn tell(&self, bytes: Bytes) {
        let words = self.channel.send(StreamEnd::TargetError, bytes);
        let _ = timeout(bounds::GOODBYE, words).await;
    }
}

impl Side for TargetEnd<'_> {
    async fn next(&self) -> Piece {
        loop {
            match self.channel.next().await {
                Item::Bytes(StreamEnd::TargetError, bytes) => return Piece::Aside(bytes),
                Item::Bytes(StreamEnd::Target | StreamEnd::Client, bytes) => {
                    return Piece::Bytes(bytes);
                }
                Item::Word(Word::Exited(status)) => {
                    *self.exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                }
                // What ended it is said before the channel is closed, and after its last bytes.
                Item::Word(Word::Close) => return Piece::End,
                Item::Word(
                    Word::Eof
                    | Word::Success
                    | Word::Failure
                    | Word::Resized(_)
                    | Word::Signal(_)
                    | Word::Killed { .. },
                ) => {}
            }
        }
    }

    async fn taken(&self, count: usize) {
        add(&self.bytes, count);
        self.channel.consumed(count).await;
    }

    async fn send(&self, bytes: Bytes) -> bool {
        tokio::select! {
            sent = self.channel.send(bytes) => sent.is_ok(),
            () = self.channel.closed() => false,
        }
    }

    async fn end(&self) {
        self.channel.eof().await;
    }
}
