//! A gateway's double, a stand-in for an API server, and a client, all on real sockets.

pub(crate) mod fed;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corral_gate::decision::{Denial, DenialKind, HoldTerm, Receipt, Ruling, Verdict};
use corral_gate::{Actor, Admission, Credential, Login, Proof, Rights, Tap, TapError};
use corral_model::event::{CloseReason, EventBody};
use corral_model::ids::{
    ApprovalId, GroupName, PolicyVersion, PrincipalName, RunId, SessionId, StatementSeq, TargetName,
};
use corral_model::resource::{ColumnName, CredentialKind, RecordRows, TargetTlsMode};
use corral_model::{Effect, Principal, Secret, Statement};
use corral_protocol_http::Kubernetes;
use corral_session::http::serve_requests;
use corral_session::scope::BoxFuture;
use corral_session::{
    Admitted, Authority, ConnectionFacts, Control, HttpClient, HttpEngine, HttpTarget, OwnKey,
    Possession, Resolution, Scope, Totals, Usage,
};
use corral_transport::{Address, Endpoint, Route, Stream};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// A header that tells the listener's double what to find: `proven`, or why not.
pub(crate) const POSSESSION: &str = "test-possession";

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the gateway's double was told, and what it is told to do.
#[derive(Default)]
pub(crate) struct Told {
    events: Mutex<Vec<Value>>,
    pub(crate) is_record_full: AtomicBool,
    /// Nothing more is permitted.
    is_forbidden: AtomicBool,
    was_brief: AtomicBool,
    pub(crate) sessions: AtomicUsize,
    pub(crate) opened: AtomicUsize,
    pub(crate) withdrawn: AtomicUsize,
    /// Approvals that were filed: `a-1`, `a-2`, …
    filed: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    /// How often the mask was asked for.
    pub(crate) looks: AtomicUsize,
    controls: Mutex<Vec<mpsc::Sender<Box<Control>>>>,
    changes: watch::Sender<()>,
    /// The fields to mask from the next configuration on.
    masked: Mutex<Option<Arc<[ColumnName]>>>,
}

