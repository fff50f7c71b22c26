//! Syncs files for all sessions that wait: files asked for while a round is under way are synced
//! once in the next, however many entries wait for each.
//!
//! The files of a round are synced by a few threads at once. Each sync waits for the device to
//! empty its cache, and a file system that keeps a journal (ext4, xfs) lets those that wait at the
//! same time share that: 16 files took 5 ms with 4 threads, and 44 ms one after the other.

use std::collections::HashMap;
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
    let mut places: HashMap<*const (), usize> = HashMap::new();
    let mut sinks: Vec<&Arc<dyn Sink>> = Vec::new();
    for sink in batch.iter().flat_map(|request| &request.sinks) {
        places.entry(address(sink)).or_insert_with(|| {
            sinks.push(sink);
            sinks.len() - 1
        });
    }
    let outcomes = sync_all(&sinks);
    let outcome_of = |sink: &Arc<dyn Sink>| {
        let place = places.get(&address(sink)).copied().unwrap_or(usize::MAX);
        // A file whose sync nobody told of is not synced.
        outcomes.get(place).copied().unwrap_or(Err(io::ErrorKind::Other)).map_err(io::Error::from)
    };
    batch.iter().map(|request| request.sinks.iter().try_for_each(outcome_of)).collect()
}

fn address(sink: &Arc<dyn Sink>) -> *const () {
    Arc::as_ptr(sink).cast()
}

/// One outcome for each sink, in their order.
fn sync_all(sinks: &[&Arc<dyn Sink>]) -> Vec<Result<(), io::ErrorKind>> {
    let share = sinks.len().div_ceil(limits::RECORD_SYNC_THREADS).max(1);
    let mut shares = sinks.chunks(share);
    let own = shares.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = shares
            .map(|share| {
                (share, std::thread::Builder::new().spawn_scoped(scope, || sync_one_by_one(share)))
            })
            .collect();
        let mut outcomes = sync_one_by_one(own);
        for (share, other) in others {
            outcomes.extend(match other.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(outcomes)) => outcomes,
                // It panicked: nothing is known of its files.
                Ok(Err(_)) => vec![Err(io::ErrorKind::Other); share.len()],
                // No thread was to be had: slower, and as sound.
                Err(_) => sync_one_by_one(share),
            });
        }
        outcomes
    })
}

fn sync_one_by_one(sinks: &[&Arc<dyn Sink>]) -> Vec<Result<(), io::ErrorKind>> {
    sinks.iter().map(|sink| sink.sync().map_err(|error| error.kind())).collect()
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

    /// Says when it is synced, and waits there until all others are; fails where it is told to.
    struct Meeting {
        all: Arc<std::sync::Barrier>,
        fails: bool,
    }

    impl Sink for Meeting {
        fn write_at(&self, bytes: &[u8], _offset: u64) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn truncate(&self, _bytes: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.all.wait();
            if self.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn files_of_a_round_are_synced_at_once_and_each_has_its_own_outcome() {
        let all = Arc::new(std::sync::Barrier::new(limits::RECORD_SYNC_THREADS));
        let batch: Vec<Request> = (0..limits::RECORD_SYNC_THREADS)
            .map(|number| {
                let sink: Arc<dyn Sink> =
                    Arc::new(Meeting { all: all.clone(), fails: number == 1 });
                Request { sinks: vec![sink], done: oneshot::channel().0 }
            })
            .collect();
        // One after the other they would wait for each other for ever.
        let kinds: Vec<_> = sync_each_once(&batch)
            .into_iter()
            .map(|result| result.map_err(|error| error.kind()))
            .collect();
        for (number, kind) in kinds.into_iter().enumerate() {
            let expect = if number == 1 { Err(io::ErrorKind::StorageFull) } else { Ok(()) };
            assert_eq!(kind, expect, "file {number}");
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
