//! Events one after the other as people read them.

use std::collections::{BTreeMap, BTreeSet};

use corral_model::Event;
use corral_model::event::{EventBody, Outcome};
use corral_model::ids::{SessionId, StatementSeq, TargetName};
use time::OffsetDateTime;

use super::body::{approval_word, one_line, word_of};
use super::plain::plain;
use super::stream::Burst;
use super::words::{
    attributes_text, clock, parameters_text, shortened, stamp, statement_text, touched_text,
};
use super::{Detail, Line};

const RUN_COLUMN_CHARS_MAX: usize = 32;
const PLACE_COLUMN_CHARS_MAX: usize = 24;

/// Builds the lines of a transcript, event by event.
pub(super) struct Transcript<'a> {
    pub(super) lines: Vec<Line>,
    detail: Detail,
    start: Option<OffsetDateTime>,
    offset_ms: u64,
    /// Names of run and place in front of each line; None for a single session.
    columns: Option<Columns<'a>>,
    /// What an approval was asked for, to name it when it is decided.
    held: BTreeMap<String, StatementSeq>,
    /// The statement of each decision, to name it when its approval is asked for.
    decisions: BTreeMap<String, StatementSeq>,
}

impl<'a> Transcript<'a> {
    pub(super) fn of(events: &'a [Event], detail: Detail) -> Self {
        let sessions: BTreeSet<&SessionId> =
            events.iter().filter_map(|event| event.origin.session.as_ref()).collect();
        let has_others = events.iter().any(|event| event.origin.session.is_none());
        Self {
            lines: Vec::new(),
            detail,
            start: events.first().map(|event| event.time),
            offset_ms: 0,
            columns: (sessions.len() > 1 || has_others).then(|| Columns::of(events)),
            held: BTreeMap::new(),
            decisions: BTreeMap::new(),
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        let (word, texts) = self.describe(event);
        self.tell(event, &word, &texts);
    }

    /// What passed through a stream from this event on.
    pub(super) fn burst(&mut self, event: &Event, burst: &Burst<'_>) {
        let texts = match self.detail {
            Detail::Compact => vec![burst.amounts()],
            Detail::Full => burst.turns(),
        };
        self.tell(event, &format!("stream #{}", burst.seq.0), &texts);
    }

    fn tell(&mut self, event: &Event, word: &str, texts: &[String]) {
        let since = self.start.map_or(time::Duration::ZERO, |start| event.time - start);
        let offset_ms = u64::try_from(since.whole_milliseconds()).unwrap_or(0);
        // A clock that was set back does not turn a replay round.
        self.offset_ms = self.offset_ms.max(offset_ms);
        let column = self.columns.as_ref().map_or(String::new(), |columns| columns.of_event(event));
        let time = clock(self.offset_ms);
        let mut prefix = format!("{time}  {column}{word:<9} ");
        for text in texts {
            for part in plain(text).lines() {
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
                ("opened".to_owned(), texts)
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
                ("waits".to_owned(), vec![text])
            }
            EventBody::ApprovalDecided { approval, state, by, reason, .. } => {
                let about = match self.held.get(approval.as_str()) {
                    Some(seq) => format!("#{} ({approval})", seq.0),
                    None => approval.to_string(),
                };
                let by =
                    if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                (approval_word(*state).to_owned(), vec![format!("{about}{by}{reason}")])
            }
            body => (word_of(body).to_owned(), vec![one_line(body)]),
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
            attributes,
            traceparent,
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
        let fields = attributes_text(attributes, statement);
        if !fields.is_empty() {
            texts.push(fields);
        }
        let touched = touched_text(objects, functions);
        if !touched.is_empty() {
            texts.push(format!("touches {touched}"));
        }
        texts.extend(traceparent.as_ref().map(|claim| format!("claims traceparent {claim}")));
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

/// Who and where, in front of each line of a timeline of several sessions.
struct Columns<'a> {
    run_width: usize,
    place_width: usize,
    /// `web-1`; `web-1/2` for the second session of that target in this timeline.
    places: BTreeMap<&'a SessionId, String>,
}

impl<'a> Columns<'a> {
    fn of(events: &'a [Event]) -> Self {
        let places = places(events);
        let widest = |texts: &mut dyn Iterator<Item = String>, max: usize| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0).min(max)
        };
        let run_width = widest(&mut events.iter().map(who), RUN_COLUMN_CHARS_MAX);
        let place_width =
            widest(&mut events.iter().map(|event| place(&places, event)), PLACE_COLUMN_CHARS_MAX);
        Self { run_width, place_width, places }
    }

    fn of_event(&self, event: &Event) -> String {
        let Self { run_width, place_width, places } = self;
        let run = shortened(&plain(&who(event)), *run_width);
        let place = shortened(&place(places, event), *place_width);
        match place_width {
            0 => format!("{run:<run_width$}  "),
            _ => format!("{run:<run_width$}  {place:<place_width$}  "),
        }
    }
}

fn places(events: &[Event]) -> BTreeMap<&SessionId, String> {
    let mut of_target: BTreeMap<Option<&TargetName>, Vec<&SessionId>> = BTreeMap::new();
    for event in events {
        let Some(session) = &event.origin.session else { continue };
        let sessions = of_target.entry(event.origin.target.as_ref()).or_default();
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }
    let mut places = BTreeMap::new();
    for (target, sessions) in of_target {
        let target = target.map_or("?", TargetName::as_str);
        for (index, session) in sessions.iter().enumerate() {
            let is_only = sessions.len() == 1;
            let number = if is_only { String::new() } else { format!("/{}", index + 1) };
            places.insert(*session, format!("{target}{number}"));
        }
    }
    places
}

fn place(places: &BTreeMap<&SessionId, String>, event: &Event) -> String {
    let of_session = event.origin.session.as_ref().and_then(|session| places.get(session));
    let target = || event.origin.target.as_ref().map(ToString::to_string);
    of_session.cloned().or_else(target).unwrap_or_default()
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
