//! From events to spans: what began is kept until it ends. Pure.
//!
//! A run is the parent of its child runs and of its sessions, a session that of its statements;
//! all below one root run are one trace. What a client says of its own trace becomes a link, so
//! that nobody can put a span into somebody else's trace (docs/adr/0009).

use std::collections::{BTreeMap, HashMap};

use corral_model::TraceParent;
use corral_model::event::Outcome;
use corral_model::ids::{RunId, SessionId, StatementSeq};
use corral_model::trace::{TraceNames, TracedObjects};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use crate::bounds;
use crate::ids::{
    SpanId, TraceId, span_of_refusal, span_of_run, span_of_session, span_of_statement,
    trace_of_refusal, trace_of_run, trace_of_session,
};
use crate::note::{Decided, Note, Refused, RunStarted, SessionEnd, SessionOpened, What, Who};
use crate::values::{flag, list, number, text};

/// W3C Trace Context: the caller recorded its span.
const FLAG_SAMPLED: u32 = 0x01;
/// OTLP: whether the linked context is of another process is known, and it is.
const FLAGS_REMOTE: u32 = 0x100 | 0x200;

/// What began and has not ended.
pub(crate) struct Spans {
    names: HashMap<String, TraceNames>,
    runs: HashMap<RunId, OpenRun>,
    sessions: HashMap<SessionId, OpenSession>,
    statements_open: usize,
}

struct OpenRun {
    trace: TraceId,
    root: RunId,
    span: Span,
}

struct OpenSession {
    trace: TraceId,
    names: Option<TraceNames>,
    /// Attributes that its statements have too.
    shared: Vec<KeyValue>,
    span: Span,
    statements: BTreeMap<StatementSeq, OpenStatement>,
}

struct OpenStatement {
    decision: String,
    span: Span,
}

/// There are too many things to follow; one was left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut;

impl Spans {
    pub(crate) fn new(names: HashMap<String, TraceNames>) -> Self {
        Self { names, runs: HashMap::new(), sessions: HashMap::new(), statements_open: 0 }
    }

    /// Takes an event, and gives the spans that it ends.
    ///
    /// # Errors
    /// [`LeftOut`] when something begins that cannot be followed.
    pub(crate) fn take(&mut self, note: Note, ended: &mut Vec<Span>) -> Result<(), LeftOut> {
        match note {
            Note::RunStarted(started) => self.run_started(*started),
            Note::RunEnded { run, at, reason } => {
                if let Some(mut open) = self.runs.remove(&run) {
                    open.span.attributes.push(text("corral.run.end", &reason));
                    ended.push(end(open.span, at));
                }
                Ok(())
            }
            Note::Refused(refused) => {
                ended.push(self.refused(&refused));
                Ok(())
            }
            Note::SessionOpened(opened) => self.session_opened(*opened),
            Note::SessionClosed { session, at, end } => {
                self.session_closed(&session, at, &end, ended);
                Ok(())
            }
            Note::Decided(decided) => self.decided(*decided, ended),
            Note::Unapproved { session, decision, at, state } => {
                if let Some(open) = self.sessions.get_mut(&session) {
                    let found = open.statements.iter().find(|(_, it)| it.decision == decision);
                    if let Some(seq) = found.map(|(seq, _)| *seq) {
                        self.finish(&session, seq, at, Some(state), ended);
                    }
                }
                Ok(())
            }
            Note::Completed { session, seq, at, code, rows } => {
                self.completed(&session, seq, at, &code, rows, ended);
                Ok(())
            }
        }
    }

    fn run_started(&mut self, started: RunStarted) -> Result<(), LeftOut> {
        if self.runs.len() >= bounds::RUNS_OPEN_MAX {
            return Err(LeftOut);
        }
        let RunStarted { run, parent, at, who, claim } = started;
        let root = match &parent {
            None => run.clone(),
            // Of an unknown parent nothing better is known than that it is above.
            Some(parent) => self.runs.get(parent).map_or(parent, |open| &open.root).clone(),
        };
        let trace = trace_of_run(&root);
        let mut attributes = of_who(&who);
        attributes.push(text("corral.root", root.as_str()));
        let span = Span {
            name: "corral.run".to_owned(),
            kind: SpanKind::Internal.into(),
            attributes,
            ..begin(trace, span_of_run(&run), parent.as_ref().map(span_of_run), at)
        };
        let span = with_claim(span, claim.as_ref());
        self.runs.insert(run, OpenRun { trace, root, span });
        Ok(())
    }

