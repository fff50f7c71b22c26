//! The API's listener: HTTP/1.1 over TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use corral_model::limits;
use corral_transport::{Accepted, Listener, ServerTls};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// API connections open at once.
const CONNECTIONS_MAX: usize = 1_024;
/// A client that has not sent its request's head by then is disconnected.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
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
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> anyhow::Result<Self> {
        let tls = ServerTls::new(chain_pem, key_pem, &["http/1.1"]).context("TLS for https")?;
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
                    let closed = self.closed.clone();
                    self.connections.spawn(serve(accepted, tls, router, closed));
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
    mut closed: watch::Receiver<bool>,
) {
    let Ok(plain) = accepted.stream.into_plain() else { return };
    let stream = match tokio::time::timeout(limits::LOGIN_DEADLINE, tls.accept(plain)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake with the API failed");
            return;
        }
        Err(_) => return,
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until_closed(&mut closed) => {
            connection.as_mut().graceful_shutdown();
            // Followers of events end with the process; the others when they are done.
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection ended early");
    }
}

/// Waits until the listener is closed, or gone.
async fn until_closed(closed: &mut watch::Receiver<bool>) {
    // What it returns holds a lock, which must not live on.
    drop(closed.wait_for(|closed| *closed).await);
}
