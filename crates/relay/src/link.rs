//! One connection with the gateway, from the handshake to its last stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use corral_transport::tunnel::{
    AllowList, AllowedAddress, Answer, Asked, AskedMessage, AskedStream, ConnectError,
    HANDSHAKE_DEADLINE, Message, RelayEnd, Requested, StreamRefusal, connect_allowed, pump,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::identity::Keeper;

/// What a connection needs.
pub(crate) struct Link {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) of_operator: Option<Arc<[AllowedAddress]>>,
}

/// How a connection ended.
pub(crate) enum Ended {
    /// Somebody stopped the relay.
    Stopped,
    /// It is to be tried again.
    Lost(anyhow::Error),
}

/// What the gateway has said on this connection.
#[derive(Default)]
struct Heard {
    allowed: Mutex<AllowList>,
    refused: Mutex<Option<String>>,
}

impl Link {
    /// Connects, and serves until the connection ends or somebody stops the relay: `stop` counts
    /// the signals. All streams have ended when it returns.
    pub(crate) async fn run(self, stop: &mut watch::Receiver<u32>, drain: Duration) -> Ended {
        let connected = tokio::select! {
            connected = self.connect() => connected,
            () = asked_to_stop(stop, 1) => return Ended::Stopped,
        };
        match connected {
            Ok(end) => self.serve(end, stop, drain).await,
            Err(error) => Ended::Lost(error),
        }
    }

    async fn connect(
        &self,
    ) -> anyhow::Result<RelayEnd<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin>>
    {
        let tls = self.keeper.tls()?;
        let address = self.keeper.address();
        let connect = async {
            let stream = tls.connect(address).await?;
            RelayEnd::start(stream).await.map_err(anyhow::Error::from)
        };
        timeout(HANDSHAKE_DEADLINE, connect)
            .await
            .map_err(|_| anyhow!("no answer in time"))
            .and_then(|connected| connected)
            .with_context(|| format!("cannot connect to the gateway at {address}"))
    }

    async fn serve<S>(
        &self,
        mut end: RelayEnd<S>,
        stop: &mut watch::Receiver<u32>,
        drain: Duration,
    ) -> Ended
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
    {
        let heard = Arc::new(Heard::default());
        if let Ok(mut allowed) = heard.allowed.lock() {
            allowed.of_operator.clone_from(&self.of_operator);
        }
        // Dropped at the end, every stream's task is aborted.
        let mut tasks: JoinSet<()> = JoinSet::new();
        let lost = loop {
            tokio::select! {
                asked = end.next() => match asked {
                    Ok(Some(Asked::Stream(stream))) => {
                        let allowed = heard.allowed();
                        tasks.spawn(carry(stream, allowed));
                    }
                    Ok(Some(Asked::Message(message))) => {
                        // In a task: a message moves only while the connection is driven.
                        tasks.spawn(obey(message, self.keeper.clone(), heard.clone()));
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                },
                Some(_) = tasks.join_next() => {}
                () = asked_to_stop(stop, 1) => {
                    tracing::info!(streams = tasks.len(), "relay stops");
                    end.drain();
                    let finish = async { while let Ok(Some(_)) = end.next().await {} };
                    tokio::select! {
                        () = finish => {}
                        () = tokio::time::sleep(drain) => {
                            tracing::warn!(streams = tasks.len(), "the time to finish is over");
                        }
                        () = asked_to_stop(stop, 2) => {}
                    }
                    return Ended::Stopped;
                }
            }
        };
        let refused = heard.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ended::Lost(match (refused, lost) {
            (Some(reason), _) => anyhow!("the gateway does not take this relay: {reason}"),
            (None, Some(error)) => error.into(),
            (None, None) => anyhow!("the gateway closed the connection"),
        })
    }
}

/// Waits for this many signals.
pub(crate) async fn asked_to_stop(stop: &mut watch::Receiver<u32>, signals: u32) {
    // Nobody who could send one is left: the relay runs for as long as it is needed.
    if stop.wait_for(|count| *count >= signals).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn obey(message: AskedMessage, keeper: Arc<Keeper>, heard: Arc<Heard>) {
    match timeout(HANDSHAKE_DEADLINE, message.read()).await {
        Ok(Ok(Some((message, answer)))) => carry_out(message, answer, &keeper, &heard),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a message of the gateway cannot be read"),
        Err(_) => tracing::warn!("a message of the gateway did not end in time"),
    }
}

fn carry_out(message: Message, answer: Answer, keeper: &Keeper, heard: &Heard) {
    match message {
        Message::Settings(settings) if settings.relay != keeper.relay() => {
            answer.refuse("this relay has another name");
        }
        Message::Settings(settings) => {
            let addresses = settings.addresses.len();
            tracing::info!(gateway = settings.gateway, addresses, "connected");
            heard.allowed.lock().unwrap_or_else(PoisonError::into_inner).of_gateway =
                Some(settings.addresses.into());
            answer.done();
        }
        Message::Renewal => match keeper.next_request() {
            Ok(request_pem) => answer.with(&Requested { request_pem }),
            Err(error) => {
                tracing::error!("{error:#}");
                answer.refuse("no request can be made");
            }
        },
        Message::Certificate(installed) => match keeper.install(&installed.certificate_pem) {
            Ok(()) => {
                tracing::info!("the certificate was renewed");
                answer.done();
            }
            Err(error) => {
                tracing::error!("the next certificate cannot be used: {error:#}");
                answer.refuse("the certificate cannot be used");
            }
        },
        Message::Refused(refused) => {
            *heard.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused.reason);
            answer.done();
        }
    }
}

impl Heard {
    fn allowed(&self) -> AllowList {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One stream: dial what was asked for, if it is allowed, and move bytes.
async fn carry(mut asked: AskedStream, allowed: AllowList) {
    let (host, port) = (asked.host().to_owned(), asked.port());
    let dialled = tokio::select! {
        dialled = connect_allowed(&allowed, &host, port) => dialled,
        () = asked.given_up() => return,
    };
    let target = match dialled {
        Ok(target) => target,
        Err(error) => {
            let refusal = match &error {
                ConnectError::NotAllowed | ConnectError::NoneAllowed => {
                    tracing::warn!(%error, port, "a stream was refused");
                    StreamRefusal::NotAllowed
                }
                ConnectError::Resolve(_) | ConnectError::Connect(_) | ConnectError::Deadline => {
                    tracing::info!(%error, port, "a target cannot be reached");
                    StreamRefusal::Unreachable
                }
            };
            return asked.refuse(refusal, &describe(&error));
        }
    };
    let Ok(stream) = asked.accept() else { return };
    match pump(stream, target).await {
        Ok(moved) => {
            tracing::debug!(
                to_target = moved.to_target,
                to_gateway = moved.to_gateway,
                "stream ended"
            );
        }
        Err(error) => tracing::debug!(%error, "a stream was cut"),
    }
}

fn describe(error: &ConnectError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
