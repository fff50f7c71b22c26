//! Recordings for people: a transcript in text, and the same as an asciicast. Pure: events in,
//! text out. Whoever shows it keeps the time.
//!
//! Control characters of recorded texts are shown as escapes, so that a replay cannot drive the
//! terminal that shows it.

use std::collections::{BTreeMap, BTreeSet};

use corral_model::Event;
use corral_model::event::{ApprovalState, EventBody, EventText, Outcome, StreamData, StreamEnd};
use corral_model::ids::{SessionId, StatementSeq};
use corral_model::statement::{ObjectRef, Parameter};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Columns of rows that are shown of one statement, each at most so many characters wide.
const CELL_CHARS_MAX: usize = 40;
const RUN_COLUMN_CHARS_MAX: usize = 32;
const CAST_WIDTH: u32 = 120;
const CAST_HEIGHT: u32 = 40;

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Since the first event, in milliseconds; never less than the line before.
    pub offset_ms: u64,
    /// Without a line end.
    pub text: String,
}

/// A transcript: what was asked, decided and done, with times since the first event. Events of
/// several sessions get a column that names the run.
#[must_use]
pub fn lines(events: &[Event]) -> Vec<Line> {
    let mut transcript = Transcript::of(events);
    for event in events {
        transcript.event(event);
    }
    transcript.lines
}

/// [`lines`] as one text.
#[must_use]
pub fn text(events: &[Event]) -> String {
    let mut text = String::new();
    for line in lines(events) {
        text.push_str(line.text.trim_end());
        text.push('\n');
    }
    text
}

/// The events as they are, one JSON object a line.
///
/// # Errors
/// When an event cannot be written as JSON, which no event that was read from a record does.
pub fn json(events: &[Event]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event)?);
        text.push('\n');
    }
    Ok(text)
}

/// An asciicast (version 2) of [`lines`].
#[must_use]
pub fn cast(events: &[Event], title: &str) -> String {
    let header = CastHeader {
        version: 2,
        width: CAST_WIDTH,
        height: CAST_HEIGHT,
        timestamp: events.first().map_or(0, |event| event.time.unix_timestamp()),
        title: plain(title),
    };
    // Neither of the two has a map with odd keys or a fallible part.
    let mut text = serde_json::to_string(&header).unwrap_or_default();
    text.push('\n');
    for line in lines(events) {
        let seconds = line.offset_ms as f64 / 1000.0;
        let output = format!("{}\r\n", line.text.trim_end());
        let event = (seconds, "o", output);
        text.push_str(&serde_json::to_string(&event).unwrap_or_default());
        text.push('\n');
    }
    text
}

#[derive(Serialize)]
struct CastHeader {
    version: u8,
    width: u32,
    height: u32,
    timestamp: i64,
    title: String,
}

struct Transcript {
    lines: Vec<Line>,
    start: Option<OffsetDateTime>,
    offset_ms: u64,
    /// Width of the column that names the run; None for a single session.
    run_width: Option<usize>,
    /// What an approval was asked for, to name it when it is decided.
    held: BTreeMap<String, StatementSeq>,
    /// The statement of each decision, to name it when its approval is asked for.
    decisions: BTreeMap<String, StatementSeq>,
}

impl Transcript {
    fn of(events: &[Event]) -> Self {
        let sessions: BTreeSet<&SessionId> =
            events.iter().filter_map(|event| event.origin.session.as_ref()).collect();
        let has_others = events.iter().any(|event| event.origin.session.is_none());
        let width = || {
            let widths = events.iter().map(|event| who(event).chars().count());
            widths.max().unwrap_or(0).min(RUN_COLUMN_CHARS_MAX)
        };
        Self {
            lines: Vec::new(),
            start: events.first().map(|event| event.time),
            offset_ms: 0,
            run_width: (sessions.len() > 1 || has_others).then(width),
            held: BTreeMap::new(),
            decisions: BTreeMap::new(),
        }
    }

    fn event(&mut self, event: &Event) {
        let since = self.start.map_or(time::Duration::ZERO, |start| event.time - start);
        let offset_ms = u64::try_from(since.whole_milliseconds()).unwrap_or(0);
        // A clock that was set back does not turn a replay round.
        self.offset_ms = self.offset_ms.max(offset_ms);
        let (word, texts) = self.describe(event);
        let column = match self.run_width {
            Some(width) => format!("{:<width$}  ", shortened(&who(event), width)),
            None => String::new(),
        };
        let time = clock(self.offset_ms);
        let mut prefix = format!("{time}  {column}{word:<9} ");
        for text in texts {
            for part in plain(&text).lines() {
                self.lines
                    .push(Line { offset_ms: self.offset_ms, text: format!("{prefix}{part}") });
                prefix = " ".repeat(prefix.chars().count());
            }
        }
    }

