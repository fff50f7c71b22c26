//! One request's way: who, what, may it, and only then to the cluster and back.

mod held;

use std::sync::Arc;

use bytes::Bytes;
use corral_gate::{Denial, DenialKind};
use corral_model::ids::StatementSeq;
use corral_model::statement::{Attribute, Facts};
use corral_model::{TraceParent, limits};
use corral_session::{Answer, Completion, Draft, HttpBody, HttpTarget, Running, traceparent};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;

use super::Kept;
use super::body::{self, sorted};
use super::call::{ApiVerb, Call};
use super::change::Change;
use super::cluster::Cluster;
use super::diff::{canonical, digest};
use super::judge::{self, ObjectFacts};
use super::live::Live;
use super::masking;
use super::objects::{self, ObjectError, Written};
use super::outgoing::asks_impersonation;
use super::parked::{Place, approval_of};
use super::path::ResourcePath;
use super::preview::{self, Previewed};
use super::secrets::MaskPlan;
use super::status::refusal;
use super::streams::{self, Asked, Key};
use crate::http_parts::bearer::shown_token;
use crate::http_parts::bodies::{CollectError, Peeked, ToClient, ToTarget, collect, full, peek};
use crate::http_parts::headers::{asks_upgrade, strip_hop_by_hop};
use crate::http_parts::sessions::{Kept as _, Sessions};
use crate::http_parts::target::{Answered, Patience};
use held::{Parking, Shown};

/// A written object as approvers and the record see it, in bytes; of a longer one, its start.
const SHOWN_BYTES_MAX: usize = 16 * 1024;

/// Answers a request. Refusals are answers.
///
/// # Cancel safety
/// Dropping it ends what the request does at the target, and withdraws what waits for people.
pub(crate) async fn answer(
    sessions: &Sessions<Cluster>,
    kept: &Kept,
    target: &HttpTarget,
    request: Request<HttpBody>,
) -> Response<HttpBody> {
    let token = match shown_token(request.headers(), request.extensions()) {
        Ok(token) => token,
        Err(error) => {
            let denial = Denial::new(DenialKind::Authentication, error.to_string());
            sessions.refused(&denial.sentence());
            return refusal(&denial);
        }
    };
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let shown = token.digest();
    let key = Key::new(&shown, target.name(), path);
    let asked = Asked { refusals: &kept.refusals, key };
    let owner = Key::new(&shown, target.name(), "");
    let named = approval_of(request.headers());
    let again = named.as_ref().ok().and_then(Option::as_ref).and_then(|approval| {
        let place = Place { owner: owner.clone(), approval: approval.clone() };
        let filed = kept.parked.find(&place)?;
        (!filed.cluster.is_token_over()).then_some((place, filed))
    });
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let cluster = match &again {
        // What was held goes on in the session in which it was held.
        Some((_, filed)) => filed.cluster.clone(),
        None => match sessions.of(token, target.name(), user_agent).await {
            Ok(cluster) => cluster,
            Err(denial) => return refusal(&denial),
        },
    };
    let answered = async {
        let (exchange, body) = Exchange::read(&cluster, request).await?;
        match (named, again) {
            (_, Some((place, filed))) => exchange.resume(body, &kept.parked, &place, &filed).await,
            (Ok(None), None) => {
                exchange.run(body, asked, Parking { parked: &kept.parked, owner }).await
            }
            (Ok(Some(approval)), None) => {
                let text = format!(
                    "no request of this token waits under the approval {approval}: it was sent \
                     again already, its time is over, or its session ended; send it anew"
                );
                Err(obstructed(&cluster, exchange.line, text, false).await)
            }
            (Err(text), None) => Err(obstructed(&cluster, exchange.line, text, false).await),
        }
    };
    tokio::select! {
        biased;
        end = cluster.session.ended() => refusal(&end.denial),
        answered = answered => answered.unwrap_or_else(|denial| refusal(&denial)),
    }
}

/// How a request names itself.
struct Line {
    /// As people and the record read it: `GET /api/v1/pods?limit=500`.
    text: String,
    /// What its client says of its trace: a claim.
    traceparent: Option<TraceParent>,
}

/// One request of a session, read.
struct Exchange<'a> {
    cluster: &'a Arc<Cluster>,
    line: Line,
    call: Call,
    parts: Parts,
    /// The object that it writes, when it writes one.
    written: Option<Written>,
    /// What of the answer is masked for this principal.
    mask: Option<Arc<MaskPlan>>,
    /// What of the object is masked in the record, whoever asks.
    classified: Option<Arc<MaskPlan>>,
}

