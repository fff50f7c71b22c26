//! Forwarded connections: through the target to a place (`-L`, `-J`, `-W`), and from a port of the
//! target to the client (`-R`). Both the target's options and a policy must name the place.
//!
//! What passes is opaque: its ends and its size are recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_gate::{Denial, DenialKind};
use corral_model::limits;
use corral_model::statement::{Attribute, Facts, Obstacle};
use corral_session::{Answer, Completion, Draft, Running};
use russh::server::{ChannelOpenHandle, Handle};
use russh::{Channel, ChannelOpenFailure, client};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bounds;
use crate::channel::{ClientChannel, TargetChannel, pump, unopened};
use crate::live::Live;
use crate::options::Place;
use crate::recording::Kept;
use crate::{exec, spec};

/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254 section 5.1).
const PROHIBITED: u32 = 1;

/// Who asked for a connection, as it says.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: String,
    pub(crate) port: u32,
}

/// Which way a forward goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Local,
    /// A port of the target, and each connection to it.
    Listen,
    Remote,
}

/// The ports on which the target listens for the client.
#[derive(Debug, Default)]
pub(crate) struct Listens(Mutex<Vec<Listen>>);

#[derive(Debug)]
struct Listen {
    /// The port is 0 until the target said which one it gave.
    place: Place,
    /// Ends its statement.
    stop: CancellationToken,
}

impl Listens {
    fn lock(&self) -> MutexGuard<'_, Vec<Listen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the target was asked to listen there. Connections may come before its answer was
    /// read, so what was asked for counts.
    pub(crate) fn has(&self, address: &str, port: u32) -> bool {
        let is_meant = |place: &Place| place.port == port || place.port == 0;
        self.lock().iter().any(|listen| listen.place.host == address && is_meant(&listen.place))
    }

    fn add(&self, address: &str, port: u32, stop: CancellationToken) {
        let place = Place { host: address.to_owned(), port };
        self.lock().push(Listen { place, stop });
    }

    fn take(&self, address: &str, port: u32) -> Option<Listen> {
        let mut listens = self.lock();
        let is_meant = |listen: &Listen| listen.place.host == address && listen.place.port == port;
        let index = listens.iter().position(is_meant);
        index.map(|index| listens.swap_remove(index))
    }
}

/// A client's connection to a place behind the target.
pub(crate) async fn local(
    live: &Live,
    place: &Place,
    origin: &Origin,
    client: ClientChannel,
    reply: ChannelOpenHandle,
) {
    let opened = async {
        let running = decide(live, Direction::Local, place, Some(origin)).await?;
        let open = live.target.channel_open_direct_tcpip(
            place.host.as_str(),
            place.port,
            origin.address.as_str(),
            origin.port,
        );
        let channel = timeout(limits::TARGET_LOGIN_DEADLINE, open)
            .await
            .map_err(|_| Denial::new(DenialKind::TargetUnavailable, "no answer in time"))?
            .map_err(|error| unopened(&error))?;
        let (_, write) = channel.split();
        let inbox = live.from_target.of(write.id());
        Ok((running, TargetChannel::new(write, inbox)))
    };
    let id = client.id();
    match opened.await {
        Ok((running, target)) => {
            reply.accept().await;
            pass(live, &client, &target, running).await;
        }
        Err(denial) => reply.reject(refusal(&denial)).await,
    }
    live.from_client.forget(id);
}

/// A connection to a port of the target on which it listens for the client.
pub(crate) async fn remote(
    live: &Live,
    to_client: &Handle,
    place: &Place,
    origin: &Origin,
    channel: Channel<client::Msg>,
    reply: client::ChannelOpenHandle,
) {
    let inbox = live.from_target.of(channel.id());
    let (_, write) = channel.split();
    let target = TargetChannel::new(write, inbox);
    let opened = async {
        let running = decide(live, Direction::Remote, place, Some(origin)).await?;
        let open = to_client.channel_open_forwarded_tcpip(
            place.host.as_str(),
            place.port,
            origin.address.as_str(),
            origin.port,
        );
        let channel = timeout(limits::TARGET_LOGIN_DEADLINE, open)
            .await
            .map_err(|_| Denial::new(DenialKind::Protocol, "the client did not answer in time"))?
            .map_err(|_| Denial::new(DenialKind::Protocol, "the client refused the connection"))?;
        let inbox = live.from_client.of(channel.id());
        Ok::<_, Denial>((running, ClientChannel::new(channel, to_client.clone(), inbox)))
    };
    match opened.await {
        Ok((running, client)) => {
            reply.accept().await;
            pass(live, &client, &target, running).await;
            live.from_client.forget(client.id());
        }
        Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
    }
    live.from_target.forget(target.id());
}

async fn pass(live: &Live, client: &ClientChannel, target: &TargetChannel, running: Running) {
    client.started();
    // Why the session ended is said by its disconnect; a connection carries no other words.
    let _ended = pump::run(live, client, target, running, Kept::Count).await;
    client.close().await;
    live.from_target.forget(target.id());
}

