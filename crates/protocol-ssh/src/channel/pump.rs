//! Copies a channel both ways, recorded and bounded, until one end closes it, the session ends, or
//! policies no longer allow it.
//!
//! Each way holds at most one window of bytes; window is given back when bytes went on.

use std::sync::atomic::{AtomicBool, Ordering};

use corral_gate::Denial;
use corral_model::event::{CloseReason, EventBody, StreamEnd};
use corral_model::ids::StatementSeq;
use corral_session::{Completion, End, Running, SessionHandle};
use russh::Sig;
use tokio::time::{Instant, timeout, timeout_at};

use crate::bounds;
use crate::channel::client::ClientChannel;
use crate::channel::started::TargetChannel;
use crate::inbox::{Item, Word};
use crate::live::Live;
use crate::recording::{Kept, Recording, digest_of};

/// How a channel ended.
enum Ending {
    /// The target closed it; everything that it sent went to the client.
    ByTarget,
    ByClient,
    /// Also when only this channel may not go on.
    BySession(End),
}

/// How what ran at the target ended, as it said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exit {
    Unsaid,
    Status(u32),
    Signal(String),
}

/// Copies until the end, and completes the statement.
///
/// # Errors
/// A [`Denial`] of the session's end, or of this channel alone, which the client has not read yet.
pub(crate) async fn run(
    live: &Live,
    client: &ClientChannel,
    target: &TargetChannel,
    running: Running,
    kept: Kept,
) -> Result<(), Denial> {
    let seq = running.seq();
    let session = &live.session;
    let recording =
        |from: StreamEnd| Recording::new(session.clone(), seq, from, kept, live.secrets.clone());
    let mut input = recording(StreamEnd::Client);
    let mut output = Output {
        target: recording(StreamEnd::Target),
        target_error: recording(StreamEnd::TargetError),
        exit: Exit::Unsaid,
    };
    let ending = tokio::select! {
        ending = copy(session, seq, client, target, &mut input, &mut output, kept) => ending,
        denial = running.revoked() => {
            Ending::BySession(End { reason: CloseReason::Killed, denial })
        }
    };
    let refusal = match ending {
        Ending::ByTarget => None,
        Ending::ByClient => {
            leave(target).await;
            None
        }
        Ending::BySession(end) => {
            match kept {
                Kept::Everything => {
                    let line = format!("{}\r\n", end.denial.sentence());
                    output.target_error.own_line(&line).await;
                    cut(session, seq, target, &mut output).await;
                }
                // The other end of a forward sees its connection closed.
                Kept::Count => leave(target).await,
            }
            Some(end.denial)
        }
    };
    let (input, target_out) = (input.finish().await, output.target.finish().await);
    let target_error = output.target_error.finish().await;
    let completion = Completion {
        code: match output.exit {
            Exit::Unsaid => "closed".to_owned(),
            Exit::Status(status) => status.to_string(),
            Exit::Signal(name) => format!("SIG{name}"),
        },
        bytes: input.bytes.saturating_add(target_out.bytes).saturating_add(target_error.bytes),
        digest: match kept {
            Kept::Everything => Some(digest_of(input, target_out, target_error)),
            Kept::Count => None,
        },
        ..Completion::default()
    };
    running.finish(completion).await;
    refusal.map_or(Ok(()), Err)
}

struct Output {
    target: Recording,
    target_error: Recording,
    exit: Exit,
}

async fn copy(
    session: &SessionHandle,
    seq: StatementSeq,
    client: &ClientChannel,
    target: &TargetChannel,
    input: &mut Recording,
    output: &mut Output,
    kept: Kept,
) -> Ending {
    let is_client_silent = AtomicBool::new(false);
    let to_target = to_target(session, seq, client, target, input, &is_client_silent);
    let to_client = to_client(client, target, output, kept, &is_client_silent);
    tokio::pin!(to_target, to_client);
    let mut is_input_over = false;
    loop {
        tokio::select! {
            () = &mut to_client => return Ending::ByTarget,
            over = &mut to_target, if !is_input_over => match over {
                InputEnd::ClientClosed => return Ending::ByClient,
                // What the target still says is for the client.
                InputEnd::TargetGone => is_input_over = true,
            },
            () = lingering(client) => return Ending::ByClient,
            end = session.ended() => return Ending::BySession(end),
        }
    }
}

/// A client that closed its channel is waited for only while its last bytes go to the target.
async fn lingering(client: &ClientChannel) {
    client.closed().await;
    tokio::time::sleep(bounds::CHANNEL_FAREWELL).await;
}

enum InputEnd {
    ClientClosed,
    TargetGone,
}

