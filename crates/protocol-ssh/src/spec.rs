//! What the gateway lists of this protocol: verbs, fields, and what they promise.

use corral_gate::{ProtocolSpec, runbook};
use corral_model::Verb;
use corral_model::statement::{AttributeKind, AttributeSpec, Effect};
use corral_model::trace::{TraceNames, TracedObjects};

use crate::sftp::{self, SFTP_READ, SFTP_WRITE};

pub(crate) const SHELL: Verb = Verb { name: "shell", effect: Some(Effect::Shell) };
pub(crate) const EXEC: Verb = Verb { name: "exec", effect: Some(Effect::Shell) };
/// What passes through a forward is opaque: it may do anything that its other end lets it.
pub(crate) const FORWARD: Verb = Verb { name: "forward", effect: Some(Effect::Unknown) };

const VERBS: &[Verb] = &[SHELL, EXEC, SFTP_READ, SFTP_WRITE, FORWARD, runbook::COMMAND];

/// The account at the target that the client asked for.
pub(crate) const LOGIN: &str = "login";
/// The exact string of an `exec`.
pub(crate) const COMMAND: &str = "command";
/// The first word of an `exec` that is plain words; absent otherwise.
pub(crate) const PROGRAM: &str = "program";
/// Whether a terminal was asked for.
pub(crate) const TERMINAL: &str = "terminal";
/// A subsystem's name.
pub(crate) const SUBSYSTEM: &str = "subsystem";
/// `local` or `remote`.
pub(crate) const DIRECTION: &str = "direction";
/// The host of a forward.
pub(crate) const HOST: &str = "host";
/// The port of a forward.
pub(crate) const PORT: &str = "port";

const ATTRIBUTES: &[AttributeSpec] = &[
    AttributeSpec {
        name: LOGIN,
        kind: AttributeKind::Text,
        meaning: "The account at the target that the client asked for.",
    },
    AttributeSpec {
        name: COMMAND,
        kind: AttributeKind::Text,
        meaning: "The exact string of an exec, as the target's shell will read it.",
    },
    AttributeSpec {
        name: PROGRAM,
        kind: AttributeKind::Text,
        meaning: "The first word of an exec that consists of plain words; absent where a shell \
                  would read anything else into the string.",
    },
    AttributeSpec {
        name: TERMINAL,
        kind: AttributeKind::Flag,
        meaning: "Whether a terminal was asked for.",
    },
    AttributeSpec {
        name: SUBSYSTEM,
        kind: AttributeKind::Text,
        meaning: "The subsystem that was asked for.",
    },
    AttributeSpec {
        name: DIRECTION,
        kind: AttributeKind::Text,
        meaning: "Of a forward: local (the client connects through the target) or remote (the \
                  target listens for the client).",
    },
    AttributeSpec {
        name: HOST,
        kind: AttributeKind::Text,
        meaning: "Of a forward: the host to connect to, or the address to listen on.",
    },
    AttributeSpec { name: PORT, kind: AttributeKind::Number, meaning: "Of a forward: the port." },
    sftp::ATTRIBUTES[0],
    sftp::ATTRIBUTES[1],
    sftp::ATTRIBUTES[2],
    sftp::ATTRIBUTES[3],
];

pub(crate) const SPEC: ProtocolSpec = ProtocolSpec {
    id: "ssh",
    title: "SSH",
    alpn: &[],
    has_direct_tls: false,
    verbs: VERBS,
    attributes: ATTRIBUTES,
    mount: None,
    assurance: "Decided: who, as which login, every channel, the exact string of a command, every \
                file operation by path, every forward. Only recorded: what a shell does, and what \
                a command's string makes of itself at the target.",
    traces: TraceNames {
        system: None,
        code: "corral.code",
        successes: &["0", "closed"],
        rows: None,
        objects: TracedObjects::Nothing,
    },
};
