//! The OpenAPI document: one line for each endpoint, schemas from the types.
//!
//! `docs/openapi.json` holds what [`openapi`] gives; a test fails when the two differ.

use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, License, OpenApi, OpenApiBuilder, PathItem, Paths,
    Ref, RefOr, Required, ResponseBuilder, Schema,
};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::approval::{ApprovalDecision, ApprovalQuery, ApprovalView};
use crate::connection::{ClientQuery, GatewayInfo, ProtocolView, TargetConnection, VersionInfo};
use crate::credential::{
    CredentialRequest, CredentialView, PresentedView, PublishedQuery, PublishedView, RenewalView,
};
use crate::error::ErrorBody;
use crate::event::{EventQuery, RecordKey, StreamQuery};
use crate::login::{Identity, LoginRequest, LoginResponse};
use crate::oauth::{Introspection, ServerMetadata, TokenQuestion, TokenRequest, TokenResponse};
use crate::policy::{DecisionView, PolicyCheckRequest, PolicyCheckResponse};
use crate::relay::{
    RelayJoinRequest, RelayJoinResponse, RelayRevoked, RelayToken, RelayTokenRequest, RelayView,
};
use crate::report::{DormantReport, GrantReport, OrphanReport, RefusedReport, SponsorReport};
use crate::resource::{ApplyRequest, ApplyResponse};
use crate::run::{
    EndRunRequest, EndedView, RenewRunRequest, RunNode, RunQuery, RunView, StartRunRequest,
    StartRunResponse,
};
use crate::session::{SessionQuery, SessionStreamQuery, SessionView};
use crate::sign_in::OAuthError;
use crate::sign_in::ProviderView;
use crate::user::{UserDisabled, UserEnabled};

const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";
const FORM: &str = "application/x-www-form-urlencoded";
const EVENT_STREAM: &str = "text/event-stream";
const BEARER: &str = "bearer";

/// The whole API under `/api/v1`.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut api = Document::default();
    sign_in(&mut api);
    resources(&mut api);
    relays(&mut api);
    runs(&mut api);
    token_service(&mut api);
    sessions_and_approvals(&mut api);
    record(&mut api);
    api.finish()
}

fn sign_in(api: &mut Document) {
    api.get("/version", "The gateway's version").open().gives::<VersionInfo>();
    api.post("/login", "Sign in with a password or a workload's secret")
        .open()
        .takes::<LoginRequest>()
        .gives::<LoginResponse>();
    api.get("/providers", "The identity providers that people may sign in through")
        .open()
        .gives_list::<ProviderView>();
    api.post("/logout", "Revoke the login token of this request").gives_nothing();
    api.get("/whoami", "Who the token of this request stands for").gives::<Identity>();
    connecting(api);
}

fn token_service(api: &mut Document) {
    api.post("/oauth2/token", "A token for a token (RFC 8693), or for a workload's secret")
        .open()
        .takes_form::<TokenRequest>()
        .gives::<TokenResponse>();
    api.post("/oauth2/introspect", "What a token is good for (RFC 7662)")
        .takes_form::<TokenQuestion>()
        .gives::<Introspection>();
    api.post("/oauth2/revoke", "Take a token back: its run ends, its login is signed out")
        .open()
        .takes_form::<TokenQuestion>()
        .gives_nothing();
    api.get("/oauth2/jwks", "The keys of the gateway's own JWTs").open().gives_resource();
    api.get("/.well-known/oauth-authorization-server", "The token service (RFC 8414)")
        .open()
        .gives::<ServerMetadata>();
}

fn connecting(api: &mut Document) {
    api.get("/protocols", "What the gateway can serve, and what holds for each")
        .gives_list::<ProtocolView>();
    api.get("/connection", "The gateway's listeners and their authority")
        .asks::<ClientQuery>()
        .gives::<GatewayInfo>();
    api.get("/targets/{name}/connection", "What a stock client needs to reach a target")
        .asks::<ClientQuery>()
        .gives::<TargetConnection>();
    api.get("/targets/{name}/presented", "The keys that a target shows at this moment")
        .gives::<PresentedView>();
    api.get("/targets/{name}/renewal", "How it stands with a credential that is renewed")
        .gives::<RenewalView>();
    api.get("/published/{protocol}", "What clients and targets must know of the gateway's keys")
        .asks::<PublishedQuery>()
        .gives::<PublishedView>();
    api.post("/credentials", "A short-lived credential for the bearer of this request's token")
        .takes::<CredentialRequest>()
        .gives::<CredentialView>();
}

