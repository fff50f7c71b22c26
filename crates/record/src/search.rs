//! Searching, replaying and exporting events. There is no index: whole files are skipped by their
//! day, by when they were last written, and by who and where their first entry is about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corral_model::Event;
use corral_model::event::{EventBody, EventText, Origin, StreamData, StreamEnd};
use corral_model::ids::{RunId, SessionId, StatementSeq};
use corral_model::limits;
use time::OffsetDateTime;

use crate::format::FileKind;
use crate::layout;
use crate::read::{Events, ReadError, Reader, weight};
use crate::render::stream::{Decoder, bytes_of};

/// A file's time and an event's time come from different readings of the clock.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// Which events are wanted; what is None matches all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub session: Option<SessionId>,
    /// Name of a principal or a sponsor.
    pub person: Option<String>,
    /// Events of these runs; see [`Reader::runs_below`] for a tree.
    pub runs: Option<BTreeSet<RunId>>,
    pub target: Option<String>,
    /// An object or function that a statement touches: `name` or `schema.name`.
    pub object: Option<String>,
    /// A verb of a statement: `alter_table`.
    pub verb: Option<String>,
    /// Part of a statement's text, of its parameters, of a reason, or of what a stream said; case
    /// does not matter.
    pub text: Option<String>,
    /// An event's name: `statement.decided`.
    pub event: Option<String>,
    /// At this time or later.
    pub since: Option<OffsetDateTime>,
    /// Before this time.
    pub until: Option<OffsetDateTime>,
}

/// Which of the events that match are returned when there are more than asked for, and in which
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub events: Vec<Event>,
    /// Whether more events match.
    pub has_more: bool,
    /// Files that could not be read to their end, and why: `corral audit verify` says more.
    pub damaged: Vec<String>,
}

impl Filter {
    /// Whether an event matches.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_origin(&event.origin)
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time < until)
            && self.event.as_ref().is_none_or(|name| name == event.body.name())
            && self.matches_statement(&event.body)
    }

    fn matches_origin(&self, origin: &Origin) -> bool {
        let is_person = |person: &String| {
            [&origin.principal, &origin.sponsor]
                .into_iter()
                .any(|name| name.as_ref() == Some(person))
        };
        self.session.as_ref().is_none_or(|session| origin.session.as_ref() == Some(session))
            && self.person.as_ref().is_none_or(is_person)
            && self
                .runs
                .as_ref()
                .is_none_or(|runs| origin.run.as_ref().is_some_and(|run| runs.contains(run)))
            && self.target.as_ref().is_none_or(|target| {
                origin.target.as_ref().is_some_and(|name| name.as_str() == target)
            })
    }

    fn matches_statement(&self, body: &EventBody) -> bool {
        if self.object.is_none() && self.verb.is_none() && self.text.is_none() {
            return true;
        }
        let EventBody::StatementDecided { verbs, objects, functions, .. } = body else {
            let is_about_statements = self.object.is_some() || self.verb.is_some();
            return !is_about_statements && self.matches_text(body);
        };
        let is_object = |wanted: &String| {
            objects.iter().any(|object| is_named(&object.schema, &object.name, wanted))
                || functions.iter().any(|function| {
                    function == wanted || function.rsplit('.').next() == Some(wanted.as_str())
                })
        };
        self.verb.as_ref().is_none_or(|verb| verbs.contains(verb))
            && self.object.as_ref().is_none_or(is_object)
            && self.matches_text(body)
    }

    fn matches_text(&self, body: &EventBody) -> bool {
        let Some(text) = &self.text else { return true };
        let wanted = text.to_lowercase();
        texts_of(body).iter().any(|text| text.to_lowercase().contains(&wanted))
    }
}

fn is_named(schema: &str, name: &str, wanted: &str) -> bool {
    match wanted.split_once('.') {
        _ if wanted == name => true,
        Some((wanted_schema, wanted_name)) => wanted_schema == schema && wanted_name == name,
        None => false,
    }
}

