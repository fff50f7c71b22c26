//! A gateway in its own directory, with people, workloads and a target that nobody dials.

use std::sync::Arc;

use corral_gate::{Denial, Ruling};
use corral_gate::{Login, Proof};
use corral_gateway::app::resources::ApplyOptions;
use corral_gateway::app::runs::{StartRun, StartedRun};
use corral_gateway::app::{App, AppError, Caller, Door};
use corral_gateway::{Gateway, UpOptions};
use corral_model::ids::StatementSeq;
use corral_model::resource::manifest;
use corral_model::statement::{Facts, ObjectRef, ObjectRole};
use corral_model::{Effect, Effects, Secret, Statement, Verb};
use corral_session::{Admitted, Authority, ConnectionFacts};

/// Two people in `dba`, one in `ops`, a workload of each of the first two, and one rule that
/// needs an approval.
pub(crate) const MANIFEST: &str = r#"
kind: Target
name: orders-db
protocol: postgres
address: 127.0.0.1:1
database: orders
credential: {username: svc, password: {value: target-password}}
classify: [{columns: [public.customers.ssn], class: pii}]
---
kind: Target
name: other-db
protocol: postgres
address: 127.0.0.1:1
credential: {username: svc}
---
kind: User
name: ada
groups: [dba]
password: {value: ada-password}
---
kind: User
name: bob
groups: [dba, ops]
password: {value: bob-password}
---
kind: User
name: eve
groups: [ops]
password: {value: eve-password}
---
kind: Workload
name: nightly
sponsor: ada
groups: [agents]
secret: {value: nightly-secret}
---
kind: Policy
name: shop
cedar: |
  permit (principal in Corral::Group::"agents", action in [Corral::Action::"connect", Corral::Action::"read", Corral::Action::"define"], resource);
  permit (principal in Corral::Group::"dba", action in [Corral::Action::"connect", Corral::Action::"read"], resource);
  @id("schema-changes") @approval("dba") @reason("Schema changes need a DBA.")
  forbid (principal, action in Corral::Action::"define", resource);
"#;

pub(crate) struct World {
    /// Removed when the test is over.
    pub(crate) directory: tempfile::TempDir,
    pub(crate) gateway: Gateway,
}

impl World {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let gateway = start_in(directory.path()).await;
        let world = Self { directory, gateway };
        world.apply(MANIFEST).await.expect("the manifest is right");
        world
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        self.gateway.app()
    }

    pub(crate) async fn apply(&self, text: &str) -> Result<(), AppError> {
        let resources = manifest::parse(text, "test.yaml").expect("the manifest is readable");
        self.app().apply(&Caller::Admin, resources, ApplyOptions::default()).await.map(|_| ())
    }

    pub(crate) async fn user(&self, name: &str) -> Caller {
        let password = Secret::new(format!("{name}-password"));
        let signed_in = self.app().sign_in_user(name, password).await.expect("signs in");
        self.app().authenticate(&signed_in.token).await.expect("a valid token")
    }

    pub(crate) async fn workload(&self, name: &str) -> Caller {
        let secret = Secret::new(format!("{name}-secret"));
        let signed_in = self.app().sign_in_workload(name, secret).await.expect("signs in");
        self.app().authenticate(&signed_in.token).await.expect("a valid token")
    }

    /// A root run of the workload.
    pub(crate) async fn root_run(&self) -> (StartedRun, Caller) {
        let caller = self.workload("nightly").await;
        self.run(&caller, run_named("root")).await.expect("starts")
    }

    pub(crate) async fn run(
        &self,
        caller: &Caller,
        ask: StartRun,
    ) -> Result<(StartedRun, Caller), AppError> {
        let started = self.app().start_run(caller, ask).await?;
        let caller = self.app().authenticate(&started.token).await?;
        Ok((started, caller))
    }

    pub(crate) async fn connect(&self, token: &Secret, target: &str) -> Result<Admitted, Denial> {
        Door::new(self.app().clone()).admit(login(token, target), connection()).await
    }
}

pub(crate) async fn start_in(path: &std::path::Path) -> Gateway {
    let options = UpOptions { config: None, data_dir: Some(path.join("data")) };
    Gateway::start(options).await.expect("the gateway starts")
}

pub(crate) fn run_named(name: &str) -> StartRun {
    StartRun { name: name.to_owned(), ..StartRun::default() }
}

pub(crate) fn login(token: &Secret, target: &str) -> Login {
    Login {
        proof: Proof::Token(token.clone()),
        target: target.to_owned(),
        database: None,
        claims: vec![("application_name".to_owned(), "test".to_owned())],
    }
}

pub(crate) fn connection() -> ConnectionFacts {
    ConnectionFacts {
        client_ip: Some([127, 0, 0, 1].into()),
        client_address: "127.0.0.1:5000".to_owned(),
        is_tls: true,
        listener_target: None,
        protocol: "postgres",
        shown: None,
    }
}

/// A statement as the protocol would hand it over.
pub(crate) fn statement(seq: u64, text: &str, verb: Verb) -> Statement {
    let object = ObjectRef {
        schema: "public".to_owned(),
        name: "orders".to_owned(),
        kind: "table".to_owned(),
        role: ObjectRole::Read,
    };
    let facts = Facts {
        verbs: vec![verb],
        effects: verb.effect.map_or(Effects::NONE, Effects::of),
        objects: vec![object],
        functions: Vec::new(),
        statement_count: 1,
        obstacle: None,
        is_masked: false,
        attributes: std::collections::BTreeMap::new(),
    };
    Statement {
        seq: StatementSeq(seq),
        text: text.into(),
        facts: Arc::new(facts),
        parameters: Arc::default(),
        in_transaction: false,
        state_digest: "state".into(),
        traceparent: None,
    }
}

pub(crate) const SELECT: Verb = Verb { name: "select", effect: Some(Effect::Read) };
pub(crate) const ALTER: Verb = Verb { name: "alter_table", effect: Some(Effect::Define) };

/// Asks for a ruling that must be a hold, and files it.
pub(crate) async fn hold(
    admitted: &mut Admitted,
    statement: &Statement,
) -> corral_model::ApprovalId {
    let ruling: Ruling = admitted.scope.rule(statement);
    let filed = admitted.scope.hold(statement, &ruling).await;
    filed.expect("an approval is filed").0
}
