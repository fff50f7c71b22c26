//! Reading the record through the gateway, and following events as they happen.

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_model::event::{EventBody, Outcome};
use corral_model::ids::{RunId, SessionId};
use corral_model::{Event, limits};
use corral_record::{Filter, Followed, Follower, Order, ReadError, Reader};
use time::OffsetDateTime;

use super::error::describe;
use super::{App, AppError, Caller, Problem};

/// Which events to find. Every given field must match.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    /// `statement.decided`, or a prefix such as `session.`.
    pub event: Option<String>,
    pub principal: Option<String>,
    /// This run and everything below it.
    pub run: Option<String>,
    pub session: Option<String>,
    pub target: Option<String>,
    pub verb: Option<String>,
    /// `schema.table` or `table`.
    pub table: Option<String>,
    /// Case-insensitive part of the statement.
    pub text: Option<String>,
    /// `allow`, `deny` or `hold`.
    pub outcome: Option<String>,
    /// Oldest first up to this many; at most 10,000, and 1,000 when absent.
    pub limit: Option<usize>,
}

/// Events as they happen, already filtered for the caller.
pub struct EventStream {
    follower: Follower,
    sight: Sight,
}

impl EventStream {
    /// The next event. `Err(n)`: `n` events were missed because this follower was too slow.
    /// None: the gateway stops.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, u64>> {
        loop {
            match self.follower.next().await? {
                Followed::Event(event) if self.sight.covers(&event) => return Some(Ok(event)),
                Followed::Event(_) => {}
                Followed::Missed(missed) => return Some(Err(missed)),
            }
        }
    }
}

/// What a caller may see of the record.
enum Sight {
    All,
    /// What concerns this person or workload.
    Of(String),
    /// What concerns these runs.
    Runs(BTreeSet<RunId>),
}

impl Sight {
    fn covers(&self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Of(name) => {
                let origin = &event.origin;
                [&origin.principal, &origin.sponsor].into_iter().flatten().any(|who| who == name)
            }
            Self::Runs(runs) => event.origin.run.as_ref().is_some_and(|run| runs.contains(run)),
        }
    }
}

/// Events of one search when nobody says how many.
const SEARCH_LEN: usize = 1_000;

impl App {
    /// Finds recorded events. The administrator sees all; others see what concerns the runs and
    /// sessions that they may see.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a bad filter, [`AppError::Unavailable`].
    pub async fn search_events(
        &self,
        caller: &Caller,
        filter: EventFilter,
    ) -> Result<Vec<Event>, AppError> {
        let wanted = Wanted::of(filter)?;
        let caller = caller.clone();
        self.read_record(move |reader| {
            let sight = sight_of(&caller, reader)?;
            wanted.find(reader, &sight)
        })
        .await
    }

    /// All events of a session, or of a run and everything below it, in time's order: what a
    /// replay shows.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Unavailable`].
    pub async fn replay(
        &self,
        caller: &Caller,
        session_or_run: &str,
    ) -> Result<Vec<Event>, AppError> {
        let not_found =
            || AppError::NotFound { kind: "session or run", name: session_or_run.to_owned() };
        let session = SessionId::new(session_or_run).map_err(|_| not_found())?;
        let run = RunId::new(session_or_run).map_err(|_| not_found())?;
        let caller = caller.clone();
        let events = self
            .read_record(move |reader| {
                let sight = sight_of(&caller, reader)?;
                let mut events = match reader.replay_session(&session)? {
                    Some(events) => events,
                    None => reader.replay_runs(&reader.runs_below(&run)?)?,
                };
                events.retain(|event| sight.covers(event));
                Ok(events)
            })
            .await?;
        if events.is_empty() { Err(not_found()) } else { Ok(events) }
    }

    /// Follows events from now on.
    ///
    /// # Errors
    /// [`AppError::Denied`] for a run.
    pub fn follow_events(&self, caller: &Caller) -> Result<EventStream, AppError> {
        let sight = match caller {
            Caller::Admin => Sight::All,
            Caller::Principal { principal, .. } => Sight::Of(principal.to_string()),
            Caller::Run { .. } => {
                let text = "a run does not follow events; its principal does";
                return Err(AppError::Denied(text.to_owned()));
            }
        };
        Ok(EventStream { follower: self.recorder.subscribe(), sight })
    }

