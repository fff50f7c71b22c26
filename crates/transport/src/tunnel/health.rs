//! Whether the other end is still there.

use std::future::poll_fn;

use corral_model::limits;
use h2::{Ping, PingPong};
use tokio::time::{Instant, sleep_until};

/// Asks the other end every [`limits::RELAY_PING_INTERVAL`].
pub(super) struct Health {
    pings: Option<PingPong>,
    heard_at: Instant,
    is_asked: bool,
}

impl Health {
    pub(super) fn new(pings: Option<PingPong>) -> Self {
        Self { pings, heard_at: Instant::now(), is_asked: false }
    }

    /// Returns when nothing was heard for [`limits::RELAY_LEASE`].
    ///
    /// # Cancel safety
    /// Goes on where it was.
    pub(super) async fn lost(&mut self) {
        let Some(pings) = &mut self.pings else {
            // Nobody else takes it; without it there is no way to notice.
            return;
        };
        loop {
            if !self.is_asked {
                sleep_until(self.heard_at + limits::RELAY_PING_INTERVAL).await;
                if pings.send_ping(Ping::opaque()).is_err() {
                    return;
                }
                self.is_asked = true;
            }
            tokio::select! {
                pong = poll_fn(|cx| pings.poll_pong(cx)) => match pong {
                    Ok(_) => {
                        self.heard_at = Instant::now();
                        self.is_asked = false;
                    }
                    Err(_) => return,
                },
                () = sleep_until(self.heard_at + limits::RELAY_LEASE) => return,
            }
        }
    }
}