impl Told {
    pub(crate) fn log(&self, event: Value) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Waits until there are so many events of this name.
    pub(crate) async fn until(&self, name: &str, count: usize) -> Vec<Value> {
        for _ in 0..500 {
            let found = self.events(name);
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {count} events {name}: {:#?}", self.events.lock().unwrap());
    }

    pub(crate) async fn control(&self, word: Control) {
        let sender = self.controls.lock().unwrap().last().cloned();
        sender.expect("a session is open").send(Box::new(word)).await.expect("it listens");
    }

    pub(crate) async fn resolve(&self, resolution: Resolution) {
        let approval = format!("a-{}", self.filed.load(Ordering::SeqCst));
        let approval = ApprovalId::new(approval).unwrap();
        self.control(Control::Resolved { approval, resolution }).await;
    }

    /// Another configuration is put into use.
    pub(crate) fn mask(&self, masked: &[ColumnName]) {
        *self.masked.lock().unwrap() = Some(masked.into());
        self.changes.send_replace(());
    }

    /// A configuration is put into use that permits nothing.
    pub(crate) fn forbid(&self) {
        self.is_forbidden.store(true, Ordering::SeqCst);
        self.changes.send_replace(());
    }

    pub(crate) async fn kill(&self) {
        let denial = Denial::new(DenialKind::Ended, "killed by ada");
        self.control(Control::End { reason: CloseReason::Killed, denial }).await;
    }
}

/// The gateway's double: tokens `good` and `other` are let in, `brief` once, for no time at all, and
/// `full` meets a limit.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) told: Arc<Told>,
    pub(crate) endpoint: Endpoint,
    pub(crate) options: Value,
    pub(crate) masked: Arc<[ColumnName]>,
    pub(crate) credential: Credential,
}

impl Gateway {
    pub(crate) fn new(target: SocketAddr) -> Self {
        let mut credential = Credential::password("", Some(Secret::new("target-token".into())));
        credential.kind = CredentialKind::Token;
        Self {
            told: Arc::new(Told::default()),
            endpoint: Endpoint {
                address: Address::Tcp { host: "127.0.0.1".into(), port: target.port() },
                route: Route::Direct,
                tls: TargetTlsMode::Disable,
                ca_pem: None,
            },
            options: serde_json::json!({}),
            masked: Arc::new([]),
            credential,
        }
    }
}

impl Authority for Gateway {
    fn admit(&self, login: Login, _: ConnectionFacts) -> BoxFuture<'_, Result<Admitted, Denial>> {
        Box::pin(async move {
            let (token, is_proven) = match &login.proof {
                Proof::Token(token) => (token, false),
                Proof::Proven(token) => (token, true),
                Proof::Certified(_) | Proof::Refused { .. } => unreachable!("a token"),
            };
            match (token.reveal(), is_proven) {
                ("good" | "other", false) | ("bound", true) => {}
                ("brief", false) if !self.told.was_brief.swap(true, Ordering::SeqCst) => {}
                ("full", false) => {
                    let text = "5 sessions are open";
                    return Err(Denial::new(DenialKind::TooManySessions, text));
                }
                _ => return Err(Denial::new(DenialKind::Authentication, "no such token")),
            }
            let is_brief = token.reveal() == "brief";
            if login.target != "prod" {
                return Err(Denial::new(DenialKind::Forbidden, "no such target"));
            }
            let (sender, control) = mpsc::channel(8);
            self.told.controls.lock().unwrap().push(sender);
            self.told.sessions.fetch_add(1, Ordering::SeqCst);
            self.told.opened.fetch_add(1, Ordering::SeqCst);
            let Value::Object(options) = self.options.clone() else { unreachable!("a map") };
            let ada = PrincipalName::new("ada@example.com").unwrap();
            let run = RunId::new("r-1").unwrap();
            let admission = Admission {
                session: SessionId::new("s-1").unwrap(),
                target: TargetName::new("prod").unwrap(),
                target_revision: 1,
                credential: self.credential.clone(),
                database: None,
                tls: self.endpoint.tls,
                is_target_local: true,
                classified: self.masked.clone(),
                rights: Rights { masked: self.masked.clone(), ..Rights::default() },
                record_rows: RecordRows::None,
                cancel_secret: [0; 32],
                options: Arc::new(options),
                actor: Actor {
                    principal: Principal::user(ada.clone()),
                    sponsor: ada,
                    groups: vec![GroupName::new("agents").unwrap()],
                    run: Some((run, "job/planner".into())),
                },
                commands: Arc::new([]),
            };
            Ok(Admitted {
                admission,
                endpoint: self.endpoint.clone(),
                scope: Box::new(Double { told: self.told.clone(), seq: 0 }),
                control,
                config_changes: self.told.changes.subscribe(),
                renewed: None,
                ttl: None,
                token_ends: is_brief.then(Instant::now),
                idle_timeout: None,
            })
        })
    }

