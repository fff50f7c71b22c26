//! What comes from a target, put into the inboxes of its channels.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_model::event::{CloseReason, StreamEnd};
use corral_session::SessionHandle;
use russh::client::{self, DisconnectReason, Handler};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Sig};

use crate::bounds;
use crate::forward::{self, Origin};
use crate::inbox::{Inbox, Inboxes, Word};
use crate::live::Owner;
use crate::options::Place;
use crate::target::{HostKey, HostKeyVerdict, lock};

/// SSH_EXTENDED_DATA_STDERR (RFC 4254 section 5.2).
const STDERR: u32 = 1;

/// The client's half of a connection with a target.
pub(crate) struct TargetSide {
    pinned: Vec<PublicKey>,
    verdict: HostKeyVerdict,
    /// None while a person only looks at the host key.
    belongs: Option<Belongs>,
}

/// The session that a connection with a target belongs to.
pub(crate) struct Belongs {
    pub(crate) session: SessionHandle,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) owner: Owner,
}

impl TargetSide {
    pub(crate) fn new(
        pinned: Vec<PublicKey>,
        verdict: HostKeyVerdict,
        belongs: Option<Belongs>,
    ) -> Self {
        Self { pinned, verdict, belongs }
    }

    fn inbox(&self, channel: ChannelId) -> Result<Arc<Inbox>, russh::Error> {
        let belongs = self.belongs.as_ref().ok_or(russh::Error::Inconsistent)?;
        Ok(belongs.inboxes.of(channel))
    }

    fn bytes(&self, channel: ChannelId, from: StreamEnd, data: &[u8]) -> Result<(), russh::Error> {
        let pushed = self.inbox(channel)?.push_bytes(from, data);
        pushed.map_err(|_| russh::Error::Inconsistent)
    }

    fn word(&self, channel: ChannelId, word: Word) -> Result<(), russh::Error> {
        self.inbox(channel)?.push_word(word).map_err(|_| russh::Error::Inconsistent)
    }
}

impl Drop for TargetSide {
    fn drop(&mut self) {
        if let Some(Belongs { session, inboxes, .. }) = &self.belongs {
            inboxes.close_all();
            let text = "the target closed the connection";
            session.end(CloseReason::Target, Denial::new(DenialKind::TargetUnavailable, text));
        }
    }
}

impl Handler for TargetSide {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let key = shown.public_key();
        let is_pinned = self.pinned.iter().any(|pin| pin.key_data() == key.key_data());
        *lock(&self.verdict) = if is_pinned { HostKey::Pinned(key) } else { HostKey::Other(key) };
        Ok(is_pinned)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.bytes(channel, StreamEnd::Target, data)
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        kind: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        if kind != STDERR {
            // Nothing else is defined; nobody would give its window back.
            return Err(russh::Error::Inconsistent);
        }
        self.bytes(channel, StreamEnd::TargetError, data)
    }

    async fn channel_success(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Success)
    }

    async fn channel_failure(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Failure)
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Eof)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Close)
    }

    async fn exit_status(
        &mut self,
        channel: ChannelId,
        status: u32,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Exited(status))
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        has_core: bool,
        message: &str,
        _language: &str,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.word(channel, Word::Killed { signal, has_core, message: message.to_owned() })
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        address: &str,
        port: u32,
        from_address: &str,
        from_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let owner = self.belongs.as_ref().and_then(|belongs| belongs.owner.get()?.upgrade());
        let Some(live) = owner.filter(|live| live.listens.has(address, port)) else {
            return refuse(reply).await;
        };
        let Some(to_client) = live.to_client.get().cloned() else { return refuse(reply).await };
        if live.from_target.len() >= bounds::CHANNELS_MAX {
            return refuse(reply).await;
        }
        let place = Place { host: address.to_owned(), port };
        let origin = Origin { address: from_address.to_owned(), port: from_port };
        let task = live.channels.token();
        let owner = live.clone();
        let work = async move {
            forward::remote(&owner, &to_client, &place, &origin, channel, reply).await;
            drop(task);
        };
        // A refused task drops the reply, which refuses the connection.
        let _ = live.session.spawn(work);
        Ok(())
    }

    // A target opens nothing that was not asked for: the library's own answer would be yes.

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<client::Msg>,
        _host: &str,
        _port: u32,
        _from_address: &str,
        _from_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<client::Msg>,
        _from_address: &str,
        _from_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => {}
            DisconnectReason::Error(error) => {
                tracing::debug!(%error, "a connection with a target ended");
            }
        }
        Ok(())
    }
}

async fn refuse(reply: client::ChannelOpenHandle) -> Result<(), russh::Error> {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}