/// The texts of an event that people search in.
fn texts_of(body: &EventBody) -> Vec<&str> {
    match body {
        EventBody::StatementDecided { statement, parameters, reason, .. } => {
            let mut texts: Vec<&str> =
                parameters.iter().filter_map(|parameter| parameter.value.as_deref()).collect();
            texts.extend(reason.as_deref());
            match statement {
                EventText::Whole(text) => texts.push(text),
                EventText::Digest { sha256, .. } => texts.push(sha256),
            }
            texts
        }
        EventBody::ConfigChanged { changes, .. } => changes.iter().map(String::as_str).collect(),
        EventBody::RunStarted { name, purpose, .. } => {
            let mut texts = vec![name.as_str()];
            texts.extend(purpose.as_deref());
            texts
        }
        EventBody::PrincipalRefused { name, reason }
        | EventBody::RunRefused { name, reason, .. } => {
            vec![name, reason]
        }
        EventBody::PollFailed { workload, reason } => vec![workload, reason],
        EventBody::PollRecovered { workload } => vec![workload],
        EventBody::SessionRefused { reason, .. } | EventBody::ApprovalDecided { reason, .. } => {
            vec![reason]
        }
        EventBody::ProcessesLeft { programs, .. } => programs.iter().map(String::as_str).collect(),
        EventBody::RefusalsCounted { reasons, name, .. } => {
            reasons.iter().chain(name).map(String::as_str).collect()
        }
        EventBody::SessionOpened { claims, client_address, .. } => {
            let mut texts: Vec<&str> = claims.iter().map(|(_, value)| value.as_str()).collect();
            texts.push(client_address);
            texts
        }
        EventBody::SessionTripped { detail, .. } | EventBody::StreamCut { detail, .. } => {
            vec![detail]
        }
        EventBody::StreamPassed { data, .. } => match data {
            StreamData::Text(text) => vec![text],
            StreamData::Base64(_) => Vec::new(),
        },
        EventBody::TerminalResized { .. } => Vec::new(),
        EventBody::ObjectChanged { object, diff, .. } => {
            let names = [object.schema.as_str(), object.name.as_str()].into_iter();
            names.chain(diff.iter().map(String::as_str)).collect()
        }
        EventBody::SignalReceived { provider, signal, people, .. } => {
            let names = [provider.as_str(), signal.as_str()].into_iter();
            names.chain(people.iter().map(String::as_str)).collect()
        }
        EventBody::PrincipalDisabled { name, .. }
        | EventBody::PrincipalSuspended { name, .. }
        | EventBody::PrincipalEnabled { name, .. }
        | EventBody::PrincipalSignedIn { name, .. } => vec![name],
        EventBody::StatementCompleted { code, tag, .. } => {
            let mut texts = vec![code.as_str()];
            texts.extend(tag.as_deref());
            texts
        }
        EventBody::RelayInvited { relay, .. } | EventBody::RelayRevoked { relay, .. } => {
            vec![relay]
        }
        EventBody::RelayJoined { relay, serial, address } => vec![relay, serial, address],
        EventBody::RelayLeft { relay, serial, address, reason, .. } => {
            vec![relay, serial, address, reason]
        }
        EventBody::RelayRefused { relay, address, reason } => {
            let known = [relay.as_deref(), address.as_deref(), Some(reason.as_str())];
            known.into_iter().flatten().collect()
        }
        EventBody::RelayDialRefused { relay, address, reason } => vec![relay, address, reason],
        EventBody::CredentialRenewalFailed { reason } => vec![reason],
        EventBody::GatewayStarted { .. }
        | EventBody::GatewayStopped {}
        | EventBody::CredentialRenewed { .. }
        | EventBody::AuthorityLost { .. }
        | EventBody::AuthorityRegained { .. }
        | EventBody::RunEnded { .. }
        | EventBody::TokenRenewed { .. }
        | EventBody::SessionClosed { .. }
        | EventBody::StatementRows { .. }
        | EventBody::ApprovalRequested { .. }
        | EventBody::RowsMasked { .. }
        | EventBody::RecordCheckpointed { .. } => Vec::new(),
    }
}