/// Asks the target to listen for the client. Gives the port.
///
/// # Errors
/// A [`Denial`]: not allowed, or the target does not.
pub(crate) async fn listen(live: &Arc<Live>, address: &str, port: u32) -> Result<u32, Denial> {
    let place = Place { host: address.to_owned(), port };
    let running = decide(live, Direction::Listen, &place, None).await?;
    let listens = &live.listens;
    if listens.lock().len() >= bounds::LISTENS_MAX {
        return Err(Denial::new(DenialKind::TooManySessions, "too many ports are listened on"));
    }
    let stop = CancellationToken::new();
    listens.add(address, port, stop.clone());
    let ask = live.target.tcpip_forward(address, port);
    let asked = timeout(limits::TARGET_LOGIN_DEADLINE, ask).await;
    let given = asked
        .map_err(|_| Denial::new(DenialKind::TargetUnavailable, "no answer in time"))
        .and_then(|given| {
            let text = "the target does not listen";
            given.map_err(|_| Denial::new(DenialKind::TargetUnavailable, text))
        });
    let given = match given {
        Ok(given) => given,
        Err(denial) => {
            let _not_listening = listens.take(address, port);
            return Err(denial);
        }
    };
    let listening = if port == 0 { given } else { port };
    if port == 0
        && let Some(listen) = listens.take(address, 0)
    {
        listens.add(address, listening, listen.stop);
    }
    let (owner, host) = (live.clone(), address.to_owned());
    let spawned = live.session.spawn(async move {
        let is_given_back = tokio::select! {
            () = stop.cancelled() => true,
            _ = owner.session.ended() => false,
            // The connections that came by it are asked about one by one.
            _ = running.revoked() => false,
        };
        if !is_given_back {
            // Also at the end, which is heard here first: who comes again wants the same port.
            unlisten(&owner, &host, listening).await;
        }
        running.finish(Completion { code: "closed".to_owned(), ..Completion::default() }).await;
    });
    if let Err(denial) = spawned {
        unlisten(live, address, listening).await;
        return Err(denial);
    }
    Ok(listening)
}

/// Asks the target to listen no more; false when it did not.
pub(crate) async fn unlisten(live: &Live, address: &str, port: u32) -> bool {
    let Some(listen) = live.listens.take(address, port) else { return false };
    let ask = live.target.cancel_tcpip_forward(address, port);
    let is_done = matches!(timeout(limits::TARGET_LOGIN_DEADLINE, ask).await, Ok(Ok(())));
    listen.stop.cancel();
    is_done
}

async fn decide(
    live: &Live,
    direction: Direction,
    place: &Place,
    origin: Option<&Origin>,
) -> Result<Running, Denial> {
    let (text, facts) = statement(live, direction, place, origin);
    let draft = Draft {
        text: text.into(),
        facts: Arc::new(facts),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: None,
        is_stream: true,
    };
    match live.session.decide(draft).await {
        Answer::Allow(running) => Ok(running),
        Answer::Deny(denial) => Err(denial),
        Answer::Hold(waiting) => match direction {
            Direction::Local | Direction::Remote => waiting.wait().await,
            // The client's whole connection would wait for the answer.
            Direction::Listen => {
                let text = "a port of the target cannot wait for an approval";
                Err(Denial::new(DenialKind::NotSupported, text))
            }
        },
    }
}

fn statement(
    live: &Live,
    direction: Direction,
    place: &Place,
    origin: Option<&Origin>,
) -> (String, Facts) {
    let Place { host, port } = place;
    let from = origin.map(|from| format!(" from {}:{}", from.address.escape_debug(), from.port));
    let from = from.unwrap_or_default();
    let shown = host.escape_debug();
    let (text, word, allowed, option) = match direction {
        Direction::Local => {
            let text = format!("forward to {shown}:{port}{from}");
            (text, "local", &live.options.forward_to, "forward_to")
        }
        Direction::Listen => {
            let text = format!("listen on {shown}:{port}");
            (text, "remote", &live.options.forward_listen, "forward_listen")
        }
        Direction::Remote => {
            let text = format!("forward from the target's {shown}:{port}{from}");
            (text, "remote", &live.options.forward_listen, "forward_listen")
        }
    };
    let attributes = BTreeMap::from([
        (spec::LOGIN, Attribute::Text(live.login.clone())),
        (spec::DIRECTION, Attribute::Text(word.to_owned())),
        (spec::HOST, Attribute::Text(host.clone())),
        (spec::PORT, Attribute::Number(i64::from(*port))),
    ]);
    let mut facts = exec::of_verb(spec::FORWARD, attributes);
    if !allowed.iter().any(|allowed| allowed.covers(host, *port)) {
        facts.obstacle = Some(Obstacle {
            rule: "options",
            text: format!("the target's options.{option} does not name {shown}:{port}"),
            position: None,
            is_size: false,
        });
    }
    (text, facts)
}

/// What a client reads of a connection that is not opened.
fn refusal(denial: &Denial) -> ChannelOpenFailure {
    match denial.kind {
        DenialKind::TargetUnavailable => ChannelOpenFailure::ConnectFailed,
        _ => ChannelOpenFailure::Other { code: PROHIBITED, reason: denial.sentence() },
    }
}