fn resources(api: &mut Document) {
    api.post("/apply", "Validate and store resources, all or nothing")
        .takes::<ApplyRequest>()
        .gives::<ApplyResponse>();
    api.get("/resources", "Every resource, without secrets").gives_resources();
    api.get("/resources/{kind}", "The resources of a kind").gives_resources();
    api.get("/resources/{kind}/{name}", "One resource, without secrets").gives_resource();
    api.delete("/resources/{kind}/{name}", "Delete a resource").gives::<ApplyResponse>();
    api.post("/policies/check", "Validate policies against the live schema")
        .takes::<PolicyCheckRequest>()
        .gives::<PolicyCheckResponse>();
    api.get("/policies/schema", "The schema that policies are checked against, in Cedar")
        .gives_text();
    api.get("/decisions/{id}", "One decision with its rules").gives::<DecisionView>();
    api.post("/users/{name}/disable", "Disable a user, end its runs and sessions")
        .gives::<UserDisabled>();
    api.post("/users/{name}/enable", "Let a user sign in again").gives::<UserEnabled>();
}

fn relays(api: &mut Document) {
    api.get("/relays", "Relays, and the processes of each that are connected")
        .gives_list::<RelayView>();
    api.post("/relays/join", "A certificate for a relay process that holds a join token")
        .open()
        .takes::<RelayJoinRequest>()
        .gives::<RelayJoinResponse>();
    api.post("/relays/{name}/tokens", "A token with which one process of a relay may join, once")
        .takes::<RelayTokenRequest>()
        .gives::<RelayToken>();
    api.post("/relays/{name}/revoke", "Take back a relay's certificates, end its connections")
        .gives::<RelayRevoked>();
}

fn runs(api: &mut Document) {
    api.post("/runs", "Start a run; a child run when the token is a run's")
        .takes::<StartRunRequest>()
        .gives::<StartRunResponse>();
    api.get("/runs", "Runs, newest first").asks::<RunQuery>().gives_list::<RunView>();
    api.get("/runs/tree", "The same runs as trees").asks::<RunQuery>().gives_list::<RunNode>();
    api.get("/runs/{id}", "One run").gives::<RunView>();
    api.get(
        "/runs/{id}/attach",
        "Hold a run, as that run: upgraded to corral-attach, it ends when this connection does",
    )
    .gives_text();
    api.post("/runs/{id}/renew", "Give a run a later end")
        .takes::<RenewRunRequest>()
        .gives::<RunView>();
    api.post("/runs/{id}/end", "A run is done: end it and what is below it")
        .may_take::<EndRunRequest>()
        .gives::<EndedView>();
    api.post("/runs/{id}/kill", "Kill a run, what is below it, and their sessions")
        .gives::<EndedView>();
    api.post("/jobs/ended/{workload}", "A webhook of a CI system, signed: jobs have ended")
        .open()
        .takes_object()
        .gives_nothing();
    api.get("/reports/sponsors", "Runs by the person who answers for them")
        .gives_list::<SponsorReport>();
    api.get("/reports/dormant", "Workloads without an active run").gives_list::<DormantReport>();
    api.get("/reports/grants", "What runs were granted by name and never used")
        .gives_list::<GrantReport>();
    api.get("/reports/refused", "Root runs that were refused").gives_list::<RefusedReport>();
    api.get("/reports/orphans", "Runs that ended because what they hung on was gone")
        .gives_list::<OrphanReport>();
}

