//! What the gateway serves: a protocol with the way it is driven.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corral_gate::{Denial, Framed, Protocol};
use corral_model::TokenDigest;
use corral_model::ids::TargetName;
use corral_transport::Stream;
use http_body_util::combinators::UnsyncBoxBody;

use crate::pending::LoginSlot;
use crate::renewal::CredentialRenewal;
use crate::scope::{Authority, BoxFuture, ConnectionFacts};

/// A protocol that the gateway can serve, by who moves its bytes.
#[derive(Clone)]
pub enum Service {
    /// The session loop drives a pure machine.
    Framed(Arc<dyn Framed>),
    /// A library owns each client's connection.
    Stream(Arc<dyn StreamEngine>),
    /// Requests of an HTTP server.
    Http(Arc<dyn HttpEngine>),
}

impl Service {
    #[must_use]
    pub fn protocol(&self) -> &dyn Protocol {
        match self {
            Self::Framed(protocol) => protocol.as_ref(),
            Self::Stream(engine) => engine.as_ref(),
            Self::Http(engine) => engine.as_ref(),
        }
    }

    /// How credentials of its targets are renewed; None where no target gives new ones.
    #[must_use]
    pub fn renewal(&self) -> Option<&dyn CredentialRenewal> {
        match self {
            Self::Framed(_) | Self::Stream(_) => None,
            Self::Http(engine) => engine.renewal(),
        }
    }
}

/// A client's connection that a [`StreamEngine`] serves.
pub struct Connection {
    pub stream: Stream,
    pub facts: ConnectionFacts,
    pub authority: Arc<dyn Authority>,
    /// To be dropped once the client has logged in: it holds a place among the logins.
    pub login: LoginSlot,
}

/// A protocol whose connections a library of its own reads and writes.
pub trait StreamEngine: Protocol {
    /// Serves one connection until it ends. What goes wrong is told to the client, to the record
    /// (through [`Authority::refused`] before a session is open) and to the log.
    ///
    /// # Cancel safety
    /// Dropping it closes the client's connection and every session that it opened.
    fn serve(&self, connection: Connection) -> BoxFuture<'_, ()>;

    /// Makes a short-lived credential of this protocol (a certificate) for whoever showed a
    /// token, from public material that their side made.
    ///
    /// # Errors
    /// A [`Denial`] when the material is not what the protocol takes (the caller is to blame), or
    /// the gateway's key cannot be read.
    fn issue<'a>(
        &'a self,
        authority: &'a dyn Authority,
        asked: &'a IssueRequest,
    ) -> BoxFuture<'a, Result<Issued, Denial>>;

    /// What clients must know to recognise the gateway, in the protocol's own form (known hosts),
    /// where `host` and `port` are how they reach it.
    ///
    /// # Errors
    /// A [`Denial`] when the gateway's key cannot be read.
    fn published<'a>(
        &'a self,
        authority: &'a dyn Authority,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<String, Denial>>;

    /// What targets must trust so that they take the credentials that this gateway makes itself,
    /// in the protocol's own form; None when it makes none.
    ///
    /// # Errors
    /// A [`Denial`] when the gateway's key cannot be read.
    fn trusted<'a>(
        &'a self,
        authority: &'a dyn Authority,
    ) -> BoxFuture<'a, Result<Option<String>, Denial>> {
        let _ = authority;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Shows how a target presents itself now (host keys), so that a person can pin it.
    ///
    /// # Errors
    /// A [`Denial`] of kind `TargetUnavailable` when it cannot be reached.
    fn inspect<'a>(
        &'a self,
        endpoint: &'a corral_transport::Endpoint,
    ) -> BoxFuture<'a, Result<Vec<String>, Denial>>;
}

/// For whom a credential is asked, and the public material.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// Of the token that was shown.
    pub token: TokenDigest,
    /// What the credential is named after: the run or the person.
    pub name: String,
    /// A public key in the protocol's own form.
    pub material: String,
    /// The credential never outlives this.
    pub ttl_max: Duration,
}

/// A short-lived credential.
#[derive(Debug, Clone)]
pub struct Issued {
    pub credential: String,
    pub ttl: Duration,
}

/// A body that streams, of a request or an answer.
pub type HttpBody = UnsyncBoxBody<Bytes, HttpBodyError>;
/// Why a body ended early.
pub type HttpBodyError = Box<dyn std::error::Error + Send + Sync>;

/// A protocol on HTTP.
pub trait HttpEngine: Protocol {
    /// Called for every connection of a client; what it keeps for the connection (its sessions)
    /// ends when the result is dropped.
    fn connect(&self, client: HttpClient) -> Arc<dyn HttpConnection>;

    /// See [`Service::renewal`].
    fn renewal(&self) -> Option<&dyn CredentialRenewal> {
        None
    }
}

/// A client's connection to an HTTP listener.
#[derive(Clone)]
pub struct HttpClient {
    pub facts: ConnectionFacts,
    pub authority: Arc<dyn Authority>,
}

/// One client's connection, as an [`HttpEngine`] keeps it. Requests of one connection may run at
/// once.
pub trait HttpConnection: Send + Sync {
    /// Answers a request. Its path is without the mount and the target. Never fails: refusals are
    /// answers. An upgraded connection is taken through `hyper::upgrade::on`.
    ///
    /// # Cancel safety
    /// Dropping it ends what the request does at the target.
    fn call(
        self: Arc<Self>,
        target: HttpTarget,
        request: http::Request<HttpBody>,
    ) -> BoxFuture<'static, http::Response<HttpBody>>;
}

/// What a listener found about the key that a request's token is bound to (RFC 9449), in the
/// request's extensions, where no client can put anything. Without it nothing was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Possession {
    /// The request proved the key of the token that its `Authorization` header shows with `DPoP`.
    Proven,
    /// It did not, for this reason, which is for the client.
    Refused(String),
}

/// Which target a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpTarget {
    /// The listener's own.
    OfListener(TargetName),
    /// As it stands in the path, unchecked.
    Named(String),
}

impl HttpTarget {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::OfListener(name) => name.as_str(),
            Self::Named(name) => name,
        }
    }
}
