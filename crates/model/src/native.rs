//! How a protocol's usual client is told where to connect: which program, which variables.
//!
//! A protocol fills this in, the API hands it out, and the command line puts its secrets in.

use serde::{Deserialize, Serialize};

/// Where a listener is, and what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub port: u16,
    /// What the client names as its database, to choose the target. None: the listener has one
    /// target, or the target is not chosen yet.
    pub database: Option<String>,
}

/// The client that people of this protocol have installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeClient {
    /// The program, found on the path.
    pub program: String,
    /// Environment variables that it (and its kin) reads.
    pub variables: Vec<ClientVariable>,
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
}

impl ClientVariable {
    #[must_use]
    pub fn new(name: &str, value: VariableValue) -> Self {
        Self { name: name.to_owned(), value }
    }
}
