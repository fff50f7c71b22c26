//! Recordings as asciicasts, versions 2 and 3 (<https://docs.asciinema.org/manual/asciicast/v2/>,
//! <https://docs.asciinema.org/manual/asciicast/v3/>): of a terminal, as it was, or of a
//! transcript.
//!
//! A cast carries what the target wrote, escapes included, for a player to interpret. Its own text
//! holds no control character: they are `\uXXXX` in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corral_model::Event;
use corral_model::event::{EventBody, Outcome, StreamEnd};
use corral_model::ids::{SessionId, StatementSeq};
use corral_model::statement::Attribute;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::plain::{plain, plain_json};
use super::stream::{Decoder, bytes_of};
use super::words::statement_text;
use super::{Detail, lines};

/// Size of a transcript.
const TRANSCRIPT_SIZE: Size = Size { columns: 120, rows: 40 };
/// Size of a terminal whose client did not say (RFC 4254 section 6.2 has no default).
const TERMINAL_SIZE: Size = Size { columns: 80, rows: 24 };

/// Between two terminals of one cast.
const SCENE_PAUSE: Duration = Duration::from_secs(1);
/// Resets a terminal (ECMA-48 RIS), so that the next one begins with an empty screen.
const RESET: &str = "\u{1b}c";

/// Which asciicast is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastVersion {
    V2,
    V3,
}

/// Why there is no cast of what was asked for: the caller is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    #[error("statements are numbered in each session; name a session, not a run, with a statement")]
    ManySessions,
    #[error("there is no statement {0} in this session")]
    NoStatement(u64),
    #[error("statement {0} has no stream; the recorded ones with a stream are {1}")]
    NoStream(u64, String),
}

/// A cast of one statement's stream: of `statement`, or of the first with a terminal when `events`
/// are of one session. Of several sessions, all terminals in the order in which they began, one
/// after the other, each behind a marker that names it. Where there is none, a cast of the
/// transcript.
///
/// # Errors
/// [`CastError`], when `statement` names nothing that can be played.
pub fn cast(
    events: &[Event],
    title: &str,
    version: CastVersion,
    statement: Option<StatementSeq>,
) -> Result<String, CastError> {
    let sessions = by_session(events);
    let terminals = |session: &[&Event]| -> Vec<StatementSeq> {
        streams(session).into_iter().filter(|seq| is_terminal(session, *seq)).collect()
    };
    let scene = match (sessions.as_slice(), statement) {
        ([session], Some(wanted)) => {
            check_stream(session, wanted)?;
            Some(Scene::of_stream(session, wanted))
        }
        (_, Some(_)) => return Err(CastError::ManySessions),
        ([session], None) => {
            terminals(session).first().map(|first| Scene::of_stream(session, *first))
        }
        (sessions, None) => {
            let scenes = sessions.iter().flat_map(|session| {
                let of_terminal =
                    move |seq| (name_of(session, seq), Scene::of_stream(session, seq));
                terminals(session).into_iter().map(of_terminal)
            });
            Scene::joined(scenes.collect())
        }
    };
    let scene = scene.unwrap_or_else(|| Scene::of_transcript(events));
    Ok(scene.write(title, version))
}

/// The events of each session, which began in this order.
fn by_session(events: &[Event]) -> Vec<Vec<&Event>> {
    let mut places: BTreeMap<&SessionId, usize> = BTreeMap::new();
    let mut sessions: Vec<Vec<&Event>> = Vec::new();
    for event in events {
        let Some(session) = &event.origin.session else { continue };
        let place = *places.entry(session).or_insert(sessions.len());
        match sessions.get_mut(place) {
            Some(of_session) => of_session.push(event),
            None => sessions.push(vec![event]),
        }
    }
    sessions
}

/// Where a terminal was, for the marker in front of it.
fn name_of(session: &[&Event], seq: StatementSeq) -> String {
    let origin = session.first().map(|event| &event.origin);
    let target = origin.and_then(|origin| origin.target.as_ref()).map_or("?", |name| name.as_str());
    let id = origin.and_then(|origin| origin.session.as_ref()).map_or("?", |id| id.as_str());
    plain(&format!("{target}, session {id}, statement {}", seq.0))
}

