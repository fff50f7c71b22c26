//! COPY … FROM STDIN: the client's stream, under the permit of its statement.

use corral_gate::Harmless;

use super::Live;
use super::client::front;
use crate::analysis::StatementKind;
use crate::codec::Head;
use crate::codec::client::decode_empty;
use crate::link::{Ending, Link};

/// Where a COPY from the client stands.
#[derive(Debug, Default)]
pub(super) struct CopyIn {
    /// A COPY was sent and not answered: what follows may be its data, or not.
    pub(super) is_awaited: bool,
    /// The target takes data.
    pub(super) is_active: bool,
    /// Bytes that the target still has to get of a message whose head it has got.
    pub(super) owed: usize,
}

impl Live {
    /// Whether a COPY from the client is on its way, or at the target.
    pub(super) fn awaits_copy(&self) -> bool {
        let mut running = self.queue.iter().filter_map(|pending| pending.running());
        running.any(|one| one.analysis.kinds.contains(&StatementKind::CopyIn))
    }

    /// One message of the client while the target takes data.
    pub(super) fn read_copy_message(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        match head.tag {
            b'd' => self.forward_copy(head, link),
            b'c' | b'f' => {
                if head.tag == b'c' {
                    decode_empty(front(link, head)).map_err(Ending::client_fault)?;
                }
                self.copy.is_active = false;
                // A Query may hold another COPY behind this one.
                self.copy.is_awaited = self
                    .queue
                    .front()
                    .is_some_and(|pending| matches!(pending, super::Pending::Query { .. }));
                self.forward_copy(head, link)
            }
            // The target ignores them here, so that they have no answer.
            b'S' | b'H' => {
                self.drop_front(head.frame_len, link);
                Ok(())
            }
            tag => Err(Ending::client_fault(format_args!(
                "message type 0x{tag:02X} is not allowed during COPY from the client"
            ))),
        }
    }

    /// Sends what has arrived of a large message of data, which is held as a whole nowhere.
    pub(super) fn begin_long_copy(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        self.copy.owed = head.frame_len;
        self.pass_copy(link)
    }

    /// Sends the target what it is owed of a message, as far as it has arrived.
    pub(super) fn pass_copy(&mut self, link: &mut Link) -> Result<(), Ending> {
        let count = self.copy.owed.min(link.buffers.client_in.len());
        let bytes = link.buffers.client_in.split_to(count);
        self.copy.owed -= count;
        match self.queue.front().and_then(|pending| pending.running()) {
            Some(running) if self.copy.is_active => {
                link.buffers.target_out.push(&running.permit, &bytes);
            }
            // The target has given the COPY up. It takes the rest of the message, and ignores it.
            _ => link.buffers.target_out.push_harmless(Harmless::Control, &vec![0; count]),
        }
        Ok(())
    }

    fn forward_copy(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let Some(running) = self.queue.front().and_then(|pending| pending.running()) else {
            return Err(Ending::client_fault("COPY data without a COPY"));
        };
        link.send_permitted(&running.permit, head.frame_len);
        Ok(())
    }
}
