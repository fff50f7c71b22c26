//! What comes from a client: its login, then requests and data of its channels.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corral_gate::{Denial, DenialKind};
use corral_model::TraceParent;
use corral_model::event::StreamEnd;
use corral_session::{Authority, ConnectionFacts};
use russh::keys::ssh_key::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Pty, Sig};
use tokio::sync::watch;

use crate::bounds;
use crate::channel::{self, Ask, ClientChannel, Setup, Terminal};
use crate::forward::{self, Origin};
use crate::inbox::{Inboxes, Size, Word};
use crate::live::{self, Live, Shown};
use crate::options::Place;
use crate::unserved::{Recorded, Unserved};

/// What a client without a token reads. Programs that answer prompts look for the last word.
const PROMPT: &str = "Corral token as password: ";

/// Where programs that know W3C Trace Context are told their trace.
const TRACE_VARIABLE: &str = "TRACEPARENT";

/// The server's half of a connection with a client.
pub(crate) struct ClientSide {
    authority: Arc<dyn Authority>,
    facts: ConnectionFacts,
    /// Where whoever serves the connection learns that it was let in.
    entered: watch::Sender<Option<Arc<Live>>>,
    /// Whether a login was refused, which is in the record then.
    was_refused: Arc<AtomicBool>,
    live: Option<Arc<Live>>,
    inboxes: Arc<Inboxes>,
    /// Channels that were opened and not started.
    setups: HashMap<ChannelId, (ClientChannel, Setup)>,
    tokens_wrong: u32,
    /// What the client reads in front of the next refusal.
    banner: Option<String>,
    unserved: Recorded,
}

impl ClientSide {
    pub(crate) fn new(
        authority: Arc<dyn Authority>,
        facts: ConnectionFacts,
        entered: watch::Sender<Option<Arc<Live>>>,
        was_refused: Arc<AtomicBool>,
    ) -> Self {
        Self {
            authority,
            facts,
            entered,
            was_refused,
            live: None,
            inboxes: Arc::default(),
            setups: HashMap::new(),
            tokens_wrong: 0,
            banner: None,
            unserved: Recorded::default(),
        }
    }

    async fn log_in(&mut self, user: &str, shown: Shown<'_>) -> Auth {
        let authority = self.authority.clone();
        let inboxes = self.inboxes.clone();
        // Boxed, as the connection's task would keep room for a login for as long as it lives.
        let opening = Box::pin(live::open(authority.as_ref(), &self.facts, user, shown, inboxes));
        match opening.await {
            Ok(live) => {
                self.live = Some(live.clone());
                self.entered.send_replace(Some(live));
                Auth::Accept
            }
            Err(denial) => self.refuse(&denial),
        }
    }

    /// A wrong token may be a typing error; everything else stays as it is when asked again.
    fn refuse(&mut self, denial: &Denial) -> Auth {
        self.was_refused.store(true, Ordering::Relaxed);
        self.banner = Some(format!("{}\n", denial.sentence()));
        if denial.kind == DenialKind::Authentication {
            self.tokens_wrong += 1;
        } else {
            self.tokens_wrong = bounds::TOKENS_WRONG_MAX;
        }
        let methods = if self.tokens_wrong < bounds::TOKENS_WRONG_MAX {
            methods()
        } else {
            MethodSet::empty()
        };
        Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
    }

    /// Records what nobody is given. Before the login there is nothing to record it in.
    async fn unserved(&mut self, what: Unserved, place: &str) {
        if let Some(live) = &self.live {
            self.unserved.note(live, what, place).await;
        }
    }

    /// The session, where the connection may have one more channel.
    async fn with_room(&mut self) -> Option<Arc<Live>> {
        if self.inboxes.len() >= bounds::CHANNELS_MAX {
            self.unserved(Unserved::Channel, "").await;
            return None;
        }
        self.live.clone()
    }

    fn word(&self, channel: ChannelId, word: Word) -> Result<(), russh::Error> {
        self.inboxes.of(channel).push_word(word).map_err(|_| russh::Error::Inconsistent)
    }

    /// Starts what a channel was opened for. The client hears "yes" at once, and what becomes of
    /// it as text and exit status: an answer that waits would be overtaken by other requests.
    fn start(
        &mut self,
        id: ChannelId,
        ask: Ask,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(live), Some((client, setup))) = (&self.live, self.setups.remove(&id)) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let client = if setup.terminal.is_some() { client.with_terminal() } else { client };
        let place = live.channels.token();
        let owner = live.clone();
        let task = async move {
            channel::run(&owner, client, setup, ask).await;
            drop(place);
        };
        if let Err(denial) = live.session.spawn(task) {
            tracing::debug!(session = %live.session.id(), "too many tasks in a session");
            session.extended_data(id, 1, format!("{}\r\n", denial.sentence()))?;
            session.close(id)?;
        }
        Ok(())
    }
}

