//! The thread that makes checkpoints: by time, and sooner when many entries wait for one.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use corral_model::limits;

use crate::error::RecordError;

/// Who makes checkpoints.
pub(crate) trait Signs: Send + Sync + 'static {
    /// # Errors
    /// When the device refuses; it is tried again.
    fn checkpoint(&self) -> Result<bool, RecordError>;
}

/// The thread and the bell that wakes it.
pub(crate) struct Signer {
    pokes: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Signer {
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Self { pokes: Mutex::new(Some(sender)), thread: Mutex::new(None) }, receiver)
    }

    pub(crate) fn start<S: Signs>(&self, signs: Weak<S>, pokes: Receiver<()>) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name("record-sign".to_owned())
            .spawn(move || sign_until_gone(&signs, &pokes))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    pub(crate) fn poke(&self) {
        let pokes = self.pokes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pokes) = pokes.as_ref() {
            // Full: it is already on its way.
            let _ = pokes.try_send(());
        }
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        *self.pokes.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The signer itself may be the last to hold the recorder.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that signs the record had panicked");
        }
    }
}

fn sign_until_gone<S: Signs>(signs: &Weak<S>, pokes: &Receiver<()>) {
    loop {
        match pokes.recv_timeout(limits::RECORD_CHECKPOINT_INTERVAL) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(signs) = signs.upgrade() else { return };
        if let Err(error) = signs.checkpoint() {
            tracing::warn!(%error, "the record cannot be signed; it is tried again");
        }
    }
}
