//! Recordings for people: a transcript in text, and casts of terminals. Pure: events in, text
//! out. Whoever shows it keeps the time.
//!
//! Control characters of recorded texts are shown as escapes, so that a replay cannot drive the
//! terminal that shows it.

use corral_model::Event;
use corral_model::event::EventBody;
use serde::{Deserialize, Serialize};

mod body;
mod cast;
mod plain;
pub(crate) mod stream;
mod timeline;
mod transcript;
mod words;

pub use cast::{CastError, CastVersion, cast};
pub use plain::{is_hidden, plain_json};
pub use timeline::{TimelineApproval, TimelineEntry, TimelineResult, timeline};

/// How much of streams a transcript shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// How many bytes went which way.
    #[default]
    Compact,
    /// What was said.
    Full,
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Since the first event, in milliseconds; never less than the line before.
    pub offset_ms: u64,
    /// Without a line end.
    pub text: String,
}

/// A transcript: what was asked, decided and done, in the order of `events`, with times since the
/// first one. Events of several sessions get columns that name the run and the session's target.
#[must_use]
pub fn lines(events: &[Event], detail: Detail) -> Vec<Line> {
    let mut transcript = transcript::Transcript::of(events, detail);
    let bursts = stream::bursts(events);
    for (index, event) in events.iter().enumerate() {
        match (&event.body, bursts.get(&index)) {
            (_, Some(burst)) => transcript.burst(event, burst),
            // Told with the first piece of its burst.
            (EventBody::StreamPassed { .. }, None) => {}
            (_, None) => transcript.event(event),
        }
    }
    transcript.lines
}

/// [`lines`] as one text.
#[must_use]
pub fn text(events: &[Event], detail: Detail) -> String {
    let mut text = String::new();
    for line in lines(events, detail) {
        text.push_str(line.text.trim_end());
        text.push('\n');
    }
    text
}
