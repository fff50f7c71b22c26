//! The life of one client's connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use corral_gate::{Denial, DenialKind};
use corral_model::event::CloseReason;
use corral_model::limits;
use corral_session::{Connection, End};
use corral_transport::Stream;
use russh::server::{Config, Handle, RunningSession, run_stream};
use russh::{Disconnect, SshId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::client_side::{ClientSide, methods};
use crate::live::Live;
use crate::{algorithms, bounds, keys};

/// How long a connection that was told to end may take to do so.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(1);

/// Serves one connection until it ends.
///
/// # Cancel safety
/// Dropping it closes the client's connection, and with it the session and the target's.
pub(crate) async fn serve(connection: Connection) {
    let Connection { stream, facts, authority, login } = connection;
    let deadline = Instant::now() + limits::LOGIN_DEADLINE;
    let key = match keys::own(authority.as_ref(), keys::HOST).await {
        Ok(key) => key,
        Err(denial) => {
            authority.refused(&facts, &denial.client_text);
            return;
        }
    };
    let config = Arc::new(config(key));
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    let (entered, mut entries) = watch::channel(None);
    let was_refused = Arc::new(AtomicBool::new(false));
    let side = ClientSide::new(authority.clone(), facts.clone(), entered, was_refused.clone());
    // One event for a client that was not let in: the refusal of its last login says more than
    // that its connection ended.
    let refused = |text: &str| {
        if !was_refused.load(Ordering::Relaxed) {
            authority.refused(&facts, text);
        }
    };
    let stream = Severable::new(stream, cut.clone());
    let mut running = match timeout_at(deadline, run_stream(config, stream, side)).await {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            tracing::debug!(client = %facts.client_address, %error, "connection ended");
            refused("the connection ended before the login");
            return;
        }
        Err(_) => {
            refused("nothing was sent before the login deadline");
            return;
        }
    };
    let entry =
        async { entries.wait_for(Option::is_some).await.ok().and_then(|live| live.clone()) };
    let live = tokio::select! {
        live = timeout_at(deadline, entry) => live,
        _ = &mut running => Ok(None),
    };
    match live {
        Ok(Some(live)) => {
            drop((login, entries));
            stay(running, live).await;
        }
        Ok(None) => refused("the connection ended before the login"),
        Err(_) => {
            refused("nobody logged in before the login deadline");
            say_goodbye(&running.handle(), "corral: the login took too long").await;
            let _ = timeout(GOODBYE, running).await;
        }
    }
}

fn config(key: russh::keys::PrivateKey) -> Config {
    Config {
        server_id: SshId::Standard("SSH-2.0-Corral".into()),
        methods: methods(),
        auth_rejection_time: bounds::REFUSAL_TIME,
        auth_rejection_time_initial: Some(std::time::Duration::ZERO),
        keys: vec![key],
        window_size: bounds::WINDOW_BYTES,
        maximum_packet_size: bounds::PACKET_BYTES,
        preferred: algorithms::for_clients(),
        max_auth_attempts: bounds::AUTH_ATTEMPTS_MAX,
        // The session has an idle limit of its own, which knows what waits for people.
        inactivity_timeout: None,
        keepalive_interval: Some(bounds::KEEP_ALIVE),
        keepalive_max: bounds::KEEP_ALIVES_MAX,
        window_by_consumer: true,
        packet_len_max: bounds::PACKET_LEN_MAX,
        ..Config::default()
    }
}

/// A connection with an open session.
async fn stay(mut running: RunningSession<ClientSide>, live: Arc<Live>) {
    let end: End = tokio::select! {
        ended = &mut running => {
            let is_lawful = ended.is_ok();
            if let Err(error) = ended {
                tracing::debug!(session = %live.session.id(), %error, "a client's connection ended");
            }
            let (reason, text) = if is_lawful {
                (CloseReason::Client, "the client left")
            } else {
                (CloseReason::Client, "the client's connection broke")
            };
            live.session.end(reason, Denial::new(DenialKind::Ended, text));
            live.channels.close();
            let _ = timeout(bounds::SESSION_FAREWELL, live.channels.wait()).await;
            return;
        }
        end = live.session.ended() => end,
    };
    // Every channel tells its client by itself.
    live.channels.close();
    let _ = timeout(bounds::SESSION_FAREWELL, live.channels.wait()).await;
    say_goodbye(&running.handle(), &end.denial.sentence()).await;
    drop(live);
    let _ = timeout(GOODBYE, running).await;
}

async fn say_goodbye(handle: &Handle, text: &str) {
    // A client that is gone hears nothing, and one that does not read is cut off by whoever asks.
    let words = handle.disconnect(Disconnect::ByApplication, text.to_owned(), String::new());
    let _ = timeout(GOODBYE, words).await;
}

/// A stream that can be ended from outside: the library runs it in a task of its own.
struct Severable {
    stream: Stream,
    /// One for each half: a task that only writes is woken too.
    cut_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Severable {
    fn new(stream: Stream, cut: CancellationToken) -> Self {
        let cut_reading = Box::pin(cut.clone().cancelled_owned());
        Self { stream, cut_reading, cut_writing: Box::pin(cut.cancelled_owned()) }
    }
}

fn severed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "ended by the gateway")
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut_reading.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(severed()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cut_writing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(severed()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut_writing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(severed()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut_writing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(severed()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_of_the_librarys_queues_stay_small() {
        // A queue keeps room for 32 of them, and an idle connection has six queues.
        assert!(size_of::<russh::server::Msg>() <= 160);
        assert!(size_of::<russh::client::Msg>() <= 160);
    }
}
