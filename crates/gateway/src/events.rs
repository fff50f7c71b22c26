//! Events as JSON lines on standard output or in a file, for whoever collects logs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use corral_record::{Followed, Follower};
use tokio::sync::Notify;

use crate::settings::Events;

/// Writes every event until it is stopped. The record does not wait for it: events that a slow
/// reader missed are counted in a line of their own.
pub(crate) struct EventLines {
    thread: JoinHandle<()>,
    stop: Arc<Notify>,
}

impl EventLines {
    /// Starts a thread of its own, because a pipe that nobody reads blocks its writer.
    pub(crate) fn start(events: &Events, follower: Follower) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = match events {
            Events::Stdout => Box::new(std::io::stdout()),
            Events::File(path) => {
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
                let shown = path.display();
                Box::new(file.with_context(|| format!("events: cannot write {shown}"))?)
            }
        };
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Handle::current();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("event-lines".to_owned())
            .spawn(move || runtime.block_on(write_all(follower, out, &stopped)))
            .context("events: no thread can be started")?;
        Ok(Self { thread, stop })
    }

    /// Writes what waits, and stops. Blocks as long as the reader of a pipe does.
    pub(crate) fn stop(self) {
        self.stop.notify_one();
        if self.thread.join().is_err() {
            tracing::warn!("the thread that writes event lines had panicked");
        }
    }
}

async fn write_all(mut follower: Follower, mut out: Box<dyn Write + Send>, stop: &Notify) {
    loop {
        let followed = tokio::select! {
            followed = follower.next() => followed,
            () = stop.notified() => break,
        };
        let Some(followed) = followed else { return };
        write(&followed, &mut out);
    }
    while let Some(followed) = follower.try_next() {
        write(&followed, &mut out);
    }
}

/// A full disk or a closed pipe must not stop anything: the record has the events.
fn write(followed: &Followed, out: &mut Box<dyn Write + Send>) {
    let line = match followed {
        Followed::Event(event) => serde_json::to_vec(event),
        Followed::Missed(missed) => {
            serde_json::to_vec(&serde_json::json!({"event": "missed", "count": missed}))
        }
    };
    let Ok(mut line) = line else { return };
    line.push(b'\n');
    if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
        tracing::warn!(%error, "an event line cannot be written");
    }
}