impl<'a> Exchange<'a> {
    /// Reads a request, and gives the body that is to be sent.
    ///
    /// # Errors
    /// A [`Denial`], recorded, for what can never be permitted.
    async fn read(
        cluster: &'a Arc<Cluster>,
        request: Request<HttpBody>,
    ) -> Result<(Self, HttpBody), Denial> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let text = format!("{} {path}", parts.method);
        let line = Line { text, traceparent: traceparent(&parts.headers) };
        // Who reads the first and who reads the last would serve two hosts (RFC 9112 section 3.2).
        if parts.headers.get_all(HOST).iter().nth(1).is_some() {
            let text = "several Host headers were sent; send one".to_owned();
            return Err(obstructed(cluster, line, text, false).await);
        }
        let query = parts.uri.query().unwrap_or_default();
        let call = match Call::read(&parts.method, parts.uri.path(), query) {
            Ok(call) => call,
            Err(error) => return Err(obstructed(cluster, line, error.to_string(), false).await),
        };
        let mask = masking::plan(&call, &cluster.session.masked().await);
        let classified = masking::plan(&call, &cluster.classified);
        if let Some(mask) = &mask
            && let Err(text) = ask_for_masked(&call, mask, &mut parts.headers)
        {
            return Err(obstructed(cluster, line, text, false).await);
        }
        let (written, body) = if call.has_object() {
            let bytes = match take_object(body).await {
                Ok(bytes) => bytes,
                Err(CollectError::Broken(error)) => return Err(broken(error.as_ref())),
                Err(error @ (CollectError::TooLarge { .. } | CollectError::TooSlow(_))) => {
                    let is_size = matches!(error, CollectError::TooLarge { .. });
                    return Err(obstructed(cluster, line, error.to_string(), is_size).await);
                }
            };
            let written = content_type(&parts.headers)
                .and_then(|kind| objects::read(&call, kind, bytes, mask.as_deref()));
            match written {
                Ok(written) => {
                    let body = full(written.body.clone());
                    (Some(written), body)
                }
                Err(error) => {
                    let is_size = error.is_size();
                    return Err(obstructed(cluster, line, error.to_string(), is_size).await);
                }
            }
        } else {
            (None, body)
        };
        Ok((Self { cluster, line, call, parts, written, mask, classified }, body))
    }

    async fn run(
        self,
        body: HttpBody,
        asked: Asked<'_>,
        parking: Parking<'_>,
    ) -> Result<Response<HttpBody>, Denial> {
        if let Some(stream) = streams::read(&self.call, &self.parts.headers) {
            let Self { cluster, call, parts, .. } = self;
            return streams::answer(cluster, stream, &call, parts, asked).await;
        }
        if asks_upgrade(&self.parts.headers) {
            // Watches over WebSocket, and connections through a proxy.
            let text = "an upgrade is carried for exec, attach and portforward of pods only";
            return Err(obstructed(self.cluster, self.line, text.to_owned(), false).await);
        }
        let previewed = match self.preview().await? {
            None => None,
            Some(Previewed::Result(result)) => Some(result),
            Some(Previewed::Refused(response, seq)) => return Ok(self.masked(response, seq)),
        };
        let live = self.live(previewed.as_ref()).await?;
        let draft = self.draft(self.facts(previewed.as_ref()), previewed.as_ref(), live.as_ref());
        match self.cluster.session.decide(draft.clone()).await {
            Answer::Allow(running) => self.forward(body, running).await,
            Answer::Deny(denial) => Err(denial),
            Answer::Hold(waiting) => {
                let shown = Shown { draft, result: previewed, live };
                self.wait(body, waiting, shown, parking).await
            }
        }
    }

    /// What policies see. `result` is the object as the target would keep it, where it was asked.
    fn facts(&self, result: Option<&Value>) -> Facts {
        let known_groups = &self.cluster.options.known_groups;
        let mut object = match (&self.written, result) {
            (None, _) => ObjectFacts::default(),
            (Some(written), None) => written.facts.clone(),
            (Some(written), Some(result)) => objects::of_result(&self.call, &written.facts, result),
        };
        // The target's owner says that these objects are plain data.
        let is_known = |path: &ResourcePath| known_groups.contains(&path.group);
        object.is_unknown &= !self.call.resource().is_some_and(is_known);
        let mut facts = judge::facts(&self.call, known_groups, &object);
        let asks = Attribute::Flag(asks_impersonation(&self.parts.headers));
        facts.attributes.insert("asks_impersonation", asks);
        facts.is_masked = self.mask.is_some();
        facts
    }

    fn draft(&self, facts: Facts, result: Option<&Value>, live: Option<&Live>) -> Draft {
        let mut text = self.line.text.clone();
        for line in live.map(Live::line).into_iter().chain(self.shown()) {
            text.push('\n');
            text.push_str(&line);
        }
        Draft {
            text: text.into(),
            facts: Arc::new(facts),
            parameters: Vec::new(),
            state_digest: self.state_digest(result, live),
            traceparent: self.line.traceparent.clone(),
            is_stream: self.call.is_stream(),
        }
    }

    /// The object that is written, as approvers and the record see it.
    fn shown(&self) -> Option<String> {
        let object = self.written.as_ref()?.object.as_ref()?;
        let mut text = sorted(&self.canonical(object));
        if text.len() > SHOWN_BYTES_MAX {
            let mut end = SHOWN_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        Some(text)
    }

    fn canonical(&self, object: &Value) -> Value {
        canonical(object, self.classified.as_deref(), &self.cluster.digest_key)
    }

    /// What an approval binds beside the text: the object as it was sent, as it would become, and
    /// which one it is in which state.
    fn state_digest(&self, result: Option<&Value>, live: Option<&Live>) -> String {
        let digest = |object: &Value| digest(&self.canonical(object));
        let mut parts: Vec<String> = Vec::new();
        if let Some(sent) = self.written.as_ref().and_then(|written| written.object.as_ref()) {
            parts.push(format!("object={}", digest(sent)));
        }
        if let Some(result) = result {
            parts.push(format!("result={}", digest(result)));
        }
        parts.extend(live.map(Live::binding));
        parts.join(" ")
    }

    /// Tries a write, when it is one that is decided on its result.
    async fn preview(&self) -> Result<Option<Previewed>, Denial> {
        let Some(written) = self.written.as_ref() else { return Ok(None) };
        if !preview::is_wanted(&self.call, written, self.cluster.options.preview) {
            return Ok(None);
        }
        // Whoever may not write at all has nothing tried for them.
        let known_groups = &self.cluster.options.known_groups;
        let facts = judge::facts(&self.call, known_groups, &ObjectFacts::default());
        self.cluster.session.check(self.draft(facts, None, None)).await?;
        self.ask_preview(written).await.map(Some)
    }

    async fn ask_preview(&self, written: &Written) -> Result<Previewed, Denial> {
        let facts = preview::facts(&self.facts(None));
        let draft = Draft {
            text: format!("dry run of {}", self.line.text).into(),
            facts: Arc::new(facts),
            parameters: Vec::new(),
            state_digest: String::new(),
            traceparent: self.line.traceparent.clone(),
            is_stream: false,
        };
        let running = match self.cluster.session.decide(draft).await {
            Answer::Allow(running) => running,
            Answer::Deny(denial) => return Err(denial),
            Answer::Hold(waiting) => waiting.wait().await?,
        };
        preview::ask(self.cluster, &self.parts, written, running).await
    }

    /// The target's refusal of a dry run, as the client may see it.
    fn masked(&self, response: Response<HttpBody>, seq: StatementSeq) -> Response<HttpBody> {
        let (mut parts, mut body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        if let Some(mask) = &self.mask {
            let account = (self.cluster.session.clone(), seq);
            body = masking::apply(mask, self.call.verb, &mut parts, body, account);
        }
        Response::from_parts(parts, body)
    }

    async fn forward(self, body: HttpBody, running: Running) -> Result<Response<HttpBody>, Denial> {
        let cluster = self.cluster;
        let change = self.change(&running).await;
        let read_after = self.read_after();
        let Self { mut parts, call, mask, classified, .. } = self;
        if change.is_some() {
            // The answer is read on its way.
            parts.headers.remove(ACCEPT_ENCODING);
        }
        // The client was told to go on by this side already; the length is the body's.
        parts.headers.remove(EXPECT);
        parts.headers.remove(CONTENT_LENGTH);
        cluster.outgoing.apply(&mut parts.headers, running.permit().decision_id());
        let body = ToTarget::new(body, cluster.session.clone());
        let request = Request::from_parts(parts, body.boxed_unsync());
        let is_proxied = call.resource().is_some_and(ResourcePath::is_proxied);
        let patience = if is_proxied { Patience::OfSession } else { Patience::Bounded };
        let Answered { response, lease } = cluster.target.send(request, patience).await?;
        cluster.opened().await;
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let mut body = corral_session::http::boxed(body);
        if let Some(change) = change.filter(|_| parts.status.is_success()) {
            let Peeked { start, body: same } =
                peek(body, limits::ANSWER_OBJECT_BYTES_MAX, limits::TARGET_HEAD_DEADLINE).await;
            body = same;
            let after = match (start.and_then(|bytes| body::read_json(&bytes).ok()), read_after) {
                (None, Some(path)) => preview::read_object(cluster, &path, &running).await,
                (after, _) => after,
            };
            let key = &cluster.digest_key;
            let event = change.event(running.seq(), after.as_ref(), classified.as_deref(), key);
            cluster.session.note(event).await;
        }
        if let Some(mask) = &mask {
            let account = (cluster.session.clone(), running.seq());
            body = masking::apply(mask, call.verb, &mut parts, body, account);
        }
        if call.verb == ApiVerb::Watch && parts.status.is_success() {
            let account = (cluster.session.clone(), running.seq());
            body = masking::until_changed(mask, call, &parts, body, account);
        }
        let code = parts.status.as_u16().to_string();
        let completion = Completion { code, ..Completion::default() };
        let body = ToClient::new(body, running, completion, cluster.session.clone(), lease).await;
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }

    /// Where the written object can be read, when the answer to its write cannot.
    fn read_after(&self) -> Option<String> {
        let path = self.parts.uri.path();
        match (self.call.verb, &self.written.as_ref()?.name) {
            (ApiVerb::Create, Some(name)) => Some(format!("{path}/{name}")),
            (ApiVerb::Update | ApiVerb::Patch, _) => Some(path.to_owned()),
            (
                ApiVerb::Create
                | ApiVerb::Get
                | ApiVerb::List
                | ApiVerb::Watch
                | ApiVerb::Delete
                | ApiVerb::DeleteCollection
                | ApiVerb::Proxy,
                _,
            ) => None,
        }
    }

    /// The write whose effect is recorded, with the object as it is before.
    async fn change(&self, running: &Running) -> Option<Change> {
        let known_groups = &self.cluster.options.known_groups;
        let mut change = Change::of(&self.call, known_groups)?;
        if self.call.verb != ApiVerb::Create && self.call.name().is_some() {
            let path = self.parts.uri.path();
            change.before = preview::read_object(self.cluster, path, running).await;
        }
        Some(change)
    }
}

/// The refusal of a request that can never be permitted, recorded.
async fn obstructed(cluster: &Cluster, line: Line, text: String, is_size: bool) -> Denial {
    let draft = Draft {
        text: line.text.into(),
        facts: Arc::new(judge::obstructed(text, is_size)),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: line.traceparent,
        is_stream: false,
    };
    match cluster.session.decide(draft).await {
        Answer::Deny(denial) => denial,
        // The gate permits no obstacle; if it did, nothing would be forwarded either.
        Answer::Allow(_) | Answer::Hold(_) => {
            Denial::new(DenialKind::Forbidden, "this request cannot be judged")
        }
    }
}

/// Makes a request one whose answer can be masked.
fn ask_for_masked(call: &Call, mask: &MaskPlan, headers: &mut HeaderMap) -> Result<(), String> {
    let selector = call.query.get("fieldSelector");
    if selector.is_some_and(|selector| mask.is_selected_by(selector)) {
        return Err("a field selector on a masked field would tell its value".to_owned());
    }
    masking::ask(mask, headers).map_err(|error| error.to_string())
}

/// The type of a body that says how it is written in one way only.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, ObjectError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let coded = headers.contains_key(CONTENT_ENCODING);
    match (types.next(), types.next()) {
        (None, _) if !coded => Ok(None),
        (Some(one), None) if !coded => one.to_str().map(Some).map_err(|_| ObjectError::ContentType),
        _ => Err(ObjectError::ContentType),
    }
}

async fn take_object(body: HttpBody) -> Result<Bytes, CollectError> {
    collect(body, limits::OBJECT_BYTES_MAX, limits::OBJECT_DEADLINE).await
}

fn broken(error: &dyn std::error::Error) -> Denial {
    let mut denial = Denial::new(DenialKind::Protocol, "the body ended early");
    denial.internal = Some(error.to_string());
    denial
}
