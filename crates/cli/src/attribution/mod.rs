//! Whose a connection is: the wrapper gives every process of its tree that connects a run of its
//! own, and carries the connection to the gateway as that run.
//!
//! Clients are led to sockets of the wrapper. The kernel tells which process is at the other end;
//! bytes are not read. It may not know any protocol: how clients are led is told by the gateway.

mod carry;
mod children;
pub(crate) mod control;
pub(crate) mod guard;
mod hold;
pub(crate) mod leftovers;
mod loopback;
mod name;
pub(crate) mod open_files;
mod peer;
mod process;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corral_model::ids::TargetName;
use corral_model::{Secret, limits};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Client;
use crate::client_dir::ClientDir;
use crate::failure::Failure;
use crate::native::Led;
use crate::output;

use carry::{Way, carry};
pub(crate) use children::{Children, Found, Member};
pub(crate) use hold::Held;
pub(crate) use peer::Peer;
pub(crate) use process::ProcessId;

/// Wait after a socket took no client: out of file descriptors gets better by time only.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The socket at which processes ask for their own token.
pub(crate) const CONTROL_SOCKET: &str = "control";

/// Loopback listeners, which are there before clients are told of their ports.
pub(crate) struct Ports(Vec<(String, TcpListener)>);

impl Ports {
    /// Listens for clients that know no Unix sockets, and leads every client that can be led to
    /// the wrapper there.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) async fn open(clients: &mut [Led]) -> Result<Self, Failure> {
        let mut ports = Vec::new();
        for led in clients {
            let Some(has_loopback) = led.wants_local().map(|local| local.has_loopback) else {
                continue;
            };
            if !has_loopback {
                led.lead_locally(None);
                continue;
            }
            let cannot = |error: std::io::Error| {
                Failure::failed(format!("cannot listen on the loopback address: {error}"))
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
            let port = listener.local_addr().map_err(cannot)?.port();
            led.lead_locally(Some(port));
            ports.push((led.protocol.clone(), listener));
        }
        Ok(Self(ports))
    }
}

/// The wrapper's sockets.
pub(crate) struct Attribution {
    children: Arc<Children>,
    unix: Vec<(Use, UnixListener)>,
    tcp: Vec<(Way, TcpListener)>,
    places: Arc<Semaphore>,
}

/// What a Unix socket is for.
#[derive(Clone)]
enum Use {
    Carry(Way),
    Control,
}

/// A client that connected.
enum Connected {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

impl Attribution {
    /// Listens where the clients' files and variables say.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub(crate) fn start(
        client: &Client,
        wrapper: &Secret,
        clients: &[Led],
        ports: Ports,
        directory: &ClientDir,
    ) -> Result<Self, Failure> {
        let mut unix = vec![(Use::Control, listen(&directory.path().join(CONTROL_SOCKET))?)];
        let mut ways: Vec<Way> = Vec::new();
        for led in clients {
            let Some(local) = led.local() else { continue };
            let target = local.target.as_deref().map(TargetName::new).transpose();
            let target = target.map_err(|error| Failure::failed(error.to_string()))?;
            let way = Way { protocol: led.protocol.clone(), target };
            unix.push((Use::Carry(way.clone()), listen(&directory.socket(&local.socket)?)?));
            ways.push(way);
        }
        let way_of = |(protocol, listener): (String, TcpListener)| {
            let way = ways.iter().find(|way| way.protocol == protocol).cloned();
            way.map(|way| (way, listener))
        };
        Ok(Self {
            children: Children::new(client.clone(), wrapper.clone()),
            unix,
            tcp: ports.0.into_iter().filter_map(way_of).collect(),
            places: Arc::new(Semaphore::new(limits::ATTRIBUTED_CONNECTIONS_MAX)),
        })
    }

    /// The processes that connect.
    pub(crate) fn children(&self) -> Arc<Children> {
        self.children.clone()
    }

    /// Serves the sockets, for ever.
    ///
    /// # Cancel safety
    /// Dropping it takes no more connections.
    pub(crate) async fn serve(self) -> Infallible {
        let Self { children, unix, tcp, places } = self;
        let mut serving = FuturesUnordered::new();
        for (purpose, listener) in unix {
            let accept = async move || listener.accept().await.map(|(s, _)| Connected::Unix(s));
            let (children, places) = (children.clone(), places.clone());
            serving.push(futures_util::future::Either::Left(accept_all(
                children, places, purpose, accept,
            )));
        }
        for (way, listener) in tcp {
            let accept =
                async move || listener.accept().await.map(|(s, from)| Connected::Tcp(s, from));
            let (children, places) = (children.clone(), places.clone());
            serving.push(futures_util::future::Either::Right(accept_all(
                children,
                places,
                Use::Carry(way),
                accept,
            )));
        }
        match serving.next().await {
            Some(never) => match never {},
            None => std::future::pending().await,
        }
    }
}

/// A socket for this user alone; the directory keeps others out, and tools that look at the
/// socket see it too.
fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let listener =
        UnixListener::bind(path).map_err(|error| Failure::io("listen on", path, &error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Failure::io("protect", path, &error))?;
    Ok(listener)
}

async fn accept_all(
    children: Arc<Children>,
    places: Arc<Semaphore>,
    purpose: Use,
    mut accept: impl AsyncFnMut() -> std::io::Result<Connected>,
) -> Infallible {
    loop {
        match accept().await {
            Ok(connected) => match places.clone().try_acquire_owned() {
                Ok(place) => serve(&children, &purpose, connected, place),
                Err(_) => output::remark(&format!(
                    "corral: a connection was closed: {} are open",
                    limits::ATTRIBUTED_CONNECTIONS_MAX
                )),
            },
            Err(error) => {
                tracing::debug!(%error, "a socket takes no client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finds out at once whose the connection is, while its process is most likely still there.
fn serve(
    children: &Arc<Children>,
    purpose: &Use,
    connected: Connected,
    place: OwnedSemaphorePermit,
) {
    let started = std::time::Instant::now();
    let peer = peer(&connected);
    let is_command = matches!(purpose, Use::Control)
        && peer.as_ref().is_ok_and(|peer| children.is_command(peer.pid));
    if is_command && let Connected::Unix(stream) = connected {
        tokio::spawn(async move {
            control::answer_command(stream).await;
            drop(place);
        });
        return;
    }
    let found = peer.and_then(|peer| children.find(peer));
    tracing::debug!(duration_us = started.elapsed().as_micros(), "a connection was attributed");
    let children = children.clone();
    match (purpose.clone(), connected) {
        (Use::Carry(way), Connected::Unix(stream)) => {
            tokio::spawn(async move {
                carry(children, way, found, stream).await;
                drop(place);
            });
        }
        (Use::Carry(way), Connected::Tcp(stream, _)) => {
            tokio::spawn(async move {
                carry(children, way, found, stream).await;
                drop(place);
            });
        }
        (Use::Control, Connected::Unix(stream)) => {
            tokio::spawn(async move {
                control::answer(children, found, stream).await;
                drop(place);
            });
        }
        // There is no such socket.
        (Use::Control, Connected::Tcp(..)) => {}
    }
}

/// The process at the other end.
fn peer(connected: &Connected) -> Result<Peer, String> {
    match connected {
        Connected::Unix(stream) => Peer::of_unix(stream),
        Connected::Tcp(stream, client) => {
            // Small messages answer small messages here.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection keeps small messages back");
            }
            Peer::of_tcp(stream, *client)
        }
    }
}
