//! One request's way: who, what, may it, and only then to the cluster and back.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_model::limits;
use corral_model::statement::{Attribute, Facts};
use corral_session::{Answer, Completion, Draft, HttpBody, HttpTarget, Running};
use http::header::{CONTENT_LENGTH, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;

use super::call::Call;
use super::cluster::Cluster;
use super::judge::{self, ObjectFacts};
use super::outgoing::asks_impersonation;
use super::status::{code_of, refusal};
use crate::http_parts::bearer::bearer;
use crate::http_parts::bodies::{CollectError, ToClient, ToTarget, collect, full};
use crate::http_parts::headers::{asks_upgrade, strip_hop_by_hop};
use crate::http_parts::sessions::Sessions;
use crate::http_parts::target::Answered;

const EXPECT: HeaderName = HeaderName::from_static("expect");

/// Answers a request. Refusals are answers.
///
/// # Cancel safety
/// Dropping it ends what the request does at the target, and withdraws what waits for people.
pub(crate) async fn answer(
    sessions: &Sessions<Cluster>,
    target: &HttpTarget,
    request: Request<HttpBody>,
) -> Response<HttpBody> {
    let token = match bearer(request.headers()) {
        Ok(token) => token,
        Err(error) => {
            let denial = Denial::new(DenialKind::Authentication, error.to_string());
            sessions.refused(&denial.sentence());
            return refusal(&denial);
        }
    };
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let cluster = match sessions.of(token, target.name(), user_agent).await {
        Ok(cluster) => cluster,
        Err(denial) => return refusal(&denial),
    };
    let exchange = Exchange::new(&cluster);
    tokio::select! {
        biased;
        end = cluster.session.ended() => refusal(&end.denial),
        answered = exchange.run(request) => {
            answered.unwrap_or_else(|denial| refusal(&denial))
        }
    }
}

/// One request of a session.
struct Exchange<'a> {
    cluster: &'a Arc<Cluster>,
}

impl<'a> Exchange<'a> {
    fn new(cluster: &'a Arc<Cluster>) -> Self {
        Self { cluster }
    }

    async fn run(&self, request: Request<HttpBody>) -> Result<Response<HttpBody>, Denial> {
        let (parts, body) = request.into_parts();
        let line = line_of(&parts);
        let query = parts.uri.query().unwrap_or_default();
        let call = match Call::read(&parts.method, parts.uri.path(), query) {
            Ok(call) => call,
            Err(error) => return Err(self.obstructed(line, error.to_string(), false).await),
        };
        let (body, object) = if call.has_object() {
            let collected = collect(body, limits::OBJECT_BYTES_MAX, limits::OBJECT_DEADLINE).await;
            match collected {
                Ok(bytes) => {
                    let object = object_facts(&bytes);
                    (full(bytes), object)
                }
                Err(CollectError::Broken(error)) => return Err(broken(error.as_ref())),
                Err(error @ CollectError::TooLarge { .. }) => {
                    return Err(self.obstructed(line, error.to_string(), true).await);
                }
                Err(error @ CollectError::TooSlow(_)) => {
                    return Err(self.obstructed(line, error.to_string(), false).await);
                }
            }
        } else {
            (body, ObjectFacts::default())
        };
        let mut facts = judge::facts(&call, &self.cluster.options.known_groups, &object);
        let asks = Attribute::Flag(asks_impersonation(&parts.headers));
        facts.attributes.insert("asks_impersonation", asks);
        self.check_mask(&call).await?;
        let running = self.decide(line, facts, call.is_stream()).await?;
        if asks_upgrade(&parts.headers) {
            return self.upgrade(running).await;
        }
        self.forward(parts, body, running).await
    }

    /// Decides a request, and waits for people where that is asked for.
    async fn decide(&self, text: String, facts: Facts, is_stream: bool) -> Result<Running, Denial> {
        let draft = Draft {
            text: text.into(),
            facts: Arc::new(facts),
            parameters: Vec::new(),
            state_digest: String::new(),
            is_stream,
        };
        match self.cluster.session.decide(draft).await {
            Answer::Allow(running) => Ok(running),
            Answer::Deny(denial) => Err(denial),
            Answer::Hold(waiting) => waiting.wait().await,
        }
    }

    /// The refusal of a request that can never be permitted, recorded.
    async fn obstructed(&self, line: String, text: String, is_size: bool) -> Denial {
        match self.decide(line, judge::obstructed(text, is_size), false).await {
            Err(denial) => denial,
            // The gate permits no obstacle; if it did, nothing would be forwarded either.
            Ok(_running) => Denial::new(DenialKind::Forbidden, "this request cannot be judged"),
        }
    }

    /// Answers that hold masked fields are not passed on.
    async fn check_mask(&self, call: &Call) -> Result<(), Denial> {
        let Some(path) = call.resource() else { return Ok(()) };
        let masked = self.cluster.session.masked().await;
        if masked.iter().any(|field| field.table.eq_ignore_ascii_case(&path.resource)) {
            let text = "masked fields of this resource cannot be shown";
            return Err(Denial::new(DenialKind::Forbidden, text));
        }
        Ok(())
    }

    /// A permitted request that asks for another protocol on its connection.
    async fn upgrade(&self, running: Running) -> Result<Response<HttpBody>, Denial> {
        let denial =
            Denial::new(DenialKind::NotSupported, "streams into containers are not carried here");
        let (code, _) = code_of(denial.kind);
        let completion = Completion { code: code.as_u16().to_string(), ..Completion::default() };
        running.finish(completion).await;
        Err(denial)
    }

    async fn forward(
        &self,
        parts: Parts,
        body: HttpBody,
        running: Running,
    ) -> Result<Response<HttpBody>, Denial> {
        let cluster = self.cluster;
        let body = ToTarget::new(body, cluster.session.clone());
        let mut request = Request::new(body.boxed_unsync());
        *request.method_mut() = parts.method;
        *request.uri_mut() = parts.uri;
        *request.headers_mut() = parts.headers;
        let headers = request.headers_mut();
        cluster.outgoing.apply(headers, running.permit().decision_id());
        // The client was told to go on by this side already.
        headers.remove(EXPECT);
        headers.remove(CONTENT_LENGTH);
        let Answered { response, lease } =
            cluster.target.send(request).await.map_err(Denial::from)?;
        cluster.session.opened().await;
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let completion =
            Completion { code: parts.status.as_u16().to_string(), ..Completion::default() };
        let body = ToClient::new(
            corral_session::http::boxed(body),
            running,
            completion,
            cluster.session.clone(),
            lease,
        );
        let mut answered = Response::new(body.await.boxed_unsync());
        *answered.status_mut() = parts.status;
        *answered.headers_mut() = parts.headers;
        Ok(answered)
    }
}

/// As people and the record read it: `GET /api/v1/pods?limit=500`.
fn line_of(parts: &Parts) -> String {
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    format!("{} {path}", parts.method)
}

/// An object that was not read may say anything.
fn object_facts(bytes: &[u8]) -> ObjectFacts {
    ObjectFacts { is_unknown: !bytes.is_empty(), ..ObjectFacts::default() }
}

fn broken(error: &dyn std::error::Error) -> Denial {
    let mut denial = Denial::new(DenialKind::Protocol, "the body ended early");
    denial.internal = Some(error.to_string());
    denial
}
