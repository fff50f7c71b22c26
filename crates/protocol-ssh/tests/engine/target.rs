//! A target: takes one password, runs three commands, and counts what it sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, run_stream};
use russh::{Channel, ChannelId};
use tokio::net::TcpListener;

/// Bytes of one write of the command `flood`.
const PIECE: usize = 32 * 1024;

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) passwords: AtomicU64,
    pub(crate) channels: AtomicU64,
    /// Bytes of `flood` that found room.
    pub(crate) flooded: AtomicU64,
}

pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) key: PublicKey,
    pub(crate) seen: Arc<Seen>,
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32]));
    PrivateKey::new(pair, "").expect("a key")
}

impl Target {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Seen::default());
        let own = key(9);
        let public = own.public_key().clone();
        let config = Arc::new(Config { keys: vec![own], ..Config::default() });
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let host = Host { seen: counted.clone(), channel: None };
                if let Ok(running) = run_stream(config.clone(), stream, host).await {
                    tokio::spawn(running);
                }
            }
        });
        Self { port, key: public, seen }
    }
}

struct Host {
    seen: Arc<Seen>,
    channel: Option<Channel<Msg>>,
}

impl Handler for Host {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.seen.passwords.fetch_add(1, Ordering::Relaxed);
        Ok(if (user, password) == ("deploy", "hunter2") { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.channels.fetch_add(1, Ordering::Relaxed);
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(id)?;
        let Some(channel) = self.channel.take() else { return Ok(()) };
        let seen = self.seen.clone();
        let command = command.to_vec();
        tokio::spawn(async move {
            let (_, write) = channel.split();
            match command.as_slice() {
                b"flood" => {
                    while write.data_bytes(vec![b'x'; PIECE]).await.is_ok() {
                        seen.flooded.fetch_add(PIECE as u64, Ordering::Relaxed);
                    }
                }
                b"tell" => {
                    let _ = write.data_bytes(&b"my password is hun"[..]).await;
                    let _ = write.data_bytes(&b"ter2\n"[..]).await;
                    let _ = write.exit_status(3).await;
                    let _ = write.close().await;
                }
                _ => {
                    let _ = write.exit_status(0).await;
                    let _ = write.close().await;
                }
            }
        });
        Ok(())
    }
}