fn sessions_and_approvals(api: &mut Document) {
    api.get("/sessions", "Live sessions, oldest first")
        .asks::<SessionQuery>()
        .gives_list::<SessionView>();
    api.get("/sessions/stream", "A client's connection of a protocol: upgraded to corral-stream")
        .asks::<SessionStreamQuery>()
        .gives_text();
    api.get("/sessions/{id}", "One live session").gives::<SessionView>();
    api.post("/sessions/{id}/kill", "End a session at once").gives::<EndedView>();
    api.get("/approvals", "Approvals, newest first")
        .asks::<ApprovalQuery>()
        .gives_list::<ApprovalView>();
    api.get("/approvals/{id}", "One approval").gives::<ApprovalView>();
    api.post("/approvals/{id}/approve", "Approve the statement")
        .takes::<ApprovalDecision>()
        .gives::<ApprovalView>();
    api.post("/approvals/{id}/deny", "Deny the statement")
        .takes::<ApprovalDecision>()
        .gives::<ApprovalView>();
}

fn record(api: &mut Document) {
    api.get("/events", "Search the record, oldest first").asks::<EventQuery>().gives_events(JSON);
    api.get("/events/stream", "Follow the record").asks::<StreamQuery>().gives_events(EVENT_STREAM);
    api.get("/events/export", "The record, a line for each event")
        .asks::<EventQuery>()
        .gives_events(JSON_LINES);
    api.get("/replay/{id}", "Every event of a session, or of a run and what is below it")
        .gives_events(JSON_LINES);
    api.get("/record/key", "The public key of the record").gives::<RecordKey>();
}

/// The document while it is written.
#[derive(Default)]
struct Document {
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// One operation while it is written. `gives…` ends it.
struct Endpoint<'a> {
    document: &'a mut Document,
    method: HttpMethod,
    path: String,
    operation: OperationBuilder,
    needs_token: bool,
}

impl Document {
    fn get(&mut self, path: &str, summary: &str) -> Endpoint<'_> {
        self.endpoint(HttpMethod::Get, path, summary)
    }

    fn post(&mut self, path: &str, summary: &str) -> Endpoint<'_> {
        self.endpoint(HttpMethod::Post, path, summary)
    }

    fn delete(&mut self, path: &str, summary: &str) -> Endpoint<'_> {
        self.endpoint(HttpMethod::Delete, path, summary)
    }

    fn endpoint(&mut self, method: HttpMethod, path: &str, summary: &str) -> Endpoint<'_> {
        let mut operation = OperationBuilder::new()
            .summary(Some(summary))
            .operation_id(Some(operation_id(&method, path)));
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let parameter = ParameterBuilder::new()
                .name(name.trim_end_matches('}'))
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(String::schema()))
                .build();
            operation = operation.parameter(parameter);
        }
        // OAuth has its own places.
        let is_root = path.starts_with("/oauth2/") || path.starts_with("/.well-known/");
        let path = if is_root { path.to_owned() } else { format!("{}{path}", crate::BASE) };
        Endpoint { document: self, method, path, operation, needs_token: true }
    }

    fn add<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().into_owned();
        T::schemas(&mut self.schemas);
        self.schemas.push((name.clone(), T::schema()));
        RefOr::Ref(Ref::from_schema_name(name))
    }

    fn finish(mut self) -> OpenApi {
        self.schemas.sort_by(|a, b| a.0.cmp(&b.0));
        self.schemas.dedup_by(|a, b| a.0 == b.0);
        let mut components = ComponentsBuilder::new();
        for (name, schema) in self.schemas {
            components = components.schema(name, schema);
        }
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let info = InfoBuilder::new()
            .title("Corral")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some("The gateway's API."))
            .license(Some(License::new("Apache-2.0")))
            .build();
        OpenApiBuilder::new()
            .info(info)
            .paths(self.paths)
            .components(Some(components.security_scheme(BEARER, bearer).build()))
            .build()
    }
}