    fn cancel(&self, _: &[u8]) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn own_key(&self, _: &'static str) -> BoxFuture<'_, Result<OwnKey, Denial>> {
        Box::pin(async { Ok(OwnKey::new([7; 32])) })
    }

    fn spawn(&self, session: BoxFuture<'static, ()>) {
        tokio::spawn(session);
    }

    fn refused(&self, _: &ConnectionFacts, reason: &str) {
        self.told.log(serde_json::json!({"event": "session.refused", "reason": reason}));
    }
}

/// Everything is allowed but: obstacles, and texts with `forbidden` (denied) or `held` (held; one
/// with `sudden` is not foreseen to be).
struct Double {
    told: Arc<Told>,
    seq: u64,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.told.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Tap for Double {
    fn append(&mut self, _: OffsetDateTime, body: EventBody) -> Result<Receipt, TapError> {
        if self.told.is_record_full.load(Ordering::SeqCst) {
            return Err(TapError::Unavailable(std::io::Error::other("full")));
        }
        self.seq += 1;
        self.told.log(serde_json::to_value(body).unwrap());
        Ok(Receipt::of_written_entry(self.seq))
    }

    fn note(&mut self, at: OffsetDateTime, body: EventBody) -> Result<(), TapError> {
        self.append(at, body).map(|_| ())
    }

    fn needs_sync(&self) -> bool {
        false
    }
}

impl Double {
    fn judge(statement: &Statement) -> Verdict {
        let facts = &statement.facts;
        if let Some(obstacle) = &facts.obstacle {
            let kind = if obstacle.is_size { DenialKind::TooLarge } else { DenialKind::Forbidden };
            return Verdict::Deny(Denial::new(kind, obstacle.text.clone()));
        }
        let is_verb = facts.verbs.iter().any(|verb| verb.effect == Some(Effect::Unknown));
        if facts.effects.contains(Effect::Unknown) && !is_verb {
            return Verdict::Deny(Denial::new(DenialKind::Forbidden, "this is unknown"));
        }
        if statement.text.contains("forbidden") {
            return Verdict::Deny(Denial::new(DenialKind::Forbidden, "ask somebody else"));
        }
        let is_preview = facts.verbs.iter().any(|verb| verb.name == "kube_preview");
        if statement.text.contains("held") && !is_preview {
            return Verdict::Hold(vec![HoldTerm {
                rule: "r".into(),
                group: "ops".into(),
                quorum: 1,
                reason: "ask ops".into(),
                expires_in: None,
            }]);
        }
        Verdict::Allow
    }
}

fn ruling(verdict: Verdict) -> Ruling {
    Ruling {
        decision_id: "d-1".into(),
        verdict,
        rules: Arc::default(),
        policy_version: PolicyVersion(1),
    }
}

impl Scope for Double {
    fn tap(&mut self) -> &mut dyn Tap {
        self
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<(), TapError>> {
        Box::pin(async { Ok(()) })
    }

    fn rule(&mut self, statement: &Statement) -> Ruling {
        ruling(Self::judge(statement))
    }

    fn check(&mut self, statement: &Statement) -> Ruling {
        if self.told.is_forbidden.load(Ordering::SeqCst) {
            return ruling(Verdict::Deny(Denial::new(DenialKind::Forbidden, "no longer")));
        }
        if statement.text.contains("sudden") {
            return ruling(Verdict::Allow);
        }
        ruling(Self::judge(statement))
    }

    fn hold<'a>(
        &'a mut self,
        _: &'a Statement,
        _: &'a Ruling,
    ) -> BoxFuture<'a, Result<(ApprovalId, String), Denial>> {
        let filed = self.told.filed.fetch_add(1, Ordering::SeqCst) + 1;
        let approval = ApprovalId::new(format!("a-{filed}")).unwrap();
        Box::pin(async { Ok((approval, "ask ops".into())) })
    }

    fn rule_approved(&mut self, _: &Statement, _: &ApprovalId) -> Ruling {
        ruling(Verdict::Allow)
    }

    fn withdraw(&mut self, _: &ApprovalId, _: StatementSeq) {
        self.told.withdrawn.fetch_add(1, Ordering::SeqCst);
    }

    fn charge(&mut self, usage: Usage) -> Result<(), Denial> {
        let bytes = usize::try_from(usage.bytes_to_client + usage.bytes_to_target).unwrap();
        self.told.bytes.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn rights_changed(&mut self) -> Option<Rights> {
        self.told.looks.fetch_add(1, Ordering::SeqCst);
        let masked = self.told.masked.lock().unwrap().take()?;
        Some(Rights { masked, ..Rights::default() })
    }

    fn opened(&mut self, _cancel_key: Vec<u8>) {}

    fn close(self: Box<Self>, reason: CloseReason, _: Totals) -> BoxFuture<'static, ()> {
        let event = serde_json::json!({"event": "session.closed", "reason": reason});
        self.told.log(event);
        Box::pin(async {})
    }
}

/// A request as the stand-in saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

/// A stand-in for an API server: answers what it was told to, in order of the paths.
#[derive(Default)]
pub(crate) struct Api {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<VecDeque<(String, Answer)>>,
    objects: Mutex<BTreeMap<String, Value>>,
}

type Answer = Box<dyn FnOnce(&Seen) -> Response<Body> + Send>;

impl Api {
    /// Listens; HTTP/1.1 and 2, without TLS.
    pub(crate) async fn start() -> (Arc<Self>, SocketAddr) {
        let api = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        (api, address)
    }

    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let api = self.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    /// The next request whose line begins so is answered so.
    pub(crate) fn on(
        &self,
        line: &str,
        answer: impl FnOnce(&Seen) -> Response<Body> + Send + 'static,
    ) {
        self.answers.lock().unwrap().push_back((line.to_owned(), Box::new(answer)));
    }