/// One file to search.
struct Source {
    path: PathBuf,
    kind: FileKind,
    /// No event in it is older; None for the gateway's chain.
    oldest: Option<OffsetDateTime>,
    /// No event in it is newer, as far as the file's own time tells.
    newest: OffsetDateTime,
}

impl Reader {
    /// Finds at most `len_max` events.
    ///
    /// # Errors
    /// [`ReadError::Io`] when folders cannot be read. A file that is damaged ends early and is
    /// named in [`Found::damaged`].
    ///
    /// # Limits
    /// [`limits::RECORD_SEARCH_LEN_MAX`] events, whatever `len_max` says.
    pub fn search(
        &self,
        filter: &Filter,
        order: Order,
        len_max: usize,
    ) -> Result<Found, ReadError> {
        self.find(filter, order, len_max.min(limits::RECORD_SEARCH_LEN_MAX))
    }

    fn find(&self, filter: &Filter, order: Order, len_max: usize) -> Result<Found, ReadError> {
        let mut hits = Hits::new(order, len_max);
        let mut sources = self.sources(filter)?;
        match order {
            Order::NewestFirst => sources.sort_by_key(|source| std::cmp::Reverse(source.newest)),
            Order::OldestFirst => sources.sort_by_key(|source| source.oldest),
        }
        for source in sources {
            if hits.can_skip(&source) {
                hits.has_more = true;
                continue;
            }
            visit(&source, filter, &mut |time, event| {
                hits.push(time, event);
                Ok(())
            })
            .or_else(|error| hits.note_damage(error))?;
        }
        Ok(hits.into_found())
    }

    /// The events of every session of these runs, merged by time: a replay of a run tree.
    ///
    /// # Errors
    /// [`ReadError`]: the record's files are to blame, or there are too many events.
    ///
    /// # Limits
    /// [`limits::RECORD_REPLAY_LEN_MAX`] events, [`limits::RECORD_REPLAY_BYTES_MAX`].
    pub fn replay_runs(&self, runs: &BTreeSet<RunId>) -> Result<Vec<Event>, ReadError> {
        let filter = Filter { runs: Some(runs.clone()), ..Filter::default() };
        let mut hits = Hits::new(Order::OldestFirst, limits::RECORD_REPLAY_LEN_MAX);
        let mut bytes = 0_u64;
        for source in self.sources(&filter)? {
            visit(&source, &filter, &mut |time, event| {
                bytes = bytes.saturating_add(weight(&event));
                if bytes > limits::RECORD_REPLAY_BYTES_MAX {
                    return Err(ReadError::TooLarge { max: limits::RECORD_REPLAY_BYTES_MAX });
                }
                hits.push(time, event);
                Ok(())
            })
            .or_else(|error| hits.note_damage(error))?;
        }
        let found = hits.into_found();
        if found.has_more {
            return Err(ReadError::TooMany { max: limits::RECORD_REPLAY_LEN_MAX });
        }
        Ok(found.events)
    }

    /// The events of one session, for a replay; None when there is no such recording.
    ///
    /// # Errors
    /// [`ReadError`]: the record's files are to blame, or there are too many events.
    ///
    /// # Limits
    /// [`limits::RECORD_REPLAY_LEN_MAX`] events, [`limits::RECORD_REPLAY_BYTES_MAX`].
    pub fn replay_session(&self, session: &SessionId) -> Result<Option<Vec<Event>>, ReadError> {
        self.session(session)?.map(crate::read::collect).transpose()
    }

    /// Writes every event that matches as a line of JSON: the gateway's chain first, then session
    /// by session in the order in which they began. Each chain's events are in their order.
    /// Returns their number.
    ///
    /// # Errors
    /// [`ReadError`]: a damaged file, or `out`'s own error.
    pub fn export(&self, filter: &Filter, out: &mut dyn Write) -> Result<u64, ReadError> {
        let mut count = 0;
        let mut sources = self.sources(filter)?;
        sources.sort_by_key(|source| source.oldest);
        for source in sources {
            visit(&source, filter, &mut |_, event| {
                serde_json::to_writer(&mut *out, &event)
                    .map_err(std::io::Error::from)
                    .and_then(|()| out.write_all(b"\n"))
                    .map_err(ReadError::Write)?;
                count += 1;
                Ok(())
            })?;
        }
        out.flush().map_err(ReadError::Write)?;
        Ok(count)
    }

