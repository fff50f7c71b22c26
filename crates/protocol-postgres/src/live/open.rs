//! The end of a session's opening: the client is told once its names are known.

use corral_gate::Output;

use super::Live;
use super::task::Step;
use crate::codec::server::{put_authentication_ok, put_key_data, put_parameter_status, put_ready};
use crate::link::{Ending, Link};
use crate::target_login::unavailable;

/// A cancel key before version 3.2: the process id, and four bytes more.
const SHORT_KEY_BYTES: usize = 8;

impl Live {
    /// Names are known: the client is told that its session is open.
    pub(super) fn finish_open(&mut self, link: &mut Link) {
        let out = &mut link.buffers.client_out;
        put_authentication_ok(out);
        for (name, value) in std::mem::take(&mut self.facts.parameters) {
            put_parameter_status(out, &name, &value);
        }
        // The process id is the target's, for clients that compare or show it; the key is ours.
        let mut cancel_key = self.admission.cancel_secret.to_vec();
        if let Some((process, _)) = &self.facts.key {
            cancel_key.splice(..4, process.to_be_bytes());
        }
        if self.minor < 2 {
            cancel_key.truncate(SHORT_KEY_BYTES);
        }
        put_key_data(out, &cancel_key);
        put_ready(out, b'I');
        self.is_open = true;
        self.step = Step::Ready;
        // The questions made it longer than most sessions ever need.
        self.queue.shrink_to_fit();
        link.ask(Output::SessionOpened { cancel_key });
    }

    /// Whether the client was told that its session is open.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Why the session's opening failed, when the target gave up during it.
    pub(super) fn opening_failed(&self) -> Option<Ending> {
        (!self.is_open).then(|| unavailable("its catalogue cannot be read"))
    }
}
