//! The record: search, follow, export, replay.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use corral_api::{EventQuery, StreamQuery};
use corral_model::{Event, limits};
use futures_util::Stream;
use time::OffsetDateTime;

use super::Failure;
use super::extract::{Asked, SignedIn};
use crate::app::audit::{EventFilter, EventStream};
use crate::app::{App, Caller};

const JSON_LINES: &str = "application/x-ndjson";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/events", get(search))
        .route("/events/stream", get(follow))
        .route("/events/export", get(export))
        .route("/replay/{id}", get(replay))
}

async fn search(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<EventQuery>,
) -> Result<Json<Vec<Event>>, Failure> {
    Ok(Json(app.search_events(&caller, filter(query)).await?))
}

async fn replay(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let events = app.replay(&caller, &id).await?;
    let lines = events.into_iter().map(|event| line(&event));
    Ok(json_lines(futures_util::stream::iter(lines)))
}

async fn export(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<EventQuery>,
) -> Result<Response, Failure> {
    let mut filter = filter(query);
    filter.limit = Some(limits::EVENTS_PAGE_LEN_MAX);
    // The first page comes before the status, so that a refusal still has its own.
    let first = app.search_events(&caller, filter.clone()).await?;
    Ok(json_lines(pages(app, caller, filter, first)))
}

/// Pages through the record by time. Events of one instant may stand on both sides of a page's
/// edge, so the ids of the last instant are left out of the next page.
fn pages(
    app: Arc<App>,
    caller: Caller,
    mut filter: EventFilter,
    first: Vec<Event>,
) -> impl Stream<Item = std::io::Result<String>> {
    async_stream::stream! {
        let mut page = first;
        let mut seen: HashSet<String> = HashSet::new();
        loop {
            let is_last = page.len() < limits::EVENTS_PAGE_LEN_MAX;
            let newest = page.last().map(|event| event.time);
            let before_page = seen.len();
            for event in page.iter().filter(|event| !seen.contains(&event.id)) {
                yield line(event);
            }
            if is_last {
                break;
            }
            let is_same_instant = newest.is_some() && newest == filter.since;
            if !is_same_instant {
                seen.clear();
            }
            let at_edge = page.iter().filter(|event| Some(event.time) == newest);
            seen.extend(at_edge.map(|event| event.id.clone()));
            if is_same_instant && seen.len() == before_page {
                let text = "more events of one instant than a page holds";
                yield Err(std::io::Error::other(text));
                break;
            }
            filter.since = newest;
            page = match app.search_events(&caller, filter.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    // The body breaks off, so that nobody takes a part for the whole.
                    yield Err(std::io::Error::other(error.to_string()));
                    break;
                }
            };
        }
    }
}

async fn follow(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<StreamQuery>,
) -> Result<Response, Failure> {
    // Followed before the past is read, so that nothing falls between the two.
    let live = app.follow_events(&caller)?;
    let past = match query.since {
        Some(since) => app.search_events(&caller, past_filter(&query, since)).await?,
        None => Vec::new(),
    };
    // The page holds the oldest; what lies between it and the present would be missing.
    if past.len() >= limits::EVENTS_PAGE_LEN_MAX {
        let max = limits::EVENTS_PAGE_LEN_MAX;
        return Err(Failure::invalid(format!(
            "{max} events or more happened since then; export them, and follow from a later time"
        )));
    }
    let stream = followed(app, caller, query, past, live);
    let keep_alive = KeepAlive::new().interval(limits::EVENT_STREAM_KEEP_ALIVE);
    Ok(Sse::new(stream).keep_alive(keep_alive).into_response())
}

fn followed(
    app: Arc<App>,
    caller: Caller,
    query: StreamQuery,
    past: Vec<Event>,
    mut live: EventStream,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    async_stream::stream! {
        let mut sent: HashSet<String> = HashSet::new();
        for event in past {
            yield Ok(message(&event));
            sent.insert(event.id);
        }
        let mut recheck = tokio::time::interval(limits::EVENT_STREAM_RECHECK);
        loop {
            tokio::select! {
                next = live.next() => match next {
                    Some(Ok(event)) => {
                        // Each id comes once, so `sent` only shrinks.
                        if is_wanted(&query, &event) && !sent.remove(&event.id) {
                            yield Ok(message(&event));
                        }
                    }
                    Some(Err(missed)) => {
                        let text = format!("{{\"missed\":{missed}}}");
                        yield Ok(sse::Event::default().event("missed").data(text));
                    }
                    None => break,
                },
                _ = recheck.tick() => {
                    // An ended run, a revoked token or a disabled user reads no further.
                    if app.whoami(&caller).await.is_err() {
                        break;
                    }
                }
            }
        }
    }
}

fn past_filter(query: &StreamQuery, since: OffsetDateTime) -> EventFilter {
    EventFilter {
        since: Some(since),
        event: query.event.clone(),
        session: query.session.as_ref().map(ToString::to_string),
        target: query.target.as_ref().map(ToString::to_string),
        limit: Some(limits::EVENTS_PAGE_LEN_MAX),
        ..EventFilter::default()
    }
}

fn is_wanted(query: &StreamQuery, event: &Event) -> bool {
    let of_session = query.session.is_none() || query.session == event.origin.session;
    let of_target = query.target.is_none() || query.target == event.origin.target;
    let of_name = query.event.as_deref().is_none_or(|wanted| event.body.name().starts_with(wanted));
    of_session && of_target && of_name
}

fn filter(query: EventQuery) -> EventFilter {
    EventFilter {
        since: query.since,
        until: query.until,
        event: query.event,
        principal: query.principal,
        run: query.run.map(|id| id.to_string()),
        session: query.session.map(|id| id.to_string()),
        target: query.target.map(|name| name.to_string()),
        verb: query.verb,
        table: query.table,
        text: query.text,
        outcome: query.outcome.map(|outcome| outcome.name().to_owned()),
        limit: query.limit.and_then(|limit| usize::try_from(limit).ok()),
    }
}

fn line(event: &Event) -> std::io::Result<String> {
    let mut text = serde_json::to_string(event)?;
    text.push('\n');
    Ok(text)
}

fn message(event: &Event) -> sse::Event {
    match serde_json::to_string(event) {
        Ok(text) => sse::Event::default().id(event.id.clone()).data(text),
        Err(error) => {
            tracing::error!(%error, "an event does not serialise");
            sse::Event::default().event("missed").data("{\"missed\":1}")
        }
    }
}

fn json_lines(lines: impl Stream<Item = std::io::Result<String>> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}
