//! COPY … FROM STDIN: the client's stream, under the permit of its statement.

use super::Live;
use super::client::front;
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
}

impl Live {
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

    fn forward_copy(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let frame =
            link.buffers.client_in.split_to(head.frame_len.min(link.buffers.client_in.len()));
        let Some(running) = self.queue.front().and_then(|pending| pending.running()) else {
            return Err(Ending::client_fault("COPY data without a COPY"));
        };
        link.buffers.target_out.push(&running.permit, &frame);
        Ok(())
    }
}