    /// What was refused is a span that ends where it begins, of the run in whose name it was asked
    /// for.
    fn refused(&self, refused: &Refused) -> Span {
        let Refused { what, from, to, who, target, address, .. } = refused;
        let name = match what {
            What::Run => "corral.run".to_owned(),
            What::Session => format!("corral.session {}", target.as_deref().unwrap_or_default()),
        };
        let kind = match what {
            What::Run => SpanKind::Internal,
            What::Session => SpanKind::Server,
        };
        let key = format!("{name} {from} {to} {who:?} {address:?}");
        let (trace, parent) = match &who.run {
            None => (trace_of_refusal(&key), None),
            Some(run) => {
                let known = self.runs.get(run);
                let trace = known.map_or_else(|| trace_of_run(run), |open| open.trace);
                (trace, Some(span_of_run(run)))
            }
        };
        let mut attributes = of_who(who);
        attributes.extend(target.as_deref().map(|target| text("corral.target", target)));
        attributes.extend(address.as_deref().map(|address| text("client.address", address)));
        let decision = refused.decision.as_deref();
        attributes.extend(decision.map(|decision| text("corral.decision", decision)));
        attributes.push(number("corral.refusals", refused.count));
        let span = Span {
            name: name.trim_end().to_owned(),
            kind: kind.into(),
            attributes,
            ..begin(trace, span_of_refusal(&key), parent, *from)
        };
        failed(with_claim(span, refused.claim.as_ref()), *to, "refused")
    }

    fn session_opened(&mut self, opened: SessionOpened) -> Result<(), LeftOut> {
        if self.sessions.len() >= bounds::SESSIONS_OPEN_MAX {
            return Err(LeftOut);
        }
        let SessionOpened { session, at, who, protocol, target, address } = opened;
        let mut shared = of_who(&who);
        let (trace, parent) = match &who.run {
            None => (trace_of_session(&session), None),
            Some(run) => {
                let known = self.runs.get(run);
                let root = known.map_or(run, |open| &open.root);
                shared.push(text("corral.root", root.as_str()));
                let trace = known.map_or_else(|| trace_of_run(run), |open| open.trace);
                (trace, Some(span_of_run(run)))
            }
        };
        shared.push(text("corral.session", session.as_str()));
        shared.extend(target.as_deref().map(|target| text("corral.target", target)));
        shared.push(text("corral.protocol", &protocol));
        let mut attributes = shared.clone();
        attributes.push(text("client.address", &address));
        let span = Span {
            name: format!("corral.session {}", target.as_deref().unwrap_or_default()),
            kind: SpanKind::Server.into(),
            attributes,
            ..begin(trace, span_of_session(&session), parent, at)
        };
        let names = self.names.get(&protocol).copied();
        let open = OpenSession { trace, names, shared, span, statements: BTreeMap::new() };
        self.sessions.insert(session, open);
        Ok(())
    }

    fn session_closed(
        &mut self,
        session: &SessionId,
        at: u64,
        closed: &SessionEnd,
        ended: &mut Vec<Span>,
    ) {
        let Some(mut open) = self.sessions.remove(session) else { return };
        self.statements_open = self.statements_open.saturating_sub(open.statements.len());
        for statement in std::mem::take(&mut open.statements).into_values() {
            ended.push(failed(statement.span, at, "session_closed"));
        }
        open.span.attributes.extend([
            text("corral.session.end", &closed.reason),
            number("corral.session.statements", closed.statements),
            number("corral.session.rows", closed.rows),
            number("corral.session.bytes_to_client", closed.bytes_to_client),
            number("corral.session.bytes_to_target", closed.bytes_to_target),
        ]);
        ended.push(end(open.span, at));
    }

    fn decided(&mut self, decided: Decided, ended: &mut Vec<Span>) -> Result<(), LeftOut> {
        let (session, seq, at) = (decided.session.clone(), decided.seq, decided.at);
        let outcome = decided.outcome;
        let Some(open) = self.sessions.get_mut(&session) else { return Err(LeftOut) };
        if let Some(again) = open.statements.get_mut(&seq) {
            // What people approved is decided once more.
            again.span.attributes.retain(|pair| pair.key != "corral.outcome");
            again.span.attributes.push(text("corral.outcome", outcome.name()));
            again.decision = decided.decision;
        } else {
            if self.statements_open >= bounds::STATEMENTS_OPEN_MAX {
                return Err(LeftOut);
            }
            let span = statement_span(open, &decided);
            open.statements.insert(seq, OpenStatement { decision: decided.decision, span });
            self.statements_open += 1;
        }
        match outcome {
            Outcome::Allow | Outcome::Hold => {}
            Outcome::Deny => self.finish(&session, seq, at, Some("denied"), ended),
        }
        Ok(())
    }

    fn completed(
        &mut self,
        session: &SessionId,
        seq: StatementSeq,
        at: u64,
        code: &str,
        rows: u64,
        ended: &mut Vec<Span>,
    ) {
        let Some(open) = self.sessions.get_mut(session) else { return };
        let names = open.names;
        if let Some(statement) = open.statements.get_mut(&seq) {
            let attributes = &mut statement.span.attributes;
            attributes.push(text(names.map_or("corral.code", |names| names.code), code));
            if let Some(key) = names.and_then(|names| names.rows) {
                attributes.push(number(key, rows));
            }
        }
        let is_success = names.is_some_and(|names| names.successes.contains(&code));
        self.finish(session, seq, at, (!is_success).then_some(code), ended);
    }

