//! One session channel: what was asked for is decided, run at the target, and recorded.

mod client;
pub(crate) mod pump;
mod started;

use std::sync::Arc;

use corral_gate::runbook::{self, Invocation};
use corral_gate::{Denial, DenialKind};
use corral_model::statement::{Attribute, Facts, Obstacle};
use corral_session::{Answer, Draft, Running};
use russh::{ChannelOpenFailure, Pty};

pub(crate) use crate::channel::client::ClientChannel;
pub(crate) use crate::channel::started::TargetChannel;
use crate::inbox::Size;
use crate::live::Live;
use crate::recording::hex;
use crate::{exec, sftp, spec};

/// What a client reads as exit status of what was refused, as shells do of what cannot run.
const EXIT_REFUSED: u32 = 126;
/// What a client reads as exit status where the target failed, as OpenSSH's client does.
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
        client.exit(exit_code(&denial)).await;
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
    let (draft, ask) = plan(live, setup, ask)?;
    let running = decide(live, client, draft).await?;
    started::run(live, client, setup, &ask, running).await
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

/// What is decided, and what runs when it is permitted. For the name of a command with typed
/// parameters that is the command's own line.
fn plan(live: &Live, setup: &Setup, ask: &Ask) -> Result<(Draft, Ask), Denial> {
    if let Ask::Exec(written) = ask
        && let Some(invocation) = runbook::invoke(&live.commands, &exec::read(written)?)
    {
        let draft = command_draft(live, setup, invocation);
        let line = Ask::Exec(draft.text.as_bytes().to_vec());
        return Ok((draft, line));
    }
    Ok((draft(live, setup, ask)?, ask.clone()))
}

fn command_draft(live: &Live, setup: &Setup, invocation: Invocation) -> Draft {
    let Invocation { text, mut facts, parameters } = invocation;
    facts.attributes.insert(spec::LOGIN, Attribute::Text(live.login.clone()));
    // With a terminal a program may open a pager or an editor, and those run anything.
    if setup.terminal.is_some() {
        facts.obstacle.get_or_insert(Obstacle {
            rule: "command",
            text: "this command runs without a terminal; leave out `ssh -t`".to_owned(),
            position: None,
            is_size: false,
        });
    }
    Draft {
        text: text.into(),
        facts: Arc::new(facts),
        parameters,
        state_digest: state_digest(&live.login, setup),
        is_stream: true,
    }
}

/// What is decided: the exact text, and everything of the setup that changes its meaning.
fn draft(live: &Live, setup: &Setup, ask: &Ask) -> Result<Draft, Denial> {
    let has_terminal = setup.terminal.is_some();
    let (text, facts) = match ask {
        Ask::Shell => {
            let attributes = [
                (spec::LOGIN, Attribute::Text(live.login.clone())),
                (spec::TERMINAL, Attribute::Flag(has_terminal)),
            ];
            ("shell".into(), exec::of_verb(spec::SHELL, attributes.into()))
        }
        Ask::Exec(command) => {
            let command = exec::read(command)?;
            let facts = exec::facts(&command, &live.login, has_terminal);
            (command, facts)
        }
        // Opening it does nothing: each of its operations is decided.
        Ask::Subsystem(name) if name == sftp::SUBSYSTEM => {
            let attributes = [
                (spec::LOGIN, Attribute::Text(live.login.clone())),
                (spec::SUBSYSTEM, Attribute::Text(name.clone())),
            ];
            let facts =
                Facts { statement_count: 1, attributes: attributes.into(), ..Facts::default() };
            ("subsystem sftp".into(), facts)
        }
        Ask::Subsystem(name) => {
            if !live.options.subsystems.contains(name) {
                let text = format!(
                    "the subsystem {} is not open at this target; see options.subsystems",
                    name.escape_debug()
                );
                return Err(Denial::new(DenialKind::NotSupported, text));
            }
            let attributes = [
                (spec::LOGIN, Attribute::Text(live.login.clone())),
                (spec::SUBSYSTEM, Attribute::Text(name.clone())),
            ];
            let text: Arc<str> = format!("subsystem {name}").into();
            (text, exec::of_verb(spec::EXEC, attributes.into()))
        }
    };
    Ok(Draft {
        text,
        facts: Arc::new(facts),
        parameters: Vec::new(),
        state_digest: state_digest(&live.login, setup),
        is_stream: true,
    })
}

/// Digest of the login, the environment and the terminal: an approval is for these too.
fn state_digest(login: &str, setup: &Setup) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut part = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    part(login);
    part(setup.terminal.as_ref().map_or("", |terminal| terminal.term.as_str()));
    for (name, value) in &setup.variables {
        part(name);
        part(value);
    }
    hex(context.finish().as_ref())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_for_one_login_and_one_environment() {
        let set = |name: &str, value: &str| Setup {
            variables: vec![(name.to_owned(), value.to_owned())],
            terminal: None,
        };
        let digests = [
            state_digest("root", &Setup::default()),
            state_digest("ada", &Setup::default()),
            state_digest("root", &set("LANG", "C")),
            state_digest("root", &set("LAN", "GC")),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest), "{index}");
        }
        assert_eq!(digests[2], state_digest("root", &set("LANG", "C")));
    }
}