    fn sources(&self, filter: &Filter) -> Result<Vec<Source>, ReadError> {
        let mut sources = Vec::new();
        if filter.session.is_none() {
            for path in self.segments()? {
                let newest = modified(&path)?;
                sources.push(Source { path, kind: FileKind::Gateway, oldest: None, newest });
            }
        }
        for day in self.days()? {
            let Some(oldest) = start_of(&day) else { continue };
            if filter.until.is_some_and(|until| until <= oldest) {
                continue;
            }
            let sessions = layout::sessions_of_day(&self.record_dir, &day)
                .map_err(ReadError::io(&layout::sessions_dir(&self.record_dir).join(&day)))?;
            for session in sessions {
                if filter.session.as_ref().is_some_and(|wanted| *wanted != session) {
                    continue;
                }
                let path = layout::session_path(&self.record_dir, &day, &session);
                let newest = modified(&path)?;
                let oldest = began(&session).map_or(oldest, |began| began.max(oldest)).into();
                sources.push(Source { path, kind: FileKind::Session, oldest, newest });
            }
        }
        if let Some(since) = filter.since {
            sources.retain(|source| source.newest >= since);
        }
        Ok(sources)
    }
}

/// Calls `found` with each event of a file that matches, and the time by which it is ordered: the
/// latest so far in its chain, so that a clock set back does not reorder a chain.
fn visit(
    source: &Source,
    filter: &Filter,
    found: &mut dyn FnMut(OffsetDateTime, Event) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut latest: Option<OffsetDateTime> = None;
    let mut heard = (source.kind == FileKind::Session).then(|| Heard::of(filter)).flatten();
    let without_text = Filter { text: None, ..filter.clone() };
    for event in Events::open(&source.path, source.kind)? {
        let event = event?;
        // All of a session is about the same people and places.
        if source.kind == FileKind::Session && !filter.matches_origin(&event.origin) {
            return Ok(());
        }
        let time = latest.map_or(event.time, |latest| latest.max(event.time));
        latest = Some(time);
        let is_said = heard.as_mut().is_some_and(|heard| heard.hears(&event.body));
        let is_found = if is_said { without_text.matches(&event) } else { filter.matches(&event) };
        if is_found {
            found(time, event)?;
        }
    }
    Ok(())
}

/// Looks for a text in streams, whose pieces may cut it anywhere: what people type comes a
/// character at a time.
struct Heard {
    wanted: String,
    /// The end of what each open stream said, shorter than `wanted`.
    tails: BTreeMap<(StatementSeq, StreamEnd), Tail>,
}

#[derive(Default)]
struct Tail {
    text: String,
    decoder: Decoder,
}

impl Heard {
    fn of(filter: &Filter) -> Option<Self> {
        let wanted = filter.text.as_ref()?.to_lowercase();
        let is_about_statements = filter.object.is_some() || filter.verb.is_some();
        (!is_about_statements).then(|| Self { wanted, tails: BTreeMap::new() })
    }

    /// Whether the text is in what a stream said up to and with this piece.
    fn hears(&mut self, body: &EventBody) -> bool {
        let EventBody::StreamPassed { seq_in_session, from, data } = body else {
            if let EventBody::StatementCompleted { seq_in_session, .. } = body {
                self.tails.retain(|(seq, _), _| seq != seq_in_session);
            }
            return false;
        };
        let tail = self.tails.entry((*seq_in_session, *from)).or_default();
        let mut text = std::mem::take(&mut tail.text);
        text.push_str(&tail.decoder.push(&bytes_of(data)).to_lowercase());
        let is_heard = text.contains(&self.wanted);
        let kept = self.wanted.len().saturating_sub(1).min(text.len());
        let start = (text.len() - kept..=text.len()).find(|at| text.is_char_boundary(*at));
        // A text that was found is not found again with the next piece.
        if !is_heard {
            tail.text = text.split_off(start.unwrap_or(text.len()));
        }
        is_heard
    }
}

