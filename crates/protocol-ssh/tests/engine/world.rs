//! A client, the engine and a target.

use std::sync::Arc;

use corral_gate::decision::Verdict;
use corral_model::Statement;
use corral_protocol_ssh::Ssh;
use corral_session::{Server, Service};
use corral_transport::listen::Listener;
use russh::ChannelMsg;
use russh::client::{self, Handle, Handler};
use russh::keys::PublicKeyOrCertificate;

use crate::gateway::{Gateway, Rule, Told};
use crate::target::Target;

pub(crate) struct World {
    pub(crate) target: Target,
    pub(crate) told: Arc<Told>,
    pub(crate) authority: Arc<Gateway>,
    port: u16,
}

/// Takes any gateway, and keeps the banners.
#[derive(Default, Clone)]
pub(crate) struct Person(pub(crate) Arc<std::sync::Mutex<String>>);

impl Handler for Person {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn auth_banner(
        &mut self,
        banner: &str,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.0.lock().expect("no panic holds it").push_str(banner);
        Ok(())
    }
}

impl World {
    pub(crate) async fn new(rule: Rule) -> Self {
        Self::with_pin(rule, None).await
    }

    /// With another pinned key than the target's.
    pub(crate) async fn with_pin(rule: Rule, pin: Option<String>) -> Self {
        let target = Target::start().await;
        let told = Arc::new(Told::default());
        let pin = pin.unwrap_or_else(|| target.key.to_openssh().expect("a line"));
        let options = serde_json::json!({ "host_keys": [pin] });
        let options = Arc::new(options.as_object().expect("an object").clone());
        let gateway = Gateway { told: told.clone(), rule, port: target.port, options };
        let authority = Arc::new(gateway);
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.address().port();
        let server = Arc::new(Server::new(
            Service::Stream(Arc::new(Ssh::new())),
            authority.clone(),
            corral_session::Analysts::start().expect("threads"),
            None,
        ));
        tokio::spawn(async move {
            while let Ok(accepted) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(accepted, None).await });
            }
        });
        Self { target, told, authority, port }
    }

    pub(crate) async fn connect(&self, person: Person) -> Handle<Person> {
        let config = Arc::new(client::Config::default());
        client::connect(config, ("127.0.0.1", self.port), person).await.expect("a handshake")
    }

    /// A client that is in.
    pub(crate) async fn enter(&self) -> Handle<Person> {
        let mut client = self.connect(Person::default()).await;
        let answer = client.authenticate_password("deploy@t", "good").await.expect("an answer");
        assert!(answer.success());
        client
    }
}

/// What a command left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) output: String,
    pub(crate) errors: String,
    pub(crate) status: Option<u32>,
}

/// Runs a command to its end.
pub(crate) async fn run(client: &Handle<Person>, command: &str) -> Outcome {
    let mut channel = client.channel_open_session().await.expect("a channel");
    channel.exec(true, command).await.expect("asked");
    let mut outcome = Outcome::default();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => outcome.output += &String::from_utf8_lossy(&data),
            ChannelMsg::ExtendedData { data, .. } => {
                outcome.errors += &String::from_utf8_lossy(&data);
            }
            ChannelMsg::ExitStatus { exit_status } => outcome.status = Some(exit_status),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    outcome
}

/// Denies what is called `no`, holds what is called `ask`.
pub(crate) fn by_name(statement: &Statement) -> Verdict {
    match &*statement.text {
        "no" => crate::gateway::no(),
        "ask" => crate::gateway::ask_somebody(),
        _ => Verdict::Allow,
    }
}