fn check_stream(session: &[&Event], wanted: StatementSeq) -> Result<(), CastError> {
    let with_streams = streams(session);
    let is_known = session.iter().any(|event| event.body.statement_seq() == Some(wanted));
    match (is_known, with_streams.contains(&wanted)) {
        (_, true) => Ok(()),
        (false, false) => Err(CastError::NoStatement(wanted.0)),
        (true, false) => {
            let known: Vec<String> = with_streams.iter().map(|seq| seq.0.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(CastError::NoStream(wanted.0, known))
        }
    }
}

/// Statements whose streams were recorded.
fn streams(session: &[&Event]) -> BTreeSet<StatementSeq> {
    let is_stream = |event: &&&Event| matches!(event.body, EventBody::StreamPassed { .. });
    session.iter().filter(is_stream).filter_map(|event| event.body.statement_seq()).collect()
}

/// Whether a statement has a terminal: its size is known, or its fields say so.
fn is_terminal(session: &[&Event], wanted: StatementSeq) -> bool {
    let says_so = |event: &&Event| {
        if let EventBody::StatementDecided { attributes, .. } = &event.body {
            attributes.get("terminal") == Some(&Attribute::Flag(true))
        } else {
            matches!(event.body, EventBody::TerminalResized { .. })
        }
    };
    let of_statement = |event: &&&Event| event.body.statement_seq() == Some(wanted);
    session.iter().filter(of_statement).any(says_so)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: u32,
    rows: u32,
}

#[derive(Serialize)]
struct Header<'a> {
    version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<Term>,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    title: &'a str,
}

#[derive(Serialize)]
struct Term {
    cols: u32,
    rows: u32,
}

/// One event of a cast.
struct Frame {
    at: OffsetDateTime,
    code: &'static str,
    data: String,
}

/// What both versions are written from.
struct Scene {
    size: Size,
    start: OffsetDateTime,
    command: Option<String>,
    frames: Vec<Frame>,
}

impl Scene {
    fn of_transcript(events: &[Event]) -> Self {
        let start = events.first().map_or(OffsetDateTime::UNIX_EPOCH, |event| event.time);
        let frame = |line: super::Line| Frame {
            at: start + Duration::from_millis(line.offset_ms),
            code: "o",
            data: format!("{}\r\n", line.text.trim_end()),
        };
        let frames = lines(events, Detail::Compact).into_iter().map(frame).collect();
        Self { size: TRANSCRIPT_SIZE, start, command: None, frames }
    }

    /// One after the other, each behind a marker; None of nothing.
    fn joined(mut scenes: Vec<(String, Self)>) -> Option<Self> {
        scenes.sort_by_key(|(_, scene)| scene.start);
        if scenes.len() < 2 {
            return scenes.pop().map(|(_, scene)| scene);
        }
        let last = scenes.len() - 1;
        let first = scenes.first().map(|(_, scene)| (scene.size, scene.start))?;
        let mut joined = Self { size: first.0, start: first.1, command: None, frames: Vec::new() };
        let mut at = joined.start;
        for (index, (name, scene)) in scenes.into_iter().enumerate() {
            if index > 0 {
                at += SCENE_PAUSE;
                joined.frame(at, "o", RESET.to_owned());
                let Size { columns, rows } = scene.size;
                joined.frame(at, "r", format!("{columns}x{rows}"));
            }
            joined.frame(at, "m", name);
            let begin = at;
            for frame in scene.frames {
                // A player ends with an exit code.
                if frame.code == "x" && index < last {
                    continue;
                }
                at = at.max(begin + (frame.at - scene.start));
                joined.frames.push(Frame { at, ..frame });
            }
        }
        Some(joined)
    }