/// The best events so far: at most twice as many as are wanted.
struct Hits {
    order: Order,
    len_max: usize,
    events: Vec<(OffsetDateTime, Event)>,
    has_more: bool,
    damaged: Vec<String>,
    /// Nothing was found since the events were sorted.
    is_sorted: bool,
}

impl Hits {
    fn new(order: Order, len_max: usize) -> Self {
        Self {
            order,
            len_max,
            events: Vec::new(),
            has_more: false,
            damaged: Vec::new(),
            is_sorted: true,
        }
    }

    fn push(&mut self, time: OffsetDateTime, event: Event) {
        self.events.push((time, event));
        self.is_sorted = false;
        if self.events.len() >= self.len_max.saturating_mul(2).max(64) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if std::mem::replace(&mut self.is_sorted, true) {
            return;
        }
        self.events.sort_by(|(a_time, a), (b_time, b)| {
            let ascending = (a_time, chain_of(a), a.seq).cmp(&(b_time, chain_of(b), b.seq));
            match self.order {
                Order::NewestFirst => ascending.reverse(),
                Order::OldestFirst => ascending,
            }
        });
        if self.events.len() > self.len_max {
            self.events.truncate(self.len_max);
            self.has_more = true;
        }
    }

    /// Whether nothing in a file can be among the wanted.
    fn can_skip(&mut self, source: &Source) -> bool {
        if self.events.len() < self.len_max {
            return false;
        }
        self.shrink();
        let Some((worst, _)) = self.events.last() else { return self.len_max == 0 };
        match self.order {
            Order::NewestFirst => source.newest < *worst,
            Order::OldestFirst => source.oldest.is_some_and(|oldest| oldest > *worst),
        }
    }

    fn note_damage(&mut self, error: ReadError) -> Result<(), ReadError> {
        match error {
            // It was moved away while the folders were read.
            ReadError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            error @ ReadError::Bad { .. } => {
                self.damaged.push(error.to_string());
                Ok(())
            }
            error @ (ReadError::Io { .. }
            | ReadError::TooMany { .. }
            | ReadError::TooLarge { .. }
            | ReadError::Write(_)) => Err(error),
        }
    }

    fn into_found(mut self) -> Found {
        self.shrink();
        let events = self.events.into_iter().map(|(_, event)| event).collect();
        Found { events, has_more: self.has_more, damaged: self.damaged }
    }
}

fn chain_of(event: &Event) -> &str {
    event.id.rsplit_once(':').map_or(event.id.as_str(), |(chain, _)| chain)
}

fn modified(path: &Path) -> Result<OffsetDateTime, ReadError> {
    let time =
        fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(ReadError::io(path))?;
    Ok(OffsetDateTime::from(time) + CLOCK_SLACK)
}

/// Before a session's first event, less some slack: the gateway makes its id from the time at which
/// it was let in (`s-` and a UUID of version 7, RFC 9562 section 5.7). None: the id is of another kind.
fn began(session: &SessionId) -> Option<OffsetDateTime> {
    let digits = session.as_str().strip_prefix("s-").filter(|digits| digits.len() == 32)?;
    let milliseconds = i128::from_str_radix(digits.get(..12)?, 16).ok()?;
    let is_of_time = digits.get(12..13) == Some("7");
    let at = OffsetDateTime::from_unix_timestamp_nanos(milliseconds * 1_000_000).ok()?;
    is_of_time.then(|| at - CLOCK_SLACK)
}

/// Midnight (UTC) of a day's folder, less some slack.
fn start_of(day: &str) -> Option<OffsetDateTime> {
    let mut parts = day.split('-');
    let year: i32 = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let date: u8 = parts.next()?.parse().ok()?;
    let month = time::Month::try_from(month).ok()?;
    let date = time::Date::from_calendar_date(year, month, date).ok()?;
    Some(date.midnight().assume_utc() - CLOCK_SLACK)
}