    /// From here on there is this object at the path.
    pub(crate) fn keep(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(format!("GET {path}"), object);
    }

    pub(crate) fn lose(&self, path: &str) {
        self.objects.lock().unwrap().remove(&format!("GET {path}"));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let line = format!("{} {}", parts.method, parts.uri.path_and_query().unwrap());
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let seen = Seen { line, headers: parts.headers, body };
        self.seen.lock().unwrap().push(seen.clone());
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            let index = answers.iter().position(|(line, _)| seen.line.starts_with(line.as_str()));
            index.and_then(|index| answers.remove(index))
        };
        let object = self.objects.lock().unwrap().get(&seen.line).cloned();
        match (answer, object) {
            (Some((_, answer)), _) => answer(&seen),
            (None, Some(object)) => json(StatusCode::OK, &object),
            (None, None) if seen.line.contains("/gone") => {
                json(StatusCode::NOT_FOUND, &serde_json::json!({"kind": "Status", "code": 404}))
            }
            (None, None) => {
                json(StatusCode::OK, &serde_json::json!({"kind": "PodList", "items": []}))
            }
        }
    }
}

pub(crate) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(bytes(value.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

pub(crate) fn bytes(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Serves clients of the engine; returns where.
pub(crate) async fn start(gateway: Gateway) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Arc::new(Kubernetes::new());
    tokio::spawn(async move {
        while let Ok((stream, client)) = listener.accept().await {
            let facts = ConnectionFacts {
                client_ip: Some(client.ip()),
                client_address: client.to_string(),
                is_tls: true,
                listener_target: None,
                protocol: "kubernetes",
                shown: None,
            };
            let client = HttpClient { facts, authority: Arc::new(gateway.clone()) };
            let connection = engine.connect(client);
            let service = service_fn(move |request: Request<Incoming>| {
                let connection = connection.clone();
                let target = HttpTarget::Named("prod".into());
                let mut request = request.map(corral_session::http::boxed);
                if let Some(found) = request.headers_mut().remove(POSSESSION) {
                    let found = match found.to_str().unwrap() {
                        "proven" => Possession::Proven,
                        why => Possession::Refused(why.to_owned()),
                    };
                    request.extensions_mut().insert(found);
                }
                async move { Ok(connection.call(target, request).await) }
            });
            tokio::spawn(serve_requests(Stream::Tcp(stream), service, std::future::pending()));
        }
    });
    address
}

/// A client with one HTTP/1.1 connection.
pub(crate) struct Client {
    sender: http1::SendRequest<Body>,
}

impl Client {
    pub(crate) async fn connect(gateway: SocketAddr) -> Self {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends `METHOD PATH` with the good token.
    pub(crate) async fn ask(&mut self, line: &str, body: impl Into<Bytes>) -> Response<Incoming> {
        self.send(request(line, body)).await
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.sender.ready().await.unwrap();
        self.sender.send_request(request).await.unwrap()
    }
}

pub(crate) fn request(line: &str, body: impl Into<Bytes>) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "gateway")
        .header("authorization", "Bearer good")
        .header("content-type", "application/json")
        .body(bytes(body))
        .unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Code, reason and message of a refusal.
pub(crate) async fn refusal(response: Response<Incoming>) -> (u16, String, String) {
    let code = response.status().as_u16();
    let status: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(status["kind"], "Status", "{status}");
    assert_eq!(status["apiVersion"], "v1");
    assert_eq!(status["code"], code);
    let field = |name: &str| status[name].as_str().unwrap().to_owned();
    (code, field("reason"), field("message"))
}