    /// The word in front, and the lines behind it; the first holds something.
    fn describe(&mut self, event: &Event) -> (String, Vec<String>) {
        match &event.body {
            EventBody::SessionOpened { protocol, client_address, tls, claims } => {
                let target = event.origin.target.as_ref().map_or("?", |target| target.as_str());
                let tls = if *tls { ", TLS" } else { "" };
                let session = event.origin.session.as_ref().map_or("?", |id| id.as_str());
                let mut texts = vec![
                    format!("{} → {target} ({protocol})", whole_name(event)),
                    format!(
                        "session {session} from {client_address}{tls} at {}",
                        stamp(event.time)
                    ),
                ];
                if !claims.is_empty() {
                    let claims: Vec<String> =
                        claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    texts.push(format!("says of itself: {}", claims.join(", ")));
                }
                (word("opened"), texts)
            }
            EventBody::StatementDecided { .. } => self.decided(&event.body),
            EventBody::ApprovalRequested { approval, decision, groups, expires_at } => {
                if let Some(seq) = self.decisions.get(decision) {
                    self.held.insert(approval.to_string(), *seq);
                }
                let text = format!(
                    "{approval} waits for {} until {}",
                    groups.join(" and "),
                    stamp(*expires_at)
                );
                (word("waits"), vec![text])
            }
            EventBody::ApprovalDecided { approval, state, by, reason, .. } => {
                let about = match self.held.get(approval.as_str()) {
                    Some(seq) => format!("#{} ({approval})", seq.0),
                    None => approval.to_string(),
                };
                let by =
                    if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                (word(approval_word(*state)), vec![format!("{about}{by}{reason}")])
            }
            body => (word(word_of(body)), vec![one_line(body)]),
        }
    }

    fn decided(&mut self, body: &EventBody) -> (String, Vec<String>) {
        let EventBody::StatementDecided {
            decision,
            statement,
            seq_in_session,
            objects,
            functions,
            parameters,
            outcome,
            rules,
            reason,
            approval,
            ..
        } = body
        else {
            return (String::new(), Vec::new());
        };
        self.decisions.insert(decision.clone(), *seq_in_session);
        let name = match outcome {
            Outcome::Allow => "allow",
            Outcome::Deny => "DENY",
            Outcome::Hold => "HOLD",
        };
        let mut texts = vec![statement_text(statement)];
        if !parameters.is_empty() {
            texts.push(parameters_text(parameters));
        }
        let touched = touched_text(objects, functions);
        if !touched.is_empty() {
            texts.push(format!("touches {touched}"));
        }
        let mut why = Vec::new();
        if !rules.is_empty() {
            why.push(format!("by {}", rules.join(", ")));
        }
        why.extend(reason.clone());
        why.extend(approval.as_ref().map(|approval| format!("approval {approval}")));
        if !why.is_empty() && (*outcome != Outcome::Allow || approval.is_some()) {
            texts.push(why.join(": "));
        }
        (format!("{name} #{}", seq_in_session.0), texts)
    }
}

