//! Key agents for the clients of this process: their certificates come from the gateway, for the
//! token of this process.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use corral_api::{CredentialRequest, CredentialView};
use corral_ssh_agent::{Agent, BoxFuture, Identity, Renewal, Renewed};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::UnixListener;

use crate::client::Client;
use crate::client_dir::ClientDir;
use crate::failure::Failure;
use crate::native::Led;
use crate::output;

/// Wait after the socket took no client: out of file descriptors gets better by time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An agent for each protocol whose client uses one. They end with this value.
pub(crate) struct KeyAgents {
    agents: Vec<(UnixListener, Agent<ByGateway>)>,
}

impl KeyAgents {
    /// Listens where the clients' files say.
    ///
    /// # Errors
    /// When a socket or a key cannot be made.
    pub(crate) fn start(
        client: &Client,
        clients: &[Led],
        directory: Option<&ClientDir>,
    ) -> Result<Self, Failure> {
        let mut agents = Vec::new();
        let Some(directory) = directory else { return Ok(Self { agents }) };
        for led in clients.iter().filter(|led| led.client.uses_agent) {
            let path = directory.path().join(led.socket_name());
            let listener = UnixListener::bind(&path)
                .map_err(|error| Failure::io("listen on", &path, &error))?;
            // The directory keeps others out; tools that look at the socket alone see it too.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                .map_err(|error| Failure::io("protect", &path, &error))?;
            let renewal = ByGateway {
                client: client.clone(),
                protocol: led.protocol.clone(),
                told: String::new(),
            };
            let agent = Identity::generate().and_then(|identity| Agent::new(identity, renewal));
            let agent = agent.map_err(|error| Failure::failed(error.to_string()))?;
            agents.push((listener, agent));
        }
        Ok(Self { agents })
    }

    /// Serves them, for ever.
    ///
    /// # Cancel safety
    /// Dropping it ends the agents.
    pub(crate) async fn serve(self) -> Infallible {
        let mut serving: FuturesUnordered<_> = self.agents.into_iter().map(serve_one).collect();
        match serving.next().await {
            Some(never) => match never {},
            None => std::future::pending().await,
        }
    }
}

async fn serve_one((listener, mut agent): (UnixListener, Agent<ByGateway>)) -> Infallible {
    loop {
        if let Err(error) = agent.serve(&listener).await {
            tracing::debug!(%error, "the agent's socket takes no client");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Certificates for whoever the client's token stands for.
struct ByGateway {
    client: Client,
    protocol: String,
    /// What went wrong last, so that it is said once.
    told: String,
}

impl Renewal for ByGateway {
    fn renew<'a>(&'a mut self, public_line: &'a str) -> BoxFuture<'a, Option<Renewed>> {
        Box::pin(async move {
            match issue(&self.client, &self.protocol, public_line).await {
                Ok(renewed) => {
                    self.told.clear();
                    Some(renewed)
                }
                Err(failure) => {
                    let text = failure.without_hint().to_string();
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
