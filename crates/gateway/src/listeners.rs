//! Sockets of the gateway: one for each protocol, one for the API, and those of single targets,
//! which come and go with the configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corral_model::ids::TargetName;
use corral_session::{Analysts, Server, Service};
use corral_transport::{Listener, Resumption, ServerTls};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::app::{App, Door};
use crate::protocols;
use crate::settings::RELAY;
use crate::streams::Streams;

/// Wait after a failed accept: out of file descriptors gets better by time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Every listener for sessions, and the sessions that came in by them.
pub(crate) struct Listeners {
    app: Arc<App>,
    servers: BTreeMap<&'static str, Arc<Server>>,
    /// Certificates of the servers, to be replaced together.
    tls: Vec<ServerTls>,
    shared: Vec<JoinHandle<()>>,
    dedicated: BTreeMap<TargetName, Dedicated>,
    sessions: TaskTracker,
    relays: Option<JoinHandle<()>>,
    relay_connections: TaskTracker,
    /// True once nobody is let in any more.
    closed: watch::Sender<bool>,
}

/// The listener of one target.
struct Dedicated {
    /// As configured: a change of it opens another socket.
    asked: SocketAddr,
    protocol: String,
    task: JoinHandle<()>,
}

impl Listeners {
    /// Makes a server for each protocol. Nothing listens yet.
    pub(crate) fn new(
        app: Arc<App>,
        analysts: &Analysts,
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> anyhow::Result<Self> {
        let mut servers = BTreeMap::new();
        let mut all_tls = Vec::new();
        for service in protocols::all() {
            let spec = service.protocol().spec();
            // Databases' drivers do not come back with a ticket: PostgreSQL gives none either
            // (be-secure-openssl.c).
            let resumption = match service {
                Service::Http(_) => Resumption::Offered,
                Service::Framed(_) | Service::Stream(_) => Resumption::Refused,
            };
            let tls = ServerTls::new(chain_pem, key_pem, spec.alpn, resumption)
                .with_context(|| format!("TLS for {}", spec.id))?;
            let door = Arc::new(Door::new(app.clone()));
            let server = Server::new(service.clone(), door, analysts.clone(), Some(tls.clone()));
            servers.insert(spec.id, Arc::new(server));
            all_tls.push(tls);
        }
        Ok(Self {
            app,
            servers,
            tls: all_tls,
            shared: Vec::new(),
            dedicated: BTreeMap::new(),
            sessions: TaskTracker::new(),
            relays: None,
            relay_connections: TaskTracker::new(),
            closed: watch::Sender::new(false),
        })
    }

    /// The servers, for connections that come by the API.
    pub(crate) fn streams(&self) -> Streams {
        let servers = self.servers.iter().filter(|(_, server)| server.takes_connections());
        let servers = servers.map(|(id, server)| (*id, server.clone())).collect();
        Streams::new(servers, self.sessions.clone())
    }

    /// Listens for a protocol. Returns the address with its real port.
    pub(crate) async fn open(
        &mut self,
        protocol: &str,
        address: SocketAddr,
    ) -> anyhow::Result<SocketAddr> {
        let server = self.servers.get(protocol);
        let server = server.with_context(|| format!("no protocol '{protocol}'"))?.clone();
        let listener = Listener::bind(&address.to_string())
            .await
            .with_context(|| format!("listeners: {protocol}: cannot listen on {address}"))?;
        let address = listener.address();
        self.shared.push(self.accept(listener, server, None));
        Ok(address)
    }

    /// Listens for relays. Returns the address with its real port.
    pub(crate) async fn open_relays(&mut self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let listener = Listener::bind(&address.to_string())
            .await
            .with_context(|| format!("listeners: {RELAY}: cannot listen on {address}"))?;
        let address = listener.address();
        let (app, connections) = (self.app.clone(), self.relay_connections.clone());
        self.relays = Some(tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok(accepted) => drop(connections.spawn(app.clone().serve_relay(accepted))),
                    Err(error) => {
                        tracing::warn!(%error, "a relay's connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }));
        Ok(address)
    }

    /// Takes no more relays and ends the connections of those that there are.
    pub(crate) async fn close_relays(&mut self) {
        if let Some(task) = self.relays.take() {
            task.abort();
            let _ = task.await;
        }
        self.relay_connections.close();
        self.app.end_relays();
        self.relay_connections.wait().await;
    }

    fn accept(
        &self,
        listener: Listener,
        server: Arc<Server>,
        target: Option<TargetName>,
    ) -> JoinHandle<()> {
        let sessions = self.sessions.clone();
        let mut closed = self.closed.subscribe();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = closed.wait_for(|closed| *closed) => return,
                };
                match accepted {
                    Ok(accepted) => {
                        sessions.spawn(server.clone().serve(accepted, target.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }

    /// Opens and closes the listeners of single targets, as the configuration in use says.
    /// Sessions that came in by a listener outlive it; one that cannot listen is logged and tried
    /// again with the next change.
    pub(crate) async fn follow_targets(&mut self) {
        let wanted = self.app.dedicated_listeners();
        let is_stale = |name: &TargetName, open: &Dedicated| {
            wanted.get(name).is_none_or(|(address, protocol)| {
                *address != open.asked || *protocol != open.protocol
            })
        };
        let stale: Vec<TargetName> = self
            .dedicated
            .iter()
            .filter(|(name, open)| is_stale(name, open))
            .map(|(name, _)| name.clone())
            .collect();
        for name in stale {
            if let Some(open) = self.dedicated.remove(&name) {
                open.task.abort();
                // The socket is closed once the task is gone.
                let _ = open.task.await;
                self.app.identity().change_reach(|reach| {
                    reach.dedicated.remove(&name);
                });
            }
        }
        for (name, (address, protocol)) in wanted {
            if !self.dedicated.contains_key(&name) {
                self.open_dedicated(name, address, protocol).await;
            }
        }
    }

    async fn open_dedicated(&mut self, name: TargetName, asked: SocketAddr, protocol: String) {
        let Some(server) = self.servers.get(protocol.as_str()).cloned() else { return };
        match Listener::bind(&asked.to_string()).await {
            Ok(listener) => {
                let address = listener.address();
                let task = self.accept(listener, server, Some(name.clone()));
                self.app.identity().change_reach(|reach| {
                    reach.dedicated.insert(name.clone(), address);
                });
                self.dedicated.insert(name, Dedicated { asked, protocol, task });
            }
            Err(error) => {
                tracing::error!(target_name = %name, address = %asked, %error,
                    "the listener of a target cannot listen");
            }
        }
    }

    /// Uses another certificate for connections from here on.
    pub(crate) fn replace_certificate(
        &self,
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> anyhow::Result<()> {
        for tls in &self.tls {
            tls.replace(chain_pem, key_pem).context("the certificate cannot be used")?;
        }
        Ok(())
    }

    /// Lets nobody in any more.
    pub(crate) async fn close(&mut self) {
        self.closed.send_replace(true);
        let dedicated = std::mem::take(&mut self.dedicated).into_values().map(|open| open.task);
        for task in self.shared.drain(..).chain(dedicated) {
            let _ = task.await;
        }
        self.sessions.close();
    }

    /// Waits until every session has ended.
    pub(crate) async fn wait(&self) {
        self.sessions.wait().await;
    }
}
