//! What the target answered: checked against what was asked, told to the client, completed in the
//! record.

use bytes::Buf;
use corral_session::{Completion, Running};

use crate::sftp::bounds;
use crate::sftp::codec::{self, Builder, Reply, Status, frame_length, kind};
use crate::sftp::content::Way;
use crate::sftp::handles::{HandleId, Opening};
use crate::sftp::machine::{Fault, Machine, Order, Sent, Stage, Under};
use crate::sftp::plan::Awaited;

impl Machine {
    /// Does what can be done with the target's answers.
    pub(crate) fn handle_target(&mut self) {
        let mut input = std::mem::take(&mut self.buffers.target_in);
        while self.fault.is_none() && self.wants_target() {
            let length = match frame_length(&input) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(_) => {
                    self.fault = Some(Fault::Target("a packet of a wrong length"));
                    break;
                }
            };
            let packet = input.get(..length).unwrap_or_default();
            if let Err(what) = self.take_answer(packet) {
                self.fault = Some(Fault::Target(what));
            }
            input.advance(length);
        }
        self.buffers.target_in = input;
    }

    /// Takes one packet with its length field.
    fn take_answer(&mut self, packet: &[u8]) -> Result<(), &'static str> {
        let content = packet.get(codec::LENGTH_BYTES..).unwrap_or_default();
        let (id, reply) = Reply::read(content).map_err(|_| "an answer that cannot be read")?;
        let sent = match self.requests.remove(&id) {
            Some(Stage::Sent(sent)) => sent,
            Some(Stage::Waiting) | None => return Err("an answer to no request"),
        };
        let Sent { awaited, under } = sent;
        match under {
            Under::Own(running) => self.take_own(id, awaited, running, reply, packet),
            Under::Handle(handle) => self.take_of_handle(handle, &awaited, reply, packet),
        }
    }

    /// The answer to a request that was decided by itself.
    fn take_own(
        &mut self,
        id: u32,
        awaited: Awaited,
        running: Running,
        reply: Reply<'_>,
        packet: &[u8],
    ) -> Result<(), &'static str> {
        let mut names = 0;
        let status = match (awaited, reply) {
            (Awaited::Handle(opening), Reply::Handle(target)) => {
                return self.opened(id, opening, running, target);
            }
            (Awaited::Handle(_), Reply::Status(status)) if status != Status::OK => {
                self.opening -= 1;
                status
            }
            (Awaited::Copied(handle), Reply::Status(status)) => {
                if let Some(handle) = self.handles.get_mut(handle) {
                    handle.content.lose("copied by the target itself");
                }
                status
            }
            (Awaited::Names, Reply::Names { count, .. }) => {
                names = u64::from(count);
                Status::OK
            }
            (Awaited::Attributes, Reply::Attributes) | (Awaited::Extended, Reply::Extended(_)) => {
                Status::OK
            }
            (
                Awaited::Status | Awaited::Names | Awaited::Attributes | Awaited::Extended,
                Reply::Status(status),
            ) => status,
            (_, _) => return Err(WRONG_KIND),
        };
        self.pass(packet);
        let completion = Completion {
            code: status.0.to_string(),
            tag: Some(status.words().to_owned()),
            rows: names,
            ..Completion::default()
        };
        self.order(Order::Finish(running, completion));
        Ok(())
    }

    fn opened(
        &mut self,
        id: u32,
        opening: Opening,
        running: Running,
        target: &[u8],
    ) -> Result<(), &'static str> {
        self.opening -= 1;
        if target.len() > bounds::HANDLE_BYTES_MAX {
            return Err("a handle that is too long");
        }
        let handle = self.handles.insert(target, opening, running);
        let answer = Builder::new(kind::HANDLE, id).string(&handle.bytes()).into_packet();
        self.buffers.client_out.extend_from_slice(&answer);
        Ok(())
    }

    /// The answer to a request under a handle's permit.
    fn take_of_handle(
        &mut self,
        id: HandleId,
        awaited: &Awaited,
        reply: Reply<'_>,
        packet: &[u8],
    ) -> Result<(), &'static str> {
        let handle = self.handles.get_mut(id).ok_or("an answer for a closed handle")?;
        handle.in_flight -= 1;
        match (awaited, reply) {
            (Awaited::Data { offset, length }, Reply::Data(data)) => {
                if u32::try_from(data.len()).is_ok_and(|count| count <= *length) {
                    handle.content.passed(Way::Read, *offset, data);
                } else {
                    return Err("more content than was asked for");
                }
            }
            (Awaited::Written, Reply::Status(status)) => {
                if status != Status::OK {
                    handle.content.lose("the target refused a part");
                }
            }
            (Awaited::Closed, Reply::Status(status)) => handle.closed = Some(status),
            (Awaited::Entries, Reply::Names { count, .. }) => handle.names += u64::from(count),
            (Awaited::Attributes, Reply::Attributes)
            | (Awaited::Extended, Reply::Extended(_))
            | (
                Awaited::Status
                | Awaited::Attributes
                | Awaited::Extended
                | Awaited::Entries
                | Awaited::Data { .. },
                Reply::Status(_),
            ) => {}
            (_, _) => return Err(WRONG_KIND),
        }
        self.pass(packet);
        self.finish_closed(id);
        Ok(())
    }

    /// A handle is done when the target closed it and owes no answer for it.
    fn finish_closed(&mut self, id: HandleId) {
        let Some(handle) = self.handles.get_mut(id) else { return };
        let Some(status) = handle.closed.filter(|_| handle.in_flight == 0) else { return };
        let Some(handle) = self.handles.remove(id) else { return };
        let how = if status == Status::OK { "" } else { "; closed with an error" };
        self.complete_handle(handle, status.0.to_string(), how);
    }

    fn pass(&mut self, packet: &[u8]) {
        self.buffers.client_out.extend_from_slice(packet);
    }
}

const WRONG_KIND: &str = "an answer of another kind than was asked for";
