//! Key agents for the clients of this process: their certificates come from the gateway. Within a
//! run, each process that asks has a key and a certificate of its own, as the run of that process;
//! else they are for the token of this process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use corral_api::{CredentialRequest, CredentialView};
use corral_model::limits;
use corral_ssh_agent::{Agent, BoxFuture, Identity, Renewal, Renewed, answer_client};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};

use crate::attribution::{Children, Found, Member, Peer, ProcessId};
use crate::client::Client;
use crate::client_dir::ClientDir;
use crate::failure::Failure;
use crate::native::Led;
use crate::output;

/// Wait after the socket took no client: out of file descriptors gets better by time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For whom certificates are.
#[derive(Clone)]
pub(crate) enum Holder {
    /// For whoever this token stands for.
    Token(Client),
    /// For each process that asks.
    Processes(Arc<Children>),
}

/// The agents of each protocol whose client uses one. They end with this value.
pub(crate) struct KeyAgents {
    sockets: Vec<(UnixListener, Arc<OfProtocol>)>,
}

/// The agents of one protocol.
struct OfProtocol {
    protocol: String,
    agents: Agents,
}

enum Agents {
    One(Shared),
    Each { children: Arc<Children>, known: StdMutex<HashMap<ProcessId, Shared>> },
}

type Shared = Arc<Mutex<Agent<ByGateway>>>;

impl KeyAgents {
    pub(crate) fn none() -> Self {
        Self { sockets: Vec::new() }
    }

    /// Listens where the clients' files say.
    ///
    /// # Errors
    /// When a socket or a key cannot be made.
    pub(crate) fn start(
        holder: &Holder,
        clients: &[Led],
        directory: Option<&ClientDir>,
    ) -> Result<Self, Failure> {
        let mut sockets = Vec::new();
        let Some(directory) = directory else { return Ok(Self { sockets }) };
        for led in clients.iter().filter(|led| led.client.uses_agent) {
            let path = directory.path().join(led.socket_name());
            let listener = UnixListener::bind(&path)
                .map_err(|error| Failure::io("listen on", &path, &error))?;
            // The directory keeps others out; tools that look at the socket alone see it too.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                .map_err(|error| Failure::io("protect", &path, &error))?;
            let protocol = led.protocol.clone();
            let agents = match holder.clone() {
                Holder::Token(client) => Agents::One(
                    new_agent(protocol.clone(), Whose::Token(client)).map_err(Failure::failed)?,
                ),
                Holder::Processes(children) => {
                    Agents::Each { children, known: StdMutex::default() }
                }
            };
            sockets.push((listener, Arc::new(OfProtocol { protocol, agents })));
        }
        Ok(Self { sockets })
    }

    /// Serves them, for ever.
    ///
    /// # Limits
    /// [`limits::AGENT_CLIENTS_MAX`] clients of each at once.
    ///
    /// # Cancel safety
    /// Dropping it takes no more clients.
    pub(crate) async fn serve(self) -> Infallible {
        let mut serving: FuturesUnordered<_> = self.sockets.into_iter().map(serve_one).collect();
        match serving.next().await {
            Some(never) => match never {},
            None => std::future::pending().await,
        }
    }
}

async fn serve_one((listener, of_protocol): (UnixListener, Arc<OfProtocol>)) -> Infallible {
    let places = Arc::new(Semaphore::new(limits::AGENT_CLIENTS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the agent's socket takes no client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One more is dropped, which its client reads as an agent that is not there.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        match of_protocol.agent_of(&stream) {
            Ok((agent, found)) => {
                tokio::spawn(async move {
                    answer(&agent, found, stream).await;
                    drop(place);
                });
            }
            Err(why) => output::remark(&format!("corral: the key agent refused a client: {why}")),
        }
    }
}

/// Until the client leaves, or its process has ended: somebody else may have its connection.
async fn answer(agent: &Shared, found: Option<Found>, stream: UnixStream) {
    let ended = async {
        match found {
            Some(found) => found.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = answer_client(agent, stream) => {}
        () = ended => {}
    }
}

impl OfProtocol {
    /// The agent for whoever connected: at once, while its process is most likely still there.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn agent_of(self: &Arc<Self>, stream: &UnixStream) -> Result<(Shared, Option<Found>), String> {
        let (children, known) = match &self.agents {
            Agents::One(agent) => return Ok((agent.clone(), None)),
            Agents::Each { children, known } => (children, known),
        };
        let found = children.find(Peer::of_unix(stream)?)?;
        let id = found.member.id();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = known.get(&id) {
            return Ok((agent.clone(), Some(found)));
        }
        let whose = Whose::Process(children.clone(), found.member.clone());
        let agent = new_agent(self.protocol.clone(), whose)?;
        // As many as there are processes, whose number is bounded.
        known.insert(id, agent.clone());
        let (agents, member) = (self.clone(), found.member.clone());
        tokio::spawn(async move {
            member.until_ended().await;
            agents.forget(id);
        });
        Ok((agent, Some(found)))
    }

    fn forget(&self, id: ProcessId) {
        match &self.agents {
            Agents::One(_) => {}
            Agents::Each { known, .. } => {
                known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
    }
}

/// An agent with a key of its own.
fn new_agent(protocol: String, whose: Whose) -> Result<Shared, String> {
    let renewal = ByGateway { whose, protocol, told: String::new() };
    let agent = Identity::generate().and_then(|identity| Agent::new(identity, renewal));
    agent.map(|agent| Arc::new(Mutex::new(agent))).map_err(|error| error.to_string())
}

enum Whose {
    Token(Client),
    Process(Arc<Children>, Arc<Member>),
}

/// Certificates by the gateway.
struct ByGateway {
    whose: Whose,
    protocol: String,
    /// What went wrong last, so that it is said once.
    told: String,
}

impl ByGateway {
    /// # Errors
    /// Why there is no certificate, for people.
    async fn issue(&self, public_line: &str) -> Result<Renewed, String> {
        let of_process;
        let client = match &self.whose {
            Whose::Token(client) => client,
            Whose::Process(children, member) => {
                of_process = children.client_of(member).await?;
                &of_process
            }
        };
        let issued = issue(client, &self.protocol, public_line).await;
        issued.map_err(|failure| failure.without_hint().to_string())
    }
}

impl Renewal for ByGateway {
    fn renew<'a>(&'a mut self, public_line: &'a str) -> BoxFuture<'a, Option<Renewed>> {
        Box::pin(async move {
            match self.issue(public_line).await {
                Ok(renewed) => {
                    self.told.clear();
                    Some(renewed)
                }
                Err(text) => {
                    if text != self.told {
                        output::remark(&text);
                        self.told = text;
                    }
                    None
                }
            }
        })
    }
}

/// A certificate for this public key.
///
/// # Errors
/// Whatever kept the gateway's answer away.
pub(crate) async fn issue(
    client: &Client,
    protocol: &str,
    public_line: &str,
) -> Result<Renewed, Failure> {
    let request =
        CredentialRequest { protocol: protocol.to_owned(), material: public_line.to_owned() };
    let view: CredentialView = client.post(&["credentials"], &request).await?;
    Ok(Renewed { certificate: view.credential, ttl: Duration::from_secs(view.ttl_s) })
}