    fn finish(
        &mut self,
        session: &SessionId,
        seq: StatementSeq,
        at: u64,
        error: Option<&str>,
        ended: &mut Vec<Span>,
    ) {
        let open = self.sessions.get_mut(session);
        let Some(statement) = open.and_then(|open| open.statements.remove(&seq)) else { return };
        self.statements_open = self.statements_open.saturating_sub(1);
        ended.push(match error {
            None => end(statement.span, at),
            Some(error) => failed(statement.span, at, error),
        });
    }
}

fn statement_span(open: &OpenSession, decided: &Decided) -> Span {
    let mut attributes = open.shared.clone();
    attributes.extend([
        number("corral.statement", decided.seq.0),
        text("corral.decision", &decided.decision),
        text("corral.outcome", decided.outcome.name()),
        number("corral.policy.version", decided.policy_version),
    ]);
    attributes.extend(list("corral.rules", &decided.rules));
    attributes.extend(list("corral.verbs", &decided.verbs));
    attributes.extend(list("corral.effects", &decided.effects));
    let approval = decided.approval.as_ref();
    attributes.extend(approval.map(|id| text("corral.approval", id.as_str())));
    let objects = traced_objects(open.names, &decided.objects);
    attributes.extend(list("corral.objects", &objects));
    let summary = summary(&decided.verbs, &objects);
    if let Some((key, value)) = open.names.and_then(|names| names.system) {
        attributes.extend([text(key, value), text("db.query.summary", &summary)]);
        if let [verb] = decided.verbs.as_slice() {
            attributes.push(text("db.operation.name", verb));
        }
        if let [object] = objects.as_slice() {
            attributes.push(text("db.collection.name", object));
        }
    }
    let session = &decided.session;
    let span = Span {
        name: summary,
        kind: SpanKind::Client.into(),
        attributes,
        ..begin(
            open.trace,
            span_of_statement(session, decided.seq),
            Some(span_of_session(session)),
            decided.at,
        )
    };
    with_claim(span, decided.claim.as_ref())
}

/// What of the objects' names may be told: names that belong to a schema, and no data.
fn traced_objects(names: Option<TraceNames>, objects: &[(String, String)]) -> Vec<String> {
    let mut found: Vec<String> = match names.map(|names| names.objects) {
        None | Some(TracedObjects::Nothing) => Vec::new(),
        Some(TracedObjects::Names) => {
            let whole = |(schema, name): &(String, String)| match schema.as_str() {
                "" => name.clone(),
                schema => format!("{schema}.{name}"),
            };
            objects.iter().map(whole).collect()
        }
        Some(TracedObjects::Types) => {
            let kind = |(_, name): &(String, String)| match name.split_once('/') {
                Some((kind, _)) => kind.to_owned(),
                None => name.clone(),
            };
            objects.iter().map(kind).collect()
        }
    };
    found.dedup();
    found
}

/// `select public.orders`: what is done with what, in few different texts.
fn summary(verbs: &[String], objects: &[String]) -> String {
    let words: Vec<&str> = verbs.iter().chain(objects).map(String::as_str).collect();
    if words.is_empty() { "statement".to_owned() } else { crate::values::short(&words.join(" ")) }
}

fn of_who(who: &Who) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    attributes.extend(who.run.as_ref().map(|run| text("corral.run", run.as_str())));
    attributes.extend(who.path.as_deref().map(|path| text("corral.run.path", path)));
    attributes.extend(who.principal.as_deref().map(|name| text("corral.principal", name)));
    attributes.extend(who.sponsor.as_deref().map(|name| text("corral.sponsor", name)));
    attributes
}

fn begin(trace: TraceId, span: SpanId, parent: Option<SpanId>, at: u64) -> Span {
    Span {
        trace_id: trace.to_vec(),
        span_id: span.to_vec(),
        parent_span_id: parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: FLAG_SAMPLED,
        start_time_unix_nano: at,
        ..Span::default()
    }
}

/// The client's own trace, as a link that says that nobody checked it.
fn with_claim(mut span: Span, claim: Option<&TraceParent>) -> Span {
    let Some(context) = claim.and_then(TraceParent::context) else { return span };
    span.attributes.push(text("corral.claimed.trace_id", context.trace_id_text));
    span.links.push(Link {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        flags: u32::from(context.flags) | FLAGS_REMOTE,
        attributes: vec![flag("corral.claimed", true)],
        ..Link::default()
    });
    span
}

/// Clocks may be set back while something runs.
fn end(span: Span, at: u64) -> Span {
    Span { end_time_unix_nano: at.max(span.start_time_unix_nano), ..span }
}

fn failed(mut span: Span, at: u64, error: &str) -> Span {
    span.attributes.push(text("error.type", error));
    span.status = Some(Status { code: StatusCode::Error.into(), message: error.to_owned() });
    end(span, at)
}

#[cfg(test)]
mod tests;
