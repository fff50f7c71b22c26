//! Events as JSON lines on standard output or in a file, for whoever collects logs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context;
use corral_record::{Followed, Follower};

use crate::settings::Events;

/// Writes every event until the recorder is gone. The record itself does not wait for it: events
/// that a slow reader missed are counted in a line of their own.
pub(crate) fn start(events: &Events, mut follower: Follower) -> anyhow::Result<()> {
    let mut out: Box<dyn Write + Send> = match events {
        Events::Stdout => Box::new(std::io::stdout()),
        Events::File(path) => {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
            let file = file.with_context(|| format!("events: cannot write {}", path.display()))?;
            Box::new(file)
        }
    };
    tokio::spawn(async move {
        while let Some(followed) = follower.next().await {
            let line = match followed {
                Followed::Event(event) => serde_json::to_vec(&event),
                Followed::Missed(missed) => {
                    serde_json::to_vec(&serde_json::json!({"event": "missed", "count": missed}))
                }
            };
            let Ok(mut line) = line else { continue };
            line.push(b'\n');
            // A full disk or a closed pipe must not stop anything: the record has the events.
            let written = tokio::task::block_in_place(|| out.write_all(&line));
            if let Err(error) = written {
                tracing::warn!(%error, "an event line cannot be written");
            }
        }
    });
    Ok(())
}
