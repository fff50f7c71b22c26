//! Streams into containers: exec, attach and port-forward, over WebSocket on both sides.

mod account;
mod carry;
mod channels;
mod command;
mod frame;
mod handshake;
mod refusals;
mod relay;
mod target;

use std::sync::Arc;

use corral_gate::Denial;
use corral_model::TraceParent;
use corral_model::statement::Attribute;
use corral_session::{Answer, Completion, Draft, HttpBody, Waiting, traceparent};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::call::Call;
use super::cluster::Cluster;
use super::judge;
use super::path::ResourcePath;
use crate::http_parts::bodies::empty;
use carry::{Carried, Notice};
use command::Command;
use handshake::{ClientHandshake, HandshakeError, StreamKind};
use refusals::StoredAnswer;
pub(crate) use refusals::{Key, Refusals};

/// A request for a stream, read.
pub(crate) struct StreamCall {
    kind: StreamKind,
    /// What people and the record read.
    line: String,
    /// What its client says of its trace: a claim.
    traceparent: Option<TraceParent>,
    /// Fields for policies, beside those of the request's line.
    attributes: Vec<(&'static str, Attribute)>,
    notice: Notice,
}

/// Whether a request is for a stream of this kind.
pub(crate) fn read(call: &Call, headers: &HeaderMap) -> Option<StreamCall> {
    let path = call.resource()?;
    let ResourcePath { group, resource, subresource, .. } = path;
    let is_pod = group.is_empty() && resource == "pods" && path.prefix.is_none();
    let is_pod = is_pod && path.rest.is_empty();
    let word = subresource.as_deref().filter(|_| is_pod)?;
    let kind = match word {
        "exec" | "attach" => StreamKind::Terminal,
        "portforward" => StreamKind::Forward,
        _ => return None,
    };
    let command = (word == "exec").then(|| Command::of(call.query.all("command")));
    let (is_tty, has_input) = (call.query.flag("tty"), call.query.flag("stdin"));
    let is_shell = command.as_ref().is_none_or(|command| command.is_shell);
    let is_interactive = kind == StreamKind::Terminal && has_input && (is_tty || is_shell);
    let mut line = command::line(
        word,
        path.namespace.as_deref().unwrap_or_default(),
        path.name.as_deref().unwrap_or_default(),
        call.query.get("container"),
        command.as_ref(),
        is_interactive,
    );
    for port in call.query.all("ports") {
        line.push_str(&format!(" port {port}"));
    }
    let mut attributes = vec![("is_interactive", Attribute::Flag(is_interactive))];
    if let Some(command) = command {
        attributes.push(("program", Attribute::Text(command.program)));
    }
    let notice = match (kind, is_tty, call.query.flag("stderr")) {
        (StreamKind::Terminal, true, _) => Notice::OnOutput,
        (StreamKind::Terminal, false, true) => Notice::OnErrors,
        _ => Notice::Nowhere,
    };
    let traceparent = traceparent(headers);
    Some(StreamCall { kind, line, traceparent, attributes, notice })
}

/// Where refusals are remembered, and for which request of which client.
pub(crate) struct Asked<'a> {
    pub(crate) refusals: &'a Refusals,
    pub(crate) key: Key,
}

/// Answers a request for a stream. What follows is a task of the session.
///
/// # Errors
/// A [`Denial`]: the client is refused.
///
/// # Cancel safety
/// Dropping it withdraws what waits for people.
pub(crate) async fn answer(
    cluster: &Arc<Cluster>,
    stream: StreamCall,
    call: &Call,
    mut parts: Parts,
    asked: Asked<'_>,
) -> Result<Response<HttpBody>, Denial> {
    let read = ClientHandshake::read(stream.kind, &parts.method, parts.version, &parts.headers);
    let handshake = match read {
        Ok(handshake) => handshake,
        Err(error) => {
            if error == HandshakeError::Spdy
                && let Some(stored) = asked.refusals.take(&asked.key)
            {
                // client-go asks again this way after any refusal: it is told the same.
                return Ok(stored.response());
            }
            return Err(decided_denial(cluster, stream, error.to_string()).await);
        }
    };
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        let text = HandshakeError::Method.to_string();
        return Err(decided_denial(cluster, stream, text).await);
    };
    let mut facts =
        judge::facts(call, &cluster.options.known_groups, &judge::ObjectFacts::default());
    facts.attributes.extend(stream.attributes);
    let impersonates = super::outgoing::asks_impersonation(&parts.headers);
    facts.attributes.insert("asks_impersonation", Attribute::Flag(impersonates));
    let draft = Draft {
        text: stream.line.into(),
        facts: Arc::new(facts),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: stream.traceparent,
        is_stream: true,
    };
    let running = match cluster.session.decide(draft).await {
        Answer::Allow(running) => running,
        Answer::Deny(denial) => {
            asked.refusals.keep(asked.key, StoredAnswer::of_denial(&denial));
            return Err(denial);
        }
        Answer::Hold(waiting) if stream.kind == StreamKind::Terminal => {
            let carried = Carried {
                cluster: cluster.clone(),
                parts,
                handshake: handshake.clone(),
                upgrade,
                notice: stream.notice,
            };
            return hold(carried, waiting);
        }
        Answer::Hold(waiting) => match waiting.wait().await {
            Ok(running) => running,
            Err(denial) => {
                asked.refusals.keep(asked.key, StoredAnswer::of_denial(&denial));
                return Err(denial);
            }
        },
    };
    let target = match target::open(cluster, &parts, handshake.subprotocol, &running).await {
        Ok(target) => target,
        Err(refused) => {
            let stored = StoredAnswer::of_refused(&refused);
            let code = stored.code.as_u16().to_string();
            running.finish(Completion { code, ..Completion::default() }).await;
            asked.refusals.keep(asked.key, stored.clone());
            return Ok(stored.response());
        }
    };
    let carried = Carried {
        cluster: cluster.clone(),
        parts,
        handshake: handshake.clone(),
        upgrade,
        notice: stream.notice,
    };
    cluster.session.spawn(carried.run(running, target))?;
    Ok(switched(&handshake))
}

/// The client's connection becomes a stream at once, so that it can be told that it waits.
fn hold(carried: Carried, waiting: Waiting) -> Result<Response<HttpBody>, Denial> {
    let response = switched(&carried.handshake);
    let session = carried.cluster.session.clone();
    session.spawn(carried.wait(waiting))?;
    Ok(response)
}

fn switched(handshake: &ClientHandshake) -> Response<HttpBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = handshake.answer();
    response
}

/// The refusal of a stream that cannot be carried, recorded.
async fn decided_denial(cluster: &Cluster, stream: StreamCall, text: String) -> Denial {
    let draft = Draft {
        text: stream.line.into(),
        facts: Arc::new(judge::obstructed(text.clone(), false)),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: stream.traceparent,
        is_stream: false,
    };
    match cluster.session.decide(draft).await {
        Answer::Deny(denial) => denial,
        // The gate permits no obstacle; if it did, nothing would be forwarded either.
        Answer::Allow(_) | Answer::Hold(_) => {
            Denial::new(corral_gate::DenialKind::NotSupported, text)
        }
    }
}