impl Endpoint<'_> {
    /// Needs no token.
    fn open(mut self) -> Self {
        self.needs_token = false;
        self
    }

    fn takes<T: ToSchema>(self) -> Self {
        self.takes_as::<T>(JSON)
    }

    /// Whatever object it is.
    fn takes_object(mut self) -> Self {
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content(JSON, Content::new(Some(any_object())))
            .build();
        self.operation = self.operation.request_body(Some(body));
        self
    }

    /// A body that may be left out.
    fn may_take<T: ToSchema>(self) -> Self {
        self.body_of::<T>(JSON, Required::False)
    }

    fn takes_form<T: ToSchema>(self) -> Self {
        self.takes_as::<T>(FORM)
    }

    fn takes_as<T: ToSchema>(self, content_type: &str) -> Self {
        self.body_of::<T>(content_type, Required::True)
    }

    fn body_of<T: ToSchema>(mut self, content_type: &str, required: Required) -> Self {
        let schema = self.document.add::<T>();
        let body = RequestBodyBuilder::new()
            .required(Some(required))
            .content(content_type, Content::new(Some(schema)))
            .build();
        self.operation = self.operation.request_body(Some(body));
        self
    }

    fn asks<T: IntoParams>(mut self) -> Self {
        for parameter in T::into_params(|| Some(ParameterIn::Query)) {
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    fn gives<T: ToSchema>(self) {
        let schema = self.document.add::<T>();
        self.end(JSON, Some(schema));
    }

    fn gives_list<T: ToSchema>(self) {
        let item = self.document.add::<T>();
        let list = utoipa::openapi::ArrayBuilder::new().items(item).build();
        self.end(JSON, Some(RefOr::T(Schema::Array(list))));
    }

    /// A resource as in a manifest: an object with `kind` and `name`.
    fn gives_resource(self) {
        self.end(JSON, Some(any_object()));
    }

    fn gives_resources(self) {
        let list = utoipa::openapi::ArrayBuilder::new().items(any_object()).build();
        self.end(JSON, Some(RefOr::T(Schema::Array(list))));
    }

    /// Events as CONTRACT section 8 lists them: an array in JSON, else one at a time.
    fn gives_events(self, content_type: &str) {
        let schema = match content_type {
            JSON => {
                let list = utoipa::openapi::ArrayBuilder::new().items(any_object()).build();
                RefOr::T(Schema::Array(list))
            }
            _ => any_object(),
        };
        self.end(content_type, Some(schema));
    }

    fn gives_text(self) {
        self.end(TEXT, Some(String::schema()));
    }

    fn gives_nothing(self) {
        self.end(JSON, None);
    }

    fn end(self, content_type: &str, schema: Option<RefOr<Schema>>) {
        let (status, done) = match schema {
            Some(schema) => {
                let content = Content::new(Some(schema));
                ("200", ResponseBuilder::new().description("Done").content(content_type, content))
            }
            None => ("204", ResponseBuilder::new().description("Done")),
        };
        let error = match self.path.starts_with("/oauth2/") {
            true => self.document.add::<OAuthError>(),
            false => self.document.add::<ErrorBody>(),
        };
        let error = Content::new(Some(error));
        let failed = ResponseBuilder::new().description("Refused or failed").content(JSON, error);
        let mut operation =
            self.operation.response(status, done.build()).response("default", failed.build());
        if self.needs_token {
            let none: [&str; 0] = [];
            operation = operation.security(SecurityRequirement::new(BEARER, none));
        }
        let operation = operation.build();
        match self.document.paths.paths.get_mut(&self.path) {
            Some(item) => item.merge_operations(PathItem::new(self.method, operation)),
            None => {
                let item = PathItem::new(self.method, operation);
                self.document.paths.paths.insert(self.path, item);
            }
        }
    }
}

fn any_object() -> RefOr<Schema> {
    RefOr::T(Schema::Object(utoipa::openapi::Object::new()))
}

/// `post /runs/{id}/kill` is `post_runs_id_kill`.
fn operation_id(method: &HttpMethod, path: &str) -> String {
    let verb = match method {
        HttpMethod::Get => "get",
        HttpMethod::Post => "post",
        HttpMethod::Delete => "delete",
        // No operation here has another method.
        _ => "call",
    };
    let words: Vec<&str> =
        path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty()).collect();
    format!("{verb}_{}", words.join("_"))
}
