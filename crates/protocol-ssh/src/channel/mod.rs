//! One session channel: what was asked for is decided, run at the target, and recorded.

mod client;
pub(crate) mod pump;
mod started;
mod statement;

use corral_gate::{Denial, DenialKind};
use corral_model::TraceParent;
use corral_session::{Answer, Draft, Running};
use russh::{ChannelOpenFailure, Pty};

pub(crate) use crate::channel::client::ClientChannel;
pub(crate) use crate::channel::started::TargetChannel;
pub(crate) use crate::channel::statement::Asker;
use crate::inbox::Size;
use crate::live::Live;

/// What a client reads as exit status of what was refused, as shells do of what cannot run.
const EXIT_REFUSED: u32 = 126;
/// What a client reads as exit status where the target failed or the session is over: what OpenSSH's
/// client ends with when it reads that the connection ends before it reads a status.
const EXIT_LOST: u32 = 255;

/// What a channel is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

/// What a client set up before it asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// Those that the target's options allow.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) terminal: Option<Terminal>,
    /// What the client says of its trace, whether or not the target may get it: a claim.
    pub(crate) traceparent: Option<TraceParent>,
}

/// A terminal as the client described it.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    pub(crate) term: String,
    pub(crate) size: Size,
    pub(crate) modes: Vec<(Pty, u32)>,
}

/// Runs a channel until it ends. Everything that goes wrong is told to the client.
pub(crate) async fn run(live: &Live, client: ClientChannel, setup: Setup, ask: Ask) {
    let ended = tokio::select! {
        ended = decide_and_run(live, &client, &setup, &ask) => ended,
        // The client takes back what nobody decided, or what the target did not start.
        () = client.gone_before_start() => Ok(()),
    };
    if let Err(denial) = ended {
        client.say(&denial.sentence()).await;
        let is_over = live.session.end_so_far().is_some();
        client.exit(if is_over { EXIT_LOST } else { exit_code(&denial) }).await;
    }
    client.close().await;
    live.from_client.forget(client.id());
}

async fn decide_and_run(
    live: &Live,
    client: &ClientChannel,
    setup: &Setup,
    ask: &Ask,
) -> Result<(), Denial> {
    let draft = statement::draft(&live.asker(), setup, ask);
    let text = draft.text.clone();
    let running = decide(live, client, draft).await?;
    // What was decided runs, which is not always what was written: see `runbook`.
    let ask = match ask {
        Ask::Exec(_) => &Ask::Exec(text.as_bytes().to_vec()),
        Ask::Shell | Ask::Subsystem(_) => ask,
    };
    started::run(live, client, setup, ask, running).await
}

/// Asks for a decision; while people decide, the client reads whom it waits for.
async fn decide(live: &Live, client: &ClientChannel, draft: Draft) -> Result<Running, Denial> {
    match live.session.decide(draft).await {
        Answer::Allow(running) => Ok(running),
        Answer::Deny(denial) => Err(denial),
        Answer::Hold(waiting) => {
            client.say(&format!("corral: {}", waiting.notice)).await;
            waiting.wait().await
        }
    }
}

fn exit_code(denial: &Denial) -> u32 {
    match denial.kind {
        DenialKind::TargetUnavailable => EXIT_LOST,
        _ => EXIT_REFUSED,
    }
}

/// Why the target would not open a channel.
pub(crate) fn unopened(error: &russh::Error) -> Denial {
    let text = match error {
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
            "the target does not allow this channel"
        }
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
            "the target cannot connect to this address"
        }
        _ => "the target opens no channel",
    };
    let mut denial = Denial::new(DenialKind::TargetUnavailable, text);
    denial.internal = Some(error.to_string());
    denial
}
