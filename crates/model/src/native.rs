//! How a protocol's usual client is told where to connect: which program, which variables, which
//! files.
//!
//! A protocol fills this in, the API hands it out, and the command line puts in what only its
//! side knows. A file is made of [`Piece`]s and no piece is a token: a token lies in no file.

use serde::{Deserialize, Serialize};

/// Where a listener is, and to which targets its clients are led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub port: u16,
    pub listener: Listener,
    pub lifetime: Lifetime,
    /// By name, each once. With exactly one, clients are led to it without naming it where their
    /// kind can do that.
    pub targets: Vec<ReachedTarget>,
}

impl Reach {
    /// The target of a listener that has only that one.
    #[must_use]
    pub fn listener_target(&self) -> Option<&ReachedTarget> {
        match self.listener {
            Listener::Shared => None,
            Listener::OfTarget => self.targets.first(),
        }
    }

    /// The target that a client of a shared listener has to name, when there is only one.
    #[must_use]
    pub fn named_target(&self) -> Option<&ReachedTarget> {
        match (self.listener, self.targets.as_slice()) {
            (Listener::Shared, [only]) => Some(only),
            (Listener::OfTarget, _) | (Listener::Shared, _) => None,
        }
    }
}

/// Whose listener it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Of all targets of the protocol: a client has to name its target.
    Shared,
    /// Of the one target.
    OfTarget,
}

/// How long what is written for the client has to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// As long as the process that wrote it, which keeps a key agent for it.
    #[default]
    Process,
    /// After that process; a credential is then renewed by the command line itself.
    Kept,
}

/// A target, as far as a client may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedTarget {
    pub name: String,
    /// As whom the gateway logs in there; empty where its credential says who it is.
    pub username: String,
}

/// The client that people of this protocol have installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeClient {
    /// The program, found on the path.
    pub program: String,
    /// What it is given before the arguments of whoever calls it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// What opens when nobody gave arguments.
    #[serde(default)]
    pub bare: Bare,
    /// Environment variables that it (and its kin) reads.
    pub variables: Vec<ClientVariable>,
    /// Files in a directory of the caller's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ClientFile>,
    /// It signs in with a key and a short-lived certificate, from an agent of the caller's side.
    #[serde(default)]
    pub uses_agent: bool,
    /// How it is led to a wrapper on its own machine instead, which tells processes apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalClient>,
}

/// How a client is led to sockets of a wrapper, which carries its bytes to the gateway unread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalClient {
    /// The name that the Unix socket has in [`Piece::Directory`], so that clients find it.
    pub socket: String,
    /// Whether a port of the loopback address stands beside it, for clients that know no Unix
    /// sockets.
    pub has_loopback: bool,
    /// The target of every connection; None where the client names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Besides those of the client; one of the same name takes its place.
    pub variables: Vec<ClientVariable>,
    /// The same for files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ClientFile>,
}

impl NativeClient {
    /// A program that is led by variables alone.
    #[must_use]
    pub fn of_variables(program: &str, variables: Vec<ClientVariable>) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            bare: Bare::Program,
            variables,
            files: Vec::new(),
            uses_agent: false,
            local: None,
        }
    }
}

/// What `connect` opens without arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bare {
    /// The program, which is then interactive.
    #[default]
    Program,
    /// The caller's shell, in which the program finds the target.
    Shell,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientVariable {
    pub name: String,
    pub value: VariableValue,
}

/// What a variable holds. What only the caller's side knows is named, not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableValue {
    Text(String),
    /// The host at which the caller reaches the gateway.
    Host,
    /// The token, as a password.
    Token,
    /// A file with the certificate authority of the gateway.
    CaFile,
    /// Free text that is kept as a claim: the name of the run or person.
    Claim,
    /// These, one after another.
    Pieces(Vec<Piece>),
}

impl ClientVariable {
    #[must_use]
    pub fn new(name: &str, value: VariableValue) -> Self {
        Self { name: name.to_owned(), value }
    }
}

/// A file of the client's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFile {
    /// Relative, below the directory: `config`, or `bin/NAME` for a program, which is found first
    /// on the path.
    pub name: String,
    pub kind: FileKind,
    pub pieces: Vec<Piece>,
}

/// Who may do what with a file. All of them are their owner's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Mode 0600.
    Text,
    /// Mode 0700.
    Program,
}

/// A part of a file or of a variable. Paths of [`Piece::Directory`] hold only letters, digits,
/// `/`, `.`, `_` and `-`, so that they need no quoting in any format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    Text(String),
    /// The host at which the caller reaches the listener; an IPv6 address without brackets.
    Host,
    /// The same as in a URL: an IPv6 address in brackets.
    UrlHost,
    /// `https://HOST:PORT` of the API, as the caller reaches it.
    Gateway,
    /// The directory with the files. Below it are also `ca.pem`, and `bin/corral`, the command
    /// line itself.
    Directory,
    /// The agent's socket, for a client that uses one.
    AgentSocket,
    /// The port of [`LocalClient::has_loopback`].
    LocalPort,
    /// The gateway's certificate authority, PEM, in base64.
    CaBase64,
    /// What the protocol publishes for whoever reaches its listener at [`Piece::Host`].
    Published,
}

impl Piece {
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_listener_needs_the_targets_name() {
        let target = |name: &str| ReachedTarget { name: name.into(), username: String::new() };
        let check = |listener: Listener, names: &[&str], expect: Option<&str>| {
            let targets = names.iter().map(|name| target(name)).collect();
            let reach = Reach { port: 1, listener, lifetime: Lifetime::Process, targets };
            assert_eq!(reach.named_target().map(|target| target.name.as_str()), expect);
        };
        check(Listener::Shared, &["a"], Some("a"));
        check(Listener::Shared, &["a", "b"], None);
        check(Listener::Shared, &[], None);
        check(Listener::OfTarget, &["a"], None);
    }

    #[test]
    fn a_client_of_variables_alone_reads_as_before() {
        let text = r#"{"program":"psql","variables":[{"name":"PGHOST","value":"host"}]}"#;
        let client: NativeClient = serde_json::from_str(text).expect("reads");
        let variables = vec![ClientVariable::new("PGHOST", VariableValue::Host)];
        assert_eq!(client, NativeClient::of_variables("psql", variables));
    }
}
