//! Takes an accepted connection to the start of its session.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use corral_gate::Framed;
use corral_gate::machine::Start;
use corral_model::ids::TargetName;
use corral_model::limits;
use corral_transport::{Accepted, ServerTls, Stream};

use crate::analysts::Analysts;
use crate::dials::Dials;
use crate::drive::Driver;
use crate::http;
use crate::pending::{LoginSlot, Pending};
use crate::scope::{Authority, BoxFuture, ConnectionFacts};
use crate::service::{Connection, HttpClient, Service};

/// First byte of a TLS handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves one protocol; shared by all its listeners.
pub struct Server {
    service: Service,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) analysts: Analysts,
    pub(crate) tls: Option<ServerTls>,
    /// Connections that have not logged in yet.
    logins: Pending,
    pub(crate) dials: Dials,
}

impl Server {
    #[must_use]
    pub fn new(
        service: Service,
        authority: Arc<dyn Authority>,
        analysts: Analysts,
        tls: Option<ServerTls>,
    ) -> Self {
        let (logins, dials) = (Pending::new(), Dials::new());
        Self { service, authority, analysts, tls, logins, dials }
    }

    /// Serves one connection until it ends. Never fails: what goes wrong is told to the client,
    /// to the record and to the log.
    ///
    /// # Cancel safety
    /// Dropping it closes both connections; the session's scope releases everything.
    pub fn serve(
        self: Arc<Self>,
        accepted: Accepted,
        listener_target: Option<TargetName>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let Accepted { stream, client_ip, client_address } = accepted;
        let facts = ConnectionFacts {
            client_ip,
            client_address,
            is_tls: false,
            listener_target,
            protocol: self.protocol(),
            shown: None,
        };
        // In a box: what is moved on is not also kept in the task.
        let coming = Box::new((stream, facts));
        async move {
            let slot = match self.logins.take().await {
                Ok(slot) => slot,
                Err(why) => return self.authority.refused(&coming.1, &why.to_string()),
            };
            let login = slot.login();
            self.logins.in_turns(login, Box::pin(self.session(coming, slot))).await;
        }
    }

    /// The way to the session, and the session.
    async fn session(&self, coming: Box<(Stream, ConnectionFacts)>, slot: LoginSlot) {
        // In a box, which is gone when the session starts.
        let started = Box::pin(async {
            let (stream, mut facts) = *coming;
            let direct = self.accept_direct_tls(stream, &mut facts);
            match tokio::time::timeout(limits::LOGIN_DEADLINE, direct).await {
                Ok(Ok(stream)) => return Some(self.start(stream, facts, slot)),
                Ok(Err(error)) => {
                    tracing::debug!(client = %facts.client_address, %error, "connection ended");
                    self.authority.refused(&facts, "the connection ended before the login");
                }
                Err(_) => {
                    self.authority.refused(&facts, "nothing was sent before the login deadline");
                }
            }
            None
        });
        if let Some(session) = started.await {
            session.await;
        }
    }

    /// Serves a connection that was handed over with its login already shown, in
    /// [`ConnectionFacts::shown`]. Its way here was encrypted: the protocol starts no TLS in it.
    ///
    /// # Cancel safety
    /// As [`Server::serve`].
    pub async fn serve_shown(&self, stream: Stream, facts: ConnectionFacts) {
        match self.logins.take().await {
            Ok(slot) => self.start(stream, facts, slot).await,
            Err(why) => self.authority.refused(&facts, &why.to_string()),
        }
    }

    /// Records that a connection which was to be handed over did not come.
    pub fn not_handed_over(&self, facts: &ConnectionFacts) {
        self.authority.refused(facts, "the connection ended while it was handed over");
    }

    /// The id of the protocol that it serves.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        self.service.protocol().spec().id
    }

    /// Whether its clients have connections of their own, which can be handed over; those of a
    /// protocol on HTTP send requests.
    #[must_use]
    pub fn takes_connections(&self) -> bool {
        match self.service {
            Service::Framed(_) | Service::Stream(_) => true,
            Service::Http(_) => false,
        }
    }

    /// Accepts TLS at once when the client starts with it and the protocol has that.
    async fn accept_direct_tls(
        &self,
        stream: Stream,
        facts: &mut ConnectionFacts,
    ) -> io::Result<Stream> {
        let spec = self.service.protocol().spec();
        let Some(tls) = self.tls.as_ref().filter(|_| spec.has_direct_tls) else {
            return Ok(stream);
        };
        if stream.peek_first_byte().await? != Some(TLS_HANDSHAKE) {
            return Ok(stream);
        }
        let plain = stream.into_plain().map_err(|_| io::Error::other("TLS already"))?;
        let stream = tls.accept(plain).await?;
        let agreed = stream.client_alpn();
        let is_agreed = spec.alpn.iter().any(|name| Some(name.as_bytes()) == agreed);
        // A client that starts with TLS must name the protocol, so that a request meant for
        // another one (a browser's) cannot be passed off as this one. HTTP/1.1 needs no name.
        let needs_name = match self.service {
            Service::Framed(_) | Service::Stream(_) => !spec.alpn.is_empty(),
            Service::Http(_) => agreed.is_some(),
        };
        if !is_agreed && needs_name {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "direct TLS without ALPN"));
        }
        facts.is_tls = true;
        Ok(stream)
    }

    /// The session that begins here. In a box, so that it has no room for the way to it.
    fn start(&self, stream: Stream, facts: ConnectionFacts, login: LoginSlot) -> BoxFuture<'_, ()> {
        let authority = self.authority.clone();
        match &self.service {
            Service::Framed(protocol) => {
                Box::pin(self.driver(protocol.as_ref(), stream, facts, login).run())
            }
            Service::Stream(engine) => engine.serve(Connection { stream, facts, authority, login }),
            Service::Http(engine) => {
                if !facts.is_tls {
                    self.authority.refused(&facts, "this listener takes TLS only");
                    return Box::pin(std::future::ready(()));
                }
                // Requests log in one by one; a silent connection is ended by the HTTP server.
                drop(login);
                let target = facts.listener_target.clone();
                let connection = engine.connect(HttpClient { facts, authority });
                Box::pin(http::serve(stream, target, connection))
            }
        }
    }

    fn driver(
        &self,
        protocol: &dyn Framed,
        stream: Stream,
        facts: ConnectionFacts,
        login: LoginSlot,
    ) -> Box<Driver<'_>> {
        let start = Start {
            now: Instant::now(),
            is_local: facts.client_ip.is_none_or(|ip| ip.is_loopback()),
            is_tls: facts.is_tls,
            can_tls: self.tls.is_some() && !facts.is_tls,
            target: facts.listener_target.clone(),
            shown: facts.shown.clone(),
        };
        let machine = protocol.accept(start);
        Driver::new(self, machine, stream, facts, login)
    }
}
