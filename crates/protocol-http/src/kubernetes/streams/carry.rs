//! One stream's task: waits for people where that is asked for, carries, and accounts the end.

use std::sync::Arc;
use std::time::Duration;

use corral_model::event::{EventBody, StreamEnd};
use corral_session::{Completion, Running, Waiting};
use http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{interval, timeout};

use super::account::{Account, Keep, Total, digest_of};
use super::channels::{STDERR, STDOUT};
use super::frame::{Opcode, Sender};
use super::handshake::{ClientHandshake, Subprotocol};
use super::relay::{End, Ledgers, Outcome, Relayed, refuse, relay};
use super::target::{self, TargetStream};
use crate::kubernetes::cluster::Cluster;

/// How long a client may take to begin its side after it was told that it may.
const UPGRADE_WAIT: Duration = Duration::from_secs(10);
/// What a client may send ahead while people are asked, in bytes.
const AHEAD_BYTES_MAX: usize = 64 * 1024;
/// client-go gives up a connection on which nothing comes for 61 seconds.
const PONG_INTERVAL: Duration = Duration::from_secs(10);
/// A client that does not take a word for so long is not waited for.
const WORD_WAIT: Duration = Duration::from_secs(2);

/// Where a waiting client is told that it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    OnOutput,
    OnErrors,
    /// The stream has no place for words.
    Nowhere,
}

/// A client's stream that was not carried yet.
pub(crate) struct Carried {
    pub(crate) cluster: Arc<Cluster>,
    /// The client's request.
    pub(crate) parts: Parts,
    pub(crate) handshake: ClientHandshake,
    pub(crate) upgrade: OnUpgrade,
    pub(crate) notice: Notice,
}

type Client = End<TokioIo<Upgraded>>;

impl Carried {
    /// Carries a stream that is permitted and whose target is open.
    pub(crate) async fn run(self, running: Running, target: TargetStream) {
        let Some(client) = client_end(self.upgrade).await else {
            return gone(running).await;
        };
        let subprotocol = self.handshake.subprotocol;
        carry(&self.cluster, client, target, subprotocol, running).await;
    }

    /// Waits for people, with the client's connection open.
    pub(crate) async fn wait(self, waiting: Waiting) {
        let Self { cluster, parts, handshake, upgrade, notice } = self;
        // Dropping what waits withdraws it.
        let Some(mut client) = client_end(upgrade).await else { return };
        let channel = match notice {
            Notice::OnOutput => Some(STDOUT),
            Notice::OnErrors => Some(STDERR),
            Notice::Nowhere => None,
        };
        if let Some(channel) = channel {
            let line = format!("corral: {}\r\n", waiting.notice);
            client.writer.queue(Opcode::Binary, true, &[&[channel], line.as_bytes()]);
        }
        let decided = {
            let decided = waiting.wait();
            tokio::pin!(decided);
            let mut pongs = interval(PONG_INTERVAL);
            loop {
                tokio::select! {
                    biased;
                    decided = &mut decided => break decided,
                    () = client.read_ahead(AHEAD_BYTES_MAX) => return,
                    _ = pongs.tick() => {
                        client.writer.queue(Opcode::Pong, true, &[]);
                        // A client that does not read is noticed when something is decided.
                        let _ = timeout(WORD_WAIT, client.writer.flush()).await;
                    }
                }
            }
        };
        let subprotocol = handshake.subprotocol;
        let running = match decided {
            Ok(running) => running,
            Err(denial) => {
                let sentence = denial.sentence();
                return refuse(&mut client.writer, subprotocol, &sentence, "Forbidden", 1008).await;
            }
        };
        match target::open(&cluster, &parts, subprotocol, &running).await {
            Ok(target) => carry(&cluster, client, target, subprotocol, running).await,
            Err(refused) => {
                let sentence = refused.sentence();
                let code = "refused".to_owned();
                running.finish(Completion { code, ..Completion::default() }).await;
                refuse(&mut client.writer, subprotocol, &sentence, "InternalError", 1011).await;
            }
        }
    }
}

async fn client_end(upgrade: OnUpgrade) -> Option<Client> {
    match timeout(UPGRADE_WAIT, upgrade).await {
        Ok(Ok(upgraded)) => Some(End::new(TokioIo::new(upgraded), Sender::Client)),
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn gone(running: Running) {
    let completion = Completion { code: "client_gone".to_owned(), ..Completion::default() };
    running.finish(completion).await;
}

async fn carry(
    cluster: &Cluster,
    mut client: Client,
    mut target: TargetStream,
    subprotocol: Subprotocol,
    running: Running,
) {
    let session = &cluster.session;
    let (keep, target_ends): (Keep, &[StreamEnd]) = match subprotocol {
        Subprotocol::V4 | Subprotocol::V5 => {
            (Keep::Content, &[StreamEnd::Target, StreamEnd::TargetError])
        }
        Subprotocol::Tunnel | Subprotocol::Ports => (Keep::Count, &[StreamEnd::Target]),
    };
    let seq = running.seq();
    let secrets = &cluster.outgoing.secrets();
    let account = |ends: &[StreamEnd]| Account::new(session.clone(), seq, keep, ends, secrets);
    let mut ledgers =
        Ledgers { client: account(&[StreamEnd::Client]), target: account(target_ends) };
    let revoked = running.revoked();
    let ended = async {
        tokio::select! {
            end = session.ended() => end.denial,
            denial = revoked => denial,
        }
    };
    let relayed = relay(&mut client, &mut target.end, subprotocol, &mut ledgers, ended).await;
    let totals = (ledgers.client.finish().await, ledgers.target.finish().await);
    if let Outcome::Cut(_) = &relayed.outcome {
        let detail = match subprotocol {
            Subprotocol::V4 | Subprotocol::V5 => {
                "the connection to the container was closed; its process may go on, since \
                 Kubernetes has no way to end it"
            }
            Subprotocol::Tunnel | Subprotocol::Ports => "the tunnel was closed",
        };
        let detail = detail.to_owned();
        session.note(EventBody::StreamCut { seq_in_session: seq, detail }).await;
    }
    running.finish(completion(relayed, &totals.0, &totals.1)).await;
}

fn completion(relayed: Relayed, client: &Total, target: &Total) -> Completion {
    let word = match &relayed.outcome {
        Outcome::Closed => "closed",
        Outcome::ClientGone => "client_gone",
        Outcome::TargetGone => "target_gone",
        Outcome::Client(_) => "client_protocol",
        Outcome::Target(_) => "target_protocol",
        Outcome::Cut(_) => "cut",
    };
    Completion {
        code: relayed.code.unwrap_or_else(|| word.to_owned()),
        tag: Some(format!("{word}: {} bytes in, {} bytes out", client.bytes, target.bytes)),
        rows: 0,
        bytes: client.bytes.saturating_add(target.bytes),
        digest: Some(digest_of(&[client, target])),
    }
}
