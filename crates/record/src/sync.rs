//! One thread that syncs files for all sessions that wait: files asked for while it is busy are
//! synced once, however many entries wait for each.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use corral_model::limits;
use tokio::sync::oneshot;

use crate::sink::Sink;

/// Syncs asked for at once are one sync for each file.
pub(crate) struct Syncer {
    /// None only while it is dropped.
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    sinks: Vec<Arc<dyn Sink>>,
    done: oneshot::Sender<io::Result<()>>,
}

impl Syncer {
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start() -> io::Result<Self> {
        let (requests, receiver) = sync_channel(limits::RECORD_SYNC_QUEUE_LEN_MAX);
        let thread = std::thread::Builder::new()
            .name("record-sync".to_owned())
            .spawn(move || serve(&receiver))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Returns when everything that was written to `sinks` before the call is synced.
    ///
    /// # Errors
    /// The device's, or when [`limits::RECORD_SYNC_QUEUE_LEN_MAX`] requests wait.
    ///
    /// # Cancel safety
    /// Dropping the future only forgets the result.
    pub(crate) fn sync(
        &self,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (done, result) = oneshot::channel();
        let sent = match &self.requests {
            Some(requests) => requests.try_send(Request { sinks, done }).map_err(refusal),
            None => Err(ended()),
        };
        async move {
            sent?;
            result.await.unwrap_or_else(|_| Err(ended()))
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that syncs the record had panicked");
        }
    }
}

fn refusal(error: TrySendError<Request>) -> io::Error {
    match error {
        TrySendError::Full(_) => {
            io::Error::new(io::ErrorKind::WouldBlock, "too many sessions wait for a sync")
        }
        TrySendError::Disconnected(_) => ended(),
    }
}

fn ended() -> io::Error {
    io::Error::other("the record's sync thread has ended")
}

fn serve(requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        batch.extend(requests.try_iter().take(limits::RECORD_SYNC_QUEUE_LEN_MAX));
        let results = sync_each_once(&batch);
        for (request, result) in batch.into_iter().zip(results) {
            // The session may have ended while it waited.
            let _ = request.done.send(result);
        }
    }
}

fn sync_each_once(batch: &[Request]) -> Vec<io::Result<()>> {
    let mut synced: std::collections::HashMap<*const (), Option<io::ErrorKind>> =
        std::collections::HashMap::new();
    let mut results = Vec::with_capacity(batch.len());
    for request in batch {
        let mut result = Ok(());
        for sink in &request.sinks {
            let outcome = *synced
                .entry(Arc::as_ptr(sink).cast::<()>())
                .or_insert_with(|| sink.sync().err().map(|error| error.kind()));
            if let Some(kind) = outcome {
                result = Err(kind.into());
            }
        }
        results.push(result);
    }
    results
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts syncs; each waits until the test lets it go.
    struct Gate {
        syncs: AtomicUsize,
        started: SyncSender<()>,
        go: Mutex<Receiver<()>>,
    }

    impl Sink for Gate {
        fn write_at(&self, bytes: &[u8], _offset: u64) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn truncate(&self, _bytes: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            self.started.send(()).map_err(io::Error::other)?;
            self.go.lock().expect("not poisoned").recv().map_err(io::Error::other)
        }
    }

    #[test]
    fn waits_that_come_during_a_sync_share_the_next() {
        let (started, has_started) = sync_channel(8);
        let (go, wait) = sync_channel(8);
        let gate = Arc::new(Gate { syncs: AtomicUsize::new(0), started, go: Mutex::new(wait) });
        let sink: Arc<dyn Sink> = gate.clone();
        let syncer = Syncer::start().expect("a thread");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");

        let first = syncer.sync(vec![Arc::clone(&sink)]);
        has_started.recv().expect("the first sync runs");
        let others: Vec<_> = (0..20).map(|_| syncer.sync(vec![Arc::clone(&sink)])).collect();
        go.send(()).expect("the first sync ends");
        go.send(()).expect("the second sync ends");

        runtime.block_on(first).expect("synced");
        for other in others {
            runtime.block_on(other).expect("synced");
        }
        assert_eq!(gate.syncs.load(Ordering::SeqCst), 2);
    }
}