    /// The record is read on a thread that may wait for the disk.
    pub(super) async fn read_record<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, AppError> {
        let reader = Reader::new(self.recorder.record_dir());
        let read = tokio::task::spawn_blocking(move || read(&reader)).await;
        match read {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(ReadError::TooMany { max })) => Err(AppError::LimitReached(format!(
                "more than {max} events; search with --since and --until, or export"
            ))),
            Ok(Err(ReadError::TooLarge { max })) => Err(AppError::LimitReached(format!(
                "more than {max} bytes of events; search with --since and --until, or export"
            ))),
            Ok(Err(error)) => {
                tracing::error!(error = %describe(&error), "the record cannot be read");
                let text = "the record cannot be read; `corral audit verify` says more";
                Err(AppError::Unavailable(text.to_owned()))
            }
            Err(error) => {
                tracing::error!(%error, "reading the record ended early");
                Err(AppError::Unavailable("the record cannot be read".to_owned()))
            }
        }
    }
}

fn sight_of(caller: &Caller, reader: &Reader) -> Result<Sight, ReadError> {
    Ok(match caller {
        Caller::Admin => Sight::All,
        Caller::Principal { principal, .. } => Sight::Of(principal.to_string()),
        Caller::Run { run, .. } => Sight::Runs(reader.runs_below(run)?),
    })
}

/// A filter, checked: what the record looks for, and what is looked at afterwards.
struct Wanted {
    filter: Filter,
    run: Option<RunId>,
    /// Names, or beginnings that end in a dot.
    names: Vec<String>,
    outcome: Option<Outcome>,
    len_max: usize,
}

impl Wanted {
    fn of(filter: EventFilter) -> Result<Self, AppError> {
        let invalid = |text: String| AppError::Invalid(vec![Problem::new(None, text)]);
        let run = filter.run.map(RunId::new).transpose();
        let session = filter.session.map(SessionId::new).transpose();
        let outcome = filter.outcome.map(|text| {
            [Outcome::Allow, Outcome::Deny, Outcome::Hold]
                .into_iter()
                .find(|outcome| outcome.name() == text)
                .ok_or_else(|| invalid(format!("'{text}' is no outcome: allow, deny or hold")))
        });
        let names = filter.event.iter().flat_map(|names| names.split(','));
        Ok(Self {
            names: names.map(|name| name.trim().to_owned()).collect(),
            run: run.map_err(|error| invalid(format!("run: {error}")))?,
            outcome: outcome.transpose()?,
            len_max: filter.limit.unwrap_or(SEARCH_LEN).min(limits::RECORD_SEARCH_LEN_MAX),
            filter: Filter {
                session: session.map_err(|error| invalid(format!("session: {error}")))?,
                person: filter.principal,
                runs: None,
                target: filter.target,
                object: filter.table,
                verb: filter.verb,
                text: filter.text,
                event: None,
                since: filter.since,
                until: filter.until,
            },
        })
    }

    /// Oldest first. What is looked at afterwards may thin out a page, so pages are read until
    /// there are enough events.
    fn find(mut self, reader: &Reader, sight: &Sight) -> Result<Vec<Event>, ReadError> {
        if let Some(run) = &self.run {
            self.filter.runs = Some(reader.runs_below(run)?);
        }
        let mut events: Vec<Event> = Vec::new();
        let mut at_edge: BTreeSet<String> = BTreeSet::new();
        loop {
            let page_max = limits::RECORD_SEARCH_LEN_MAX;
            let page = reader.search(&self.filter, Order::OldestFirst, page_max)?;
            for damaged in &page.damaged {
                tracing::warn!(%damaged, "a file of the record was not read to its end");
            }
            let newest = page.events.last().map(|event| event.time);
            let is_same_instant = newest.is_some() && newest == self.filter.since;
            let next_edge: BTreeSet<String> = page
                .events
                .iter()
                .filter(|event| Some(event.time) == newest)
                .map(|event| event.id.clone())
                .collect();
            let unseen = page.events.into_iter().filter(|event| !at_edge.contains(&event.id));
            let room = self.len_max.saturating_sub(events.len());
            events.extend(unseen.filter(|event| self.is_wanted(event, sight)).take(room));
            if !page.has_more || is_same_instant || events.len() >= self.len_max {
                return Ok(events);
            }
            at_edge = next_edge;
            self.filter.since = newest;
        }
    }

    fn is_wanted(&self, event: &Event, sight: &Sight) -> bool {
        let name = event.body.name();
        let is_named = |wanted: &String| {
            name == wanted || (wanted.ends_with('.') && name.starts_with(wanted.as_str()))
        };
        let of_name = self.names.is_empty() || self.names.iter().any(is_named);
        let of_outcome = self.outcome.is_none_or(|wanted| match &event.body {
            EventBody::StatementDecided { outcome, .. } => *outcome == wanted,
            _ => false,
        });
        of_name && of_outcome && sight.covers(event)
    }
}
