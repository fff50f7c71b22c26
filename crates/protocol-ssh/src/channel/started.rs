//! What runs at the target for one channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use corral_gate::{Denial, DenialKind};
use corral_model::event::EventBody;
use corral_model::limits;
use corral_session::Running;
use russh::client::Msg;
use russh::{ChannelId, ChannelWriteHalf, Sig};
use tokio::time::timeout;

use crate::bounds;
use crate::channel::client::ClientChannel;
use crate::channel::{Ask, Setup, Terminal, pump, unopened};
use crate::inbox::{Inbox, Item, Size, Word};
use crate::live::Live;
use crate::recording::Kept;
use crate::sftp;

/// The target's end of a channel.
pub(crate) struct TargetChannel {
    write: ChannelWriteHalf<Msg>,
    inbox: Arc<Inbox>,
    /// Consumed bytes for which no window was given back.
    owed: AtomicU32,
}

impl TargetChannel {
    pub(crate) fn new(write: ChannelWriteHalf<Msg>, inbox: Arc<Inbox>) -> Self {
        Self { write, inbox, owed: AtomicU32::new(0) }
    }

    /// Opens a session channel at the target.
    async fn open(live: &Live) -> Result<Self, Denial> {
        let channel = live.target.channel_open_session().await.map_err(|error| unopened(&error))?;
        let (_, write) = channel.split();
        let inbox = live.from_target.of(write.id());
        Ok(Self::new(write, inbox))
    }

    pub(crate) fn id(&self) -> ChannelId {
        self.write.id()
    }

    pub(crate) async fn next(&self) -> Item {
        self.inbox.next().await
    }

    pub(crate) async fn closed(&self) {
        self.inbox.closed().await;
    }

    /// # Errors
    /// The connection is gone.
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), russh::Error> {
        self.write.data_bytes(bytes).await
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

    pub(crate) async fn eof(&self) {
        let _ = self.write.eof().await;
    }

    pub(crate) async fn signal(&self, signal: Sig) {
        let _ = self.write.signal(signal).await;
    }

    pub(crate) async fn resize(&self, size: Size) {
        let Size { columns, rows, width_px, height_px } = size;
        let _ = self.write.window_change(columns, rows, width_px, height_px).await;
    }

    pub(crate) async fn close(&self) {
        let _ = self.write.close().await;
    }

    /// Waits for the answer to a request.
    async fn is_granted(&self) -> Result<bool, Denial> {
        loop {
            match self.inbox.next().await {
                Item::Word(Word::Success) => return Ok(true),
                Item::Word(Word::Failure) => return Ok(false),
                Item::Word(Word::Close) => return Err(lost("the target closed the channel")),
                // Nothing runs yet; a target that talks already breaks the protocol.
                Item::Bytes(..)
                | Item::Word(
                    Word::Eof
                    | Word::Resized(_)
                    | Word::Signal(_)
                    | Word::Exited(_)
                    | Word::Killed { .. },
                ) => {}
            }
        }
    }
}

/// Runs what was permitted, and records how it ended.
///
/// # Errors
/// A [`Denial`] that the client has not read yet: the target is to blame, or the session ended.
pub(super) async fn run(
    live: &Live,
    client: &ClientChannel,
    setup: &Setup,
    ask: &Ask,
    running: Running,
) -> Result<(), Denial> {
    client.started();
    note_size(live, setup, &running).await;
    let late = |_| lost("the target did not answer in time");
    let open = timeout(limits::TARGET_LOGIN_DEADLINE, TargetChannel::open(live));
    let target = open.await.map_err(late)??;
    let start = timeout(limits::TARGET_LOGIN_DEADLINE, start(client, &target, setup, ask));
    let started = start.await.map_err(late).and_then(std::convert::identity);
    let ended = match started {
        Ok(()) => match ask {
            Ask::Subsystem(name) if name == sftp::SUBSYSTEM => {
                sftp::run(live, client, &target, setup.traceparent.as_ref(), running).await
            }
            Ask::Shell | Ask::Exec(_) | Ask::Subsystem(_) => {
                pump::run(live, client, &target, running, Kept::Everything).await
            }
        },
        Err(denial) => {
            target.close().await;
            Err(denial)
        }
    };
    live.from_target.forget(target.id());
    ended
}

/// A recording begins with the size of its terminal.
async fn note_size(live: &Live, setup: &Setup, running: &Running) {
    let Some(Terminal { size, .. }) = &setup.terminal else { return };
    let (columns, rows) = (size.columns, size.rows);
    // A client without a terminal of its own says nothing.
    if columns > 0 && rows > 0 {
        let seq_in_session = running.seq();
        live.session.note(EventBody::TerminalResized { seq_in_session, columns, rows }).await;
    }
}

async fn start(
    client: &ClientChannel,
    target: &TargetChannel,
    setup: &Setup,
    ask: &Ask,
) -> Result<(), Denial> {
    if let Some(terminal) = &setup.terminal
        && !open_terminal(target, terminal).await?
    {
        client.say("corral: the target gives no terminal").await;
    }
    for (name, value) in &setup.variables {
        // A target that does not take one says nothing, as in `ssh`.
        target.write.set_env(false, name, value).await.map_err(broken)?;
    }
    let asked = match ask {
        Ask::Shell => target.write.request_shell(true).await,
        Ask::Exec(command) => target.write.exec(true, command.as_slice()).await,
        Ask::Subsystem(name) => target.write.request_subsystem(true, name).await,
    };
    asked.map_err(broken)?;
    if target.is_granted().await? {
        return Ok(());
    }
    Err(lost("the target refused to start it"))
}

async fn open_terminal(target: &TargetChannel, terminal: &Terminal) -> Result<bool, Denial> {
    let Size { columns, rows, width_px, height_px } = terminal.size;
    let (term, modes) = (terminal.term.as_str(), terminal.modes.as_slice());
    let asked =
        target.write.request_pty(true, term, columns, rows, width_px, height_px, modes).await;
    asked.map_err(broken)?;
    target.is_granted().await
}

fn broken(_: russh::Error) -> Denial {
    lost("the target closed the connection")
}

fn lost(text: &str) -> Denial {
    Denial::new(DenialKind::TargetUnavailable, text)
}