    fn of_stream(events: &[&Event], seq: StatementSeq) -> Self {
        let start = events.first().map_or(OffsetDateTime::UNIX_EPOCH, |event| event.time);
        let mut scene = Self { size: TERMINAL_SIZE, start, command: None, frames: Vec::new() };
        let mut has_size = false;
        let line_ends = if is_terminal(events, seq) { LineEnds::AsTheyAre } else { LineEnds::Bare };
        let mut ends: BTreeMap<StreamEnd, Track> = BTreeMap::new();
        let of_statement = events.iter().filter(|event| event.body.statement_seq() == Some(seq));
        for event in of_statement {
            let at = event.time;
            #[expect(clippy::wildcard_enum_match_arm, reason = "others are not of the stream")]
            match &event.body {
                EventBody::StatementDecided { statement, outcome, .. } => {
                    scene.command = Some(plain(&statement_text(statement)));
                    // Whoever waited for an approval does not wait again.
                    if *outcome == Outcome::Allow && scene.frames.is_empty() {
                        scene.start = at;
                    }
                }
                EventBody::StreamPassed { from, data, .. } => {
                    let track = ends.entry(*from).or_default();
                    let mut text = track.decoder.push(&bytes_of(data));
                    if line_ends == LineEnds::Bare && *from != StreamEnd::Client {
                        text = track.with_returns(&text);
                    }
                    scene.frame(at, code_of(*from), text);
                }
                // A size of nothing can be shown by no player.
                EventBody::TerminalResized { columns: 0, .. }
                | EventBody::TerminalResized { rows: 0, .. } => {}
                // The client's terminal had its first size all the time, also where it is told
                // after the first prompt came (as in Kubernetes).
                EventBody::TerminalResized { columns, rows, .. } => {
                    if has_size {
                        scene.frame(at, "r", format!("{columns}x{rows}"));
                    } else {
                        scene.size = Size { columns: *columns, rows: *rows };
                    }
                    has_size = true;
                }
                EventBody::StreamCut { detail, .. } => scene.frame(at, "m", plain(detail)),
                EventBody::StatementCompleted { code, .. } => {
                    scene.finish(at, &mut ends);
                    if let Ok(status) = code.parse::<u32>() {
                        scene.frame(at, "x", status.to_string());
                    }
                }
                _ => {}
            }
        }
        let end = scene.frames.last().map_or(scene.start, |frame| frame.at);
        scene.finish(end, &mut ends);
        scene
    }

    fn frame(&mut self, at: OffsetDateTime, code: &'static str, data: String) {
        if !data.is_empty() {
            self.frames.push(Frame { at, code, data });
        }
    }

    fn finish(&mut self, at: OffsetDateTime, ends: &mut BTreeMap<StreamEnd, Track>) {
        for (from, track) in ends {
            self.frame(at, code_of(*from), track.decoder.finish().to_owned());
        }
    }

    fn write(&self, title: &str, version: CastVersion) -> String {
        let Size { columns, rows } = self.size;
        let timestamp = self.start.unix_timestamp();
        let title = plain(title);
        let header = Header {
            version: match version {
                CastVersion::V2 => 2,
                CastVersion::V3 => 3,
            },
            width: (version == CastVersion::V2).then_some(columns),
            height: (version == CastVersion::V2).then_some(rows),
            term: (version == CastVersion::V3).then_some(Term { cols: columns, rows }),
            timestamp,
            command: self.command.as_deref(),
            title: &title,
        };
        // Texts and numbers can always be written.
        let mut text = plain_json(&serde_json::to_string(&header).unwrap_or_default());
        text.push('\n');
        let mut before_us: i128 = 0;
        for frame in &self.frames {
            // Exit codes came with version 3.
            if version == CastVersion::V2 && frame.code == "x" {
                continue;
            }
            // A clock that was set back does not turn a cast round.
            let at_us = (frame.at - self.start).whole_microseconds().max(before_us);
            let shown_us = match version {
                CastVersion::V2 => at_us,
                CastVersion::V3 => at_us - before_us,
            };
            before_us = at_us;
            let event = json!([shown_us as f64 / 1e6, frame.code, frame.data]);
            text.push_str(&plain_json(&event.to_string()));
            text.push('\n');
        }
        text
    }
}

fn code_of(from: StreamEnd) -> &'static str {
    match from {
        StreamEnd::Client => "i",
        StreamEnd::Target | StreamEnd::TargetError => "o",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnds {
    /// A terminal's own driver made them.
    AsTheyAre,
    /// Without a terminal a line ends with a line feed alone, which a player shows as a step.
    Bare,
}

/// One end of a stream, between its pieces.
#[derive(Debug, Default)]
struct Track {
    decoder: Decoder,
    ends_with_return: bool,
}

impl Track {
    fn with_returns(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if c == '\n' && !self.ends_with_return {
                shown.push('\r');
            }
            shown.push(c);
            self.ends_with_return = c == '\r';
        }
        shown
    }
}