async fn to_target(
    session: &SessionHandle,
    seq: StatementSeq,
    client: &ClientChannel,
    target: &TargetChannel,
    recording: &mut Recording,
    is_silent: &AtomicBool,
) -> InputEnd {
    loop {
        match client.next().await {
            Item::Bytes(_, bytes) => {
                recording.pass(&bytes).await;
                let count = bytes.len();
                tokio::select! {
                    sent = target.send(bytes) => {
                        if sent.is_err() {
                            return InputEnd::TargetGone;
                        }
                    }
                    () = target.closed() => return InputEnd::TargetGone,
                }
                client.consumed(count).await;
            }
            Item::Word(Word::Eof) => {
                is_silent.store(true, Ordering::Relaxed);
                target.eof().await;
            }
            Item::Word(Word::Resized(size)) => {
                let (columns, rows) = (size.columns, size.rows);
                let body = EventBody::TerminalResized { seq_in_session: seq, columns, rows };
                session.note(body).await;
                target.resize(size).await;
            }
            Item::Word(Word::Signal(signal)) => target.signal(signal).await,
            Item::Word(Word::Close) => return InputEnd::ClientClosed,
            // A client has nothing to grant, and runs nothing.
            Item::Word(Word::Success | Word::Failure | Word::Exited(_) | Word::Killed { .. }) => {}
        }
    }
}

/// A client that was told the end of the output closes its channel, and then hears no exit status
/// any more. So the status goes first: where the client has more to send, if it comes soon after
/// the end, and always where it has not, because both ends together close the channel.
async fn to_client(
    client: &ClientChannel,
    target: &TargetChannel,
    output: &mut Output,
    kept: Kept,
    is_client_silent: &AtomicBool,
) {
    let mut eof_due: Option<Instant> = None;
    let mut is_over = false;
    loop {
        let item = match eof_due {
            None => target.next().await,
            Some(due) => match timeout_at(due, target.next()).await {
                Ok(item) => item,
                Err(_) => {
                    eof_due = None;
                    if !is_client_silent.load(Ordering::Relaxed) {
                        client.eof().await;
                    }
                    continue;
                }
            },
        };
        match item {
            Item::Bytes(from, bytes) => {
                match from {
                    StreamEnd::TargetError => output.target_error.pass(&bytes).await,
                    StreamEnd::Target | StreamEnd::Client => output.target.pass(&bytes).await,
                }
                let count = bytes.len();
                if client.send(from, bytes).await.is_err() {
                    // The client's connection is gone; its end comes from there.
                    return std::future::pending().await;
                }
                target.consumed(count).await;
            }
            Item::Word(Word::Eof) => match kept {
                Kept::Everything if output.exit == Exit::Unsaid => {
                    is_over = true;
                    eof_due = Some(Instant::now() + bounds::EXIT_PATIENCE);
                }
                Kept::Everything | Kept::Count => client.eof().await,
            },
            Item::Word(Word::Exited(status)) => {
                output.exit = Exit::Status(status);
                client.exit(status).await;
                eof_due = None;
                if is_over {
                    client.eof().await;
                }
            }
            Item::Word(Word::Killed { signal, has_core, message }) => {
                output.exit = Exit::Signal(signal_name(&signal).to_owned());
                client.killed(signal, has_core, message).await;
                eof_due = None;
                if is_over {
                    client.eof().await;
                }
            }
            Item::Word(Word::Close) => return,
            // Answers to requests that want none, and what only clients say.
            Item::Word(Word::Success | Word::Failure | Word::Resized(_) | Word::Signal(_)) => {}
        }
    }
}

/// The client left: what runs at the target sees its channel closed, as from any client.
async fn leave(target: &TargetChannel) {
    target.close().await;
    let _ = timeout(bounds::CHANNEL_FAREWELL, target.closed()).await;
}

/// Ends what runs at the target, and records what may go on there.
async fn cut(
    session: &SessionHandle,
    seq: StatementSeq,
    target: &TargetChannel,
    output: &mut Output,
) {
    target.signal(Sig::HUP).await;
    target.signal(Sig::KILL).await;
    target.eof().await;
    let _ = timeout(bounds::CHANNEL_FAREWELL, last_words(target, output)).await;
    target.close().await;
    let detail = match &output.exit {
        Exit::Signal(name) => {
            format!("the target ended it by signal {name}; what it started apart may go on")
        }
        Exit::Status(status) => {
            format!("it ended with status {status}; what it started apart may go on")
        }
        Exit::Unsaid => "the channel was closed, and the target did not say that what ran on it \
                         ended: it may go on there"
            .to_owned(),
    };
    session.note(EventBody::StreamCut { seq_in_session: seq, detail }).await;
}

/// Reads on until the target closes the channel; nothing goes to the client any more.
async fn last_words(target: &TargetChannel, output: &mut Output) {
    loop {
        match target.next().await {
            Item::Bytes(_, bytes) => target.consumed(bytes.len()).await,
            Item::Word(Word::Exited(status)) => output.exit = Exit::Status(status),
            Item::Word(Word::Killed { signal, .. }) => {
                output.exit = Exit::Signal(signal_name(&signal).to_owned());
            }
            Item::Word(Word::Close) => return,
            Item::Word(
                Word::Eof | Word::Success | Word::Failure | Word::Resized(_) | Word::Signal(_),
            ) => {}
        }
    }
}

fn signal_name(signal: &Sig) -> &str {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
}