/// Events that need no memory of others, as one text.
fn one_line(body: &EventBody) -> String {
    match body {
        EventBody::StatementCompleted {
            seq_in_session,
            code,
            tag,
            rows,
            bytes,
            duration_us,
            ..
        } => {
            let result = match tag {
                Some(tag) => tag.clone(),
                None if code == "00000" => "done".to_owned(),
                None => format!("failed with {code}"),
            };
            format!(
                "#{}: {result}; {}, {}, {}",
                seq_in_session.0,
                counted(*rows, "row"),
                bytes_text(*bytes),
                duration_text(*duration_us)
            )
        }
        EventBody::RowsMasked { seq_in_session, columns, rows } => {
            format!("#{}: {} in {}", seq_in_session.0, columns.join(", "), counted(*rows, "row"))
        }
        EventBody::StatementRows { seq_in_session, columns, rows, truncated } => {
            let more = if *truncated { "\n…" } else { "" };
            format!("#{}: {}{more}", seq_in_session.0, table(columns, rows))
        }
        EventBody::SessionTripped { seq_in_session, detail } => {
            format!("#{}: {detail}", seq_in_session.0)
        }
        EventBody::SessionClosed {
            reason, statements, rows, bytes_to_client, duration_ms, ..
        } => {
            format!(
                "{}; {}, {}, {}, {}",
                snake(reason),
                counted(*statements, "statement"),
                counted(*rows, "row"),
                bytes_text(*bytes_to_client),
                duration_text(duration_ms.saturating_mul(1000))
            )
        }
        EventBody::SessionRefused { reason, client_address } => {
            format!("session from {client_address}: {reason}")
        }
        EventBody::RunStarted { name, purpose, targets, ttl_s, started_by, .. } => {
            let purpose =
                purpose.as_ref().map_or(String::new(), |purpose| format!(" for: {purpose}"));
            let targets: Vec<&str> = targets.iter().map(|target| target.as_str()).collect();
            let targets =
                if targets.is_empty() { "any target".to_owned() } else { targets.join(", ") };
            let by = started_by.as_ref().map_or(String::new(), |by| format!(", started by {by}"));
            format!("run {name}{purpose} ({targets}, {ttl_s} s{by})")
        }
        EventBody::RunRefused { name, reason } => format!("run {name}: {reason}"),
        EventBody::RunEnded { reason, by, sessions_closed } => {
            format!(
                "run: {} by {by}; {} closed",
                snake(reason),
                counted(*sessions_closed, "session")
            )
        }
        EventBody::GatewayStarted { version, recovered_sessions } => {
            format!("gateway {version}; {} found lost", counted(*recovered_sessions, "session"))
        }
        EventBody::GatewayStopped {} => "gateway".to_owned(),
        EventBody::ConfigChanged { by, version, changes } => {
            format!("version {} by {by}: {}", version.0, changes.join(", "))
        }
        EventBody::PrincipalDisabled { name, by, runs_ended, sessions_closed } => format!(
            "{name} by {by}: {} ended, {} closed",
            counted(*runs_ended, "run"),
            counted(*sessions_closed, "session")
        ),
        EventBody::PrincipalEnabled { name, by } => format!("{name} by {by}"),
        EventBody::PrincipalSignedIn { name, method } => format!("{name} by {method}"),
        EventBody::PrincipalRefused { name, reason } => format!("{name}: {reason}"),
        EventBody::RecordCheckpointed { entries, sessions } => {
            format!("{}, {}", counted(*entries, "entry"), counted(*sessions, "session"))
        }
        EventBody::StreamPassed { seq_in_session, from, data } => {
            let (text, what) = match data {
                StreamData::Text(text) => (text.escape_debug().to_string(), ""),
                StreamData::Base64(text) => (text.clone(), "base64 "),
            };
            format!("#{}: {} {what}{text}", seq_in_session.0, stream_end(*from))
        }
        EventBody::TerminalResized { seq_in_session, columns, rows } => {
            format!("#{}: terminal of {columns} by {rows}", seq_in_session.0)
        }
        EventBody::StreamCut { seq_in_session, detail } => {
            format!("#{}: {detail}", seq_in_session.0)
        }
        EventBody::ObjectChanged { seq_in_session, object, diff, .. } => {
            let name = if object.schema.is_empty() {
                object.name.clone()
            } else {
                format!("{}/{}", object.schema, object.name)
            };
            format!("#{}: {name}: {}", seq_in_session.0, diff.join("; "))
        }
        EventBody::SessionOpened { .. }
        | EventBody::StatementDecided { .. }
        | EventBody::ApprovalRequested { .. }
        | EventBody::ApprovalDecided { .. } => String::new(),
    }
}

fn word_of(body: &EventBody) -> &'static str {
    match body {
        EventBody::GatewayStarted { .. } | EventBody::RunStarted { .. } => "started",
        EventBody::GatewayStopped {} => "stopped",
        EventBody::ConfigChanged { .. } => "changed",
        EventBody::PrincipalDisabled { .. } => "disabled",
        EventBody::PrincipalEnabled { .. } => "enabled",
        EventBody::PrincipalSignedIn { .. } => "signed in",
        EventBody::PrincipalRefused { .. }
        | EventBody::RunRefused { .. }
        | EventBody::SessionRefused { .. } => "REFUSED",
        EventBody::RunEnded { .. } => "ended",
        EventBody::SessionOpened { .. } => "opened",
        EventBody::SessionClosed { .. } => "closed",
        EventBody::StatementDecided { .. } | EventBody::ApprovalDecided { .. } => "decided",
        EventBody::StatementCompleted { .. } => "result",
        EventBody::StreamPassed { .. } => "stream",
        EventBody::TerminalResized { .. } => "resized",
        EventBody::StreamCut { .. } => "cut",
        EventBody::ObjectChanged { .. } => "changed",
        EventBody::StatementRows { .. } => "rows",
        EventBody::ApprovalRequested { .. } => "waits",
        EventBody::RowsMasked { .. } => "masked",
        EventBody::SessionTripped { .. } => "TRIPPED",
        EventBody::RecordCheckpointed { .. } => "signed",
    }
}

