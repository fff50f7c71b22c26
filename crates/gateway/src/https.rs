//! The `https` listener: the API, and protocols on HTTP, over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use corral_model::limits;
use corral_session::http::serve_requests;
use corral_session::{ConnectionFacts, HttpClient};
use corral_transport::{Accepted, Listener, Resumption, ServerTls};
use hyper::service::service_fn;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::app::{App, Door};
use crate::mounted::Mounted;
use crate::settings::HTTPS;

/// Connections open at once.
const CONNECTIONS_MAX: usize = 4_096;
/// How long answers may take to finish when the gateway stops.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// Wait after a failed accept: out of file descriptors gets better by time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The API's listener.
pub(crate) struct Https {
    address: SocketAddr,
    tls: ServerTls,
    task: JoinHandle<()>,
    connections: TaskTracker,
    closed: watch::Sender<bool>,
}

impl Https {
    pub(crate) async fn start(
        address: SocketAddr,
        router: Router,
        app: Arc<App>,
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> anyhow::Result<Self> {
        let tls = ServerTls::new(chain_pem, key_pem, &["h2", "http/1.1"], Resumption::Offered)
            .context("TLS for https")?;
        let listener = Listener::bind(&address.to_string())
            .await
            .with_context(|| format!("listeners: https: cannot listen on {address}"))?;
        let address = listener.address();
        let connections = TaskTracker::new();
        let closed = watch::Sender::new(false);
        let accepting = Accepting {
            listener,
            tls: tls.clone(),
            router,
            app,
            connections: connections.clone(),
            closed: closed.subscribe(),
        };
        let task = tokio::spawn(accepting.run());
        Ok(Self { address, tls, task, connections, closed })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn replace_certificate(
        &self,
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> anyhow::Result<()> {
        self.tls.replace(chain_pem, key_pem).context("the certificate cannot be used")
    }

    /// Takes no more requests and lets running ones finish.
    pub(crate) async fn stop(self) {
        self.closed.send_replace(true);
        let _ = self.task.await;
        self.connections.close();
        // What is not done by then is cut off; followers of events never are.
        let _ = tokio::time::timeout(STOP_DEADLINE, self.connections.wait()).await;
    }
}

struct Accepting {
    listener: Listener,
    tls: ServerTls,
    router: Router,
    app: Arc<App>,
    connections: TaskTracker,
    closed: watch::Receiver<bool>,
}

impl Accepting {
    async fn run(mut self) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = until_closed(&mut self.closed) => return,
            };
            match accepted {
                Ok(_) if self.connections.len() >= CONNECTIONS_MAX => {
                    tracing::warn!("too many connections to the API; one was closed");
                }
                Ok(accepted) => {
                    let (tls, router) = (self.tls.clone(), self.router.clone());
                    let (app, closed) = (self.app.clone(), self.closed.clone());
                    self.connections.spawn(serve(accepted, tls, router, app, closed));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(
    accepted: Accepted,
    tls: ServerTls,
    router: Router,
    app: Arc<App>,
    mut closed: watch::Receiver<bool>,
) {
    let Accepted { stream, client_ip, client_address } = accepted;
    let Ok(plain) = stream.into_plain() else { return };
    let stream = match tokio::time::timeout(limits::LOGIN_DEADLINE, tls.accept(plain)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let facts = ConnectionFacts {
        client_ip,
        client_address,
        is_tls: true,
        listener_target: None,
        protocol: HTTPS,
        shown: None,
    };
    let client = HttpClient { facts, authority: Arc::new(Door::new(app.clone())) };
    let mounted = Mounted::new(app, client, router);
    let service = service_fn(move |request| mounted.call(request));
    serve_requests(stream, service, until_closed(&mut closed)).await;
}

/// Waits until the listener is closed, or gone.
async fn until_closed(closed: &mut watch::Receiver<bool>) {
    // What it returns holds a lock, which must not live on.
    drop(closed.wait_for(|closed| *closed).await);
}