impl Drop for ClientSide {
    fn drop(&mut self) {
        self.inboxes.close_all();
    }
}

/// How a client may log in.
pub(crate) fn methods() -> MethodSet {
    let methods = [MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive];
    MethodSet::from(methods.as_slice())
}

impl Handler for ClientSide {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        if let Some(proof) = self.facts.shown.clone() {
            return Ok(self.log_in(user, Shown::Before(proof)).await);
        }
        Ok(Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false })
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(self.log_in(user, Shown::Token(password)).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let Some(mut answers) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![(PROMPT.into(), false)].into(),
            });
        };
        let answer = answers.next().unwrap_or_default();
        // A token is ASCII; what is not text is no token.
        let token = std::str::from_utf8(&answer).unwrap_or_default();
        Ok(self.log_in(user, Shown::Token(token)).await)
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // Whether it is a certificate is seen with the signature only.
        Ok(Auth::Accept)
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false })
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        Ok(self.log_in(user, Shown::Certificate(certificate)).await)
    }

    fn rejection_banner(&mut self) -> Option<String> {
        self.banner.take()
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.with_room().await.is_none() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        let client = ClientChannel::new(channel, session.handle(), self.inboxes.of(id));
        self.setups.insert(id, (client, Setup::default()));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        from_address: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(live) = self.with_room().await else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let id = channel.id();
        let client = ClientChannel::new(channel, session.handle(), self.inboxes.of(id));
        let place = Place { host: host.to_owned(), port };
        let origin = Origin { address: from_address.to_owned(), port: from_port };
        let task = live.channels.token();
        let owner = live.clone();
        let work = async move {
            forward::local(&owner, &place, &origin, client, reply).await;
            drop(task);
        };
        // A refused task drops the reply, which refuses the connection.
        if live.session.spawn(work).is_err() {
            self.inboxes.forget(id);
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.unserved(Unserved::SocketTo, path).await;
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.unserved(Unserved::SocketListen, path).await;
        Ok(false)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some(live) = self.live.clone() else { return Ok(false) };
        live.to_client.get_or_init(|| session.handle());
        match forward::listen(&live, address, *port).await {
            Ok(given) => {
                *port = given;
                Ok(true)
            }
            Err(denial) => {
                session.debug(true, &denial.sentence(), "")?;
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some(live) = self.live.clone() else { return Ok(false) };
        Ok(forward::unlisten(&live, address, port).await)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let pushed = self.inboxes.of(channel).push_bytes(StreamEnd::Client, data);
        pushed.map_err(|_| russh::Error::Inconsistent)
    }

    async fn extended_data(
        &mut self,
        _channel: ChannelId,
        _kind: u32,
        _data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // A client has no second stream (RFC 4254 section 5.2); nobody would give window back.
        Err(russh::Error::Inconsistent)
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Eof)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Close)?;
        self.setups.remove(&channel);
        self.inboxes.forget(channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width_px: u32,
        height_px: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((_, setup)) = self.setups.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        if term.len() > bounds::TERM_BYTES_MAX || term.contains(char::is_control) {
            return session.channel_failure(channel);
        }
        setup.terminal = Some(Terminal {
            term: term.to_owned(),
            size: Size { columns, rows, width_px, height_px },
            modes: modes.to_vec(),
        });
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.unserved(Unserved::X11, "").await;
        session.channel_failure(channel)
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.unserved(Unserved::Agent, "").await;
        Ok(false)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name == TRACE_VARIABLE
            && let Some((_, setup)) = self.setups.get_mut(&channel)
        {
            // The last one counts, as with every other variable; an invalid one says nothing.
            setup.traceparent = TraceParent::parse(value);
        }
        let may = self.live.as_ref().is_some_and(|live| live.options.lets_variable(name));
        let is_short = name.len().max(value.len()) <= bounds::VARIABLE_BYTES_MAX;
        match self.setups.get_mut(&channel) {
            Some((_, setup))
                if may && is_short && setup.variables.len() < bounds::VARIABLES_MAX =>
            {
                setup.variables.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            Some(_) | None => session.channel_failure(channel),
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Ask::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Ask::Exec(command.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Ask::Subsystem(name.to_owned()), session)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width_px: u32,
        height_px: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let size = Size { columns, rows, width_px, height_px };
        match self.setups.get_mut(&channel) {
            Some((_, setup)) => {
                if let Some(terminal) = &mut setup.terminal {
                    terminal.size = size;
                }
            }
            None => self.word(channel, Word::Resized(size))?,
        }
        session.channel_success(channel)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !self.setups.contains_key(&channel) {
            self.word(channel, Word::Signal(signal))?;
        }
        session.channel_success(channel)
    }
}