fn stream_end(from: StreamEnd) -> &'static str {
    match from {
        StreamEnd::Client => "client:",
        StreamEnd::Target => "target:",
        StreamEnd::TargetError => "target, standard error:",
    }
}

fn approval_word(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "DENIED",
        ApprovalState::Expired => "EXPIRED",
        ApprovalState::Withdrawn => "withdrawn",
    }
}

fn word(text: &str) -> String {
    text.to_owned()
}

/// The run, or who it is when there is none.
fn who(event: &Event) -> String {
    let origin = &event.origin;
    origin.run_path.clone().or_else(|| origin.principal.clone()).unwrap_or_default()
}

fn whole_name(event: &Event) -> String {
    let origin = &event.origin;
    let mut parts = Vec::new();
    parts.extend(origin.run_path.clone());
    if let Some(principal) = &origin.principal {
        parts.push(match &origin.sponsor {
            Some(sponsor) if sponsor != principal => format!("{principal} (for {sponsor})"),
            _ => principal.clone(),
        });
    }
    if parts.is_empty() { "?".to_owned() } else { parts.join(", ") }
}

fn statement_text(statement: &EventText) -> String {
    match statement {
        EventText::Whole(text) => text.trim_end().to_owned(),
        EventText::Digest { sha256, bytes } => {
            format!("({} of text, SHA-256 {sha256})", bytes_text(*bytes))
        }
    }
}

fn parameters_text(parameters: &[Parameter]) -> String {
    let texts: Vec<String> = parameters
        .iter()
        .enumerate()
        .map(|(index, parameter)| {
            let value = parameter.value.as_deref().unwrap_or("NULL");
            format!("${} = {}", index + 1, shortened(value, CELL_CHARS_MAX))
        })
        .collect();
    texts.join(", ")
}

fn touched_text(objects: &[ObjectRef], functions: &[String]) -> String {
    let mut names: Vec<String> = objects
        .iter()
        .map(|object| match object.schema.as_str() {
            "" => object.name.clone(),
            schema => format!("{schema}.{}", object.name),
        })
        .collect();
    names.extend(functions.iter().map(|function| format!("{function}()")));
    names.dedup();
    names.join(", ")
}

fn table(columns: &[String], rows: &[Vec<Option<String>>]) -> String {
    let mut text = columns.join(" | ");
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .map(|cell| {
                shortened(cell.as_deref().unwrap_or("NULL"), CELL_CHARS_MAX).replace('\n', "\\n")
            })
            .collect();
        text.push('\n');
        text.push_str(&cells.join(" | "));
    }
    text
}

/// A closed set's own name in events: `parent_ended`.
fn snake<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn stamp(time: OffsetDateTime) -> String {
    let whole_seconds = time.replace_nanosecond(0).unwrap_or(time);
    whole_seconds.format(&Rfc3339).unwrap_or_default()
}

fn clock(offset_ms: u64) -> String {
    let (seconds, ms) = (offset_ms / 1000, offset_ms % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("+{minutes:02}:{seconds:02}.{ms:03}"),
        (hours, minutes) => format!("+{hours}:{minutes:02}:{seconds:02}.{ms:03}"),
    }
}

fn counted(count: u64, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn duration_text(us: u64) -> String {
    match us {
        0..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A text that cannot do anything to a terminal: control characters and marks that turn the
/// direction of writing become escapes; line ends stay.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' => plain.push('\n'),
            '\t' => plain.push_str("    "),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                plain.extend(character.escape_unicode());
            }
            _ if character.is_control() => plain.extend(character.escape_default()),
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts_cannot_drive_a_terminal() {
        let cases = [
            ("SELECT 1", "SELECT 1"),
            ("a\nb", "a\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\rb", "a\\rb"),
            ("a\r\nb", "a\nb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}drop", "\\u{202e}drop"),
        ];
        for (text, expect) in cases {
            assert_eq!(plain(text), expect, "{text:?}");
        }
    }

    #[test]
    fn amounts_read_well() {
        assert_eq!(counted(1, "entry"), "1 entry");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(bytes_text(1_234), "1.2 kB");
        assert_eq!(clock(3_723_004), "+1:02:03.004");
        assert_eq!(duration_text(1_500_000), "1.5 s");
    }
}
