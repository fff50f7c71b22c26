//! One SFTP channel without its streams: takes what both sides sent and what was decided, gives
//! bytes to send and orders for its session. Knows no socket and does not wait.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Buf;
use corral_gate::Buffers;
use corral_gate::decision::{Denial, DenialKind};
use corral_model::event::EventBody;
use corral_model::limits;
use corral_session::{Answer, Completion, Draft, Running, Waiting};

use crate::sftp::bounds;
use crate::sftp::codec::{self, Builder, FrameError, Request, Status, frame_length, kind};
use crate::sftp::content::Way;
use crate::sftp::handles::{HandleId, HandleKind, Handles, OpenHandle};
use crate::sftp::path::{AbsolutePath, quoted};
use crate::sftp::plan::{Awaited, Planned, Planner, Refused, TargetFacts, Use};
use crate::sftp::statement::{self, LIMITS, SFTP};

/// What the session is asked for.
pub(crate) enum Order {
    /// To be answered by [`Machine::answered`] before the machine asks again.
    Decide(Draft),
    /// To be waited for, and given back by [`Machine::resolved`] with the same number.
    Wait {
        arrival: u64,
        waiting: Waiting,
    },
    Finish(Running, Completion),
    Note(EventBody),
    /// For the client's person, beside the protocol.
    Tell(String),
}

/// Why a channel cannot go on.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The client broke the protocol; it was recorded.
    Client(Denial),
    /// The target did.
    Target(&'static str),
}

/// By whose permit a request was sent.
#[derive(Debug)]
pub(crate) enum Under {
    Own(Running),
    Handle(HandleId),
}

/// A request that was sent to the target.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) awaited: Awaited,
    pub(crate) under: Under,
}

/// Where a request without an answer is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Here.
    Waiting,
    Sent(Sent),
}

/// A request that goes to the target when it is permitted.
struct Plan {
    id: u32,
    arrival: u64,
    subjects: Vec<Subject>,
    packet: Vec<u8>,
    awaited: Awaited,
}

/// A question that the session has not answered.
enum Asked {
    Plan(Plan),
    Refusal { id: Option<u32>, status: Status, ends_channel: bool },
}

/// A request that waits.
enum Parked {
    /// For people.
    Held(Plan),
    /// Behind one that it must not overtake.
    Behind { packet: Vec<u8>, subjects: Vec<Subject> },
}

/// What a request is about, so that requests about one thing keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Path { path: AbsolutePath, is_changed: bool },
    Handle(HandleId),
}

impl Subject {
    /// Whether a later request about `self` must wait for an earlier one about `earlier`.
    fn must_follow(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Handle(handle), Self::Handle(earlier)) => handle == earlier,
            (Self::Path { path, is_changed }, Self::Path { path: earlier, .. }) => {
                path.is_within(earlier) || (*is_changed && earlier.is_within(path))
            }
            (Self::Handle(_), Self::Path { .. }) | (Self::Path { .. }, Self::Handle(_)) => false,
        }
    }
}

/// The state of one channel.
pub(crate) struct Machine {
    pub(crate) buffers: Buffers,
    target: TargetFacts,
    has_version: bool,
    pub(crate) handles: Handles,
    /// Requests without an answer.
    pub(crate) requests: HashMap<u32, Stage>,
    asked: Option<Asked>,
    /// By arrival.
    parked: BTreeMap<u64, Parked>,
    parked_bytes: usize,
    arrivals: u64,
    /// Something that others may wait behind has gone.
    is_unblocked: bool,
    pub(crate) opening: usize,
    orders: VecDeque<Order>,
    faults: u32,
    lines_told: u32,
    head: Builder,
    pub(crate) fault: Option<Fault>,
}

impl Machine {
    pub(crate) fn new(target: TargetFacts) -> Self {
        Self {
            buffers: Buffers::default(),
            target,
            has_version: false,
            handles: Handles::default(),
            requests: HashMap::new(),
            asked: None,
            parked: BTreeMap::new(),
            parked_bytes: 0,
            arrivals: 0,
            is_unblocked: false,
            opening: 0,
            orders: VecDeque::new(),
            faults: 0,
            lines_told: 0,
            head: Builder::default(),
            fault: None,
        }
    }

    pub(crate) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// Whether more of the client's bytes can be taken.
    pub(crate) fn wants_client(&self) -> bool {
        self.buffers.client_in.len() < bounds::PACKET_BYTES_MAX + codec::LENGTH_BYTES
    }

    /// Whether more of the target's bytes can be taken.
    pub(crate) fn wants_target(&self) -> bool {
        self.buffers.client_out.len() < limits::WRITE_BUFFER_BYTES_HIGH
    }

    /// Whether all that the client sent is on its way.
    pub(crate) fn is_drained(&self) -> bool {
        let has_packet = matches!(frame_length(&self.buffers.client_in), Ok(Some(_)));
        self.asked.is_none() && self.buffers.target_out.is_empty() && !has_packet
    }

    /// Gives the memory of transfers back when there are none.
    pub(crate) fn shrink_idle(&mut self) {
        if self.requests.is_empty() && self.handles.len() == 0 {
            self.buffers.shrink_idle();
        }
    }

    fn can_take_request(&self) -> bool {
        self.asked.is_none()
            && self.fault.is_none()
            && self.requests.len() < bounds::REQUESTS_MAX
            && self.parked_bytes < bounds::WAITING_BYTES_MAX
            && self.buffers.target_out.len() < limits::WRITE_BUFFER_BYTES_HIGH
    }

    /// Does what can be done with the client's requests.
    pub(crate) fn handle_client(&mut self) {
        while self.is_unblocked && self.asked.is_none() && self.fault.is_none() {
            self.take_unblocked();
        }
        let mut input = std::mem::take(&mut self.buffers.client_in);
        while self.can_take_request() {
            match frame_length(&input) {
                Ok(Some(length)) => {
                    let packet = input.get(codec::LENGTH_BYTES..length).unwrap_or_default();
                    self.take_packet(packet);
                    input.advance(length);
                }
                Ok(None) => break,
                Err(error) => self.refuse_frame(&error),
            }
        }
        self.buffers.client_in = input;
    }

    fn take_packet(&mut self, packet: &[u8]) {
        if !self.has_version {
            return self.start(packet);
        }
        let Ok((id, request)) = Request::read(packet) else {
            return self.refuse_channel("packet without an id", "a packet is too short");
        };
        if self.requests.insert(id, Stage::Waiting).is_some() {
            let reason = "a request has the number of one that has no answer yet";
            return self.refuse_channel("request with a number in use", reason);
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        let planned = self.planner().plan(id, &request);
        if !self.parked.is_empty() {
            let subjects = subjects_of(&planned);
            if self.must_wait(arrival, &subjects) {
                self.park_behind(arrival, packet.to_vec(), subjects);
                return;
            }
        }
        self.perform(id, arrival, planned);
    }

    fn planner(&self) -> Planner<'_> {
        Planner { target: &self.target, handles: &self.handles, opening: self.opening }
    }

    /// The client's INIT: it is told what both sides know.
    fn start(&mut self, packet: &[u8]) {
        match Request::read_init(packet) {
            Ok(version) if version >= codec::VERSION => {}
            Ok(_) => {
                let reason = "SFTP is spoken here from version 3 on";
                return self.refuse_channel("init with an old version", reason);
            }
            Err(_) => {
                let reason = "the first packet must be SSH_FXP_INIT";
                return self.refuse_channel("no init", reason);
            }
        }
        self.has_version = true;
        let answer = Builder::new(kind::VERSION, codec::VERSION);
        let answer = self
            .target
            .extensions
            .iter()
            .fold(answer, |answer, (name, data)| {
                answer.string(name.as_bytes()).string(data.as_bytes())
            })
            .into_packet();
        self.buffers.client_out.extend_from_slice(&answer);
    }

    fn perform(&mut self, id: u32, arrival: u64, planned: Planned<'_>) {
        match planned {
            Planned::Use(handle, used) => self.use_handle(id, handle, used),
            Planned::Decide { ref operation, .. } => {
                let draft = operation.draft(&self.target.account);
                let subjects = subjects_of(&planned);
                if let Planned::Decide { packet, awaited, .. } = planned {
                    let plan = Plan { id, arrival, subjects, packet, awaited };
                    self.opening += usize::from(matches!(plan.awaited, Awaited::Handle(_)));
                    self.ask(draft, Asked::Plan(plan));
                }
            }
            Planned::Answer(answer) => {
                self.requests.remove(&id);
                self.buffers.client_out.extend_from_slice(&answer);
            }
            Planned::Refuse(refused) => self.refuse(id, &refused),
        }
    }

    fn ask(&mut self, draft: Draft, asked: Asked) {
        self.asked = Some(asked);
        self.order(Order::Decide(draft));
    }

    /// A request that cannot be permitted is recorded before it is answered.
    fn refuse(&mut self, id: u32, refused: &Refused) {
        self.faults += 1;
        let ends_channel = self.faults > bounds::FAULTS_MAX;
        let draft = statement::refused(&refused.statement, refused.rule, &refused.reason);
        self.ask(draft, Asked::Refusal { id: Some(id), status: refused.status, ends_channel });
    }

    fn refuse_frame(&mut self, error: &FrameError) {
        let rule = match error {
            FrameError::Empty => SFTP,
            FrameError::TooLarge { .. } => LIMITS,
        };
        self.end_channel("packet with a wrong length", rule, &error.to_string());
    }

    fn refuse_channel(&mut self, statement: &str, reason: &str) {
        self.end_channel(statement, SFTP, reason);
    }

    fn end_channel(&mut self, statement: &str, rule: &'static str, reason: &str) {
        let draft = statement::refused(statement, rule, reason);
        let asked = Asked::Refusal { id: None, status: Status::FAILURE, ends_channel: true };
        self.ask(draft, asked);
    }

    /// What the session said to the last [`Order::Decide`].
    pub(crate) fn answered(&mut self, answer: Answer) {
        match (self.asked.take(), answer) {
            (Some(Asked::Plan(plan)), Answer::Allow(running)) => self.send(plan, running),
            (Some(Asked::Plan(plan)), Answer::Deny(denial)) => self.deny(plan, &denial),
            (Some(Asked::Plan(plan)), Answer::Hold(waiting)) => {
                self.tell_person(format!("corral: {}", waiting.notice));
                self.order(Order::Wait { arrival: plan.arrival, waiting });
                self.parked.insert(plan.arrival, Parked::Held(plan));
            }
            (Some(Asked::Refusal { id, status, ends_channel }), answer) => {
                let denial = match answer {
                    Answer::Deny(denial) => denial,
                    // Nothing is sent for what cannot be permitted, whoever permits it.
                    Answer::Allow(_) | Answer::Hold(_) => {
                        Denial::new(DenialKind::Protocol, "this cannot be asked of SFTP here")
                    }
                };
                if let Some(id) = id {
                    self.tell_status(id, status, &denial.sentence());
                    self.tell_person(denial.sentence());
                }
                if ends_channel {
                    self.fault = Some(Fault::Client(denial));
                }
            }
            (None, _) => {}
        }
    }

    /// What people said to an [`Order::Wait`].
    pub(crate) fn resolved(&mut self, arrival: u64, result: Result<Running, Denial>) {
        let Some(Parked::Held(plan)) = self.parked.remove(&arrival) else { return };
        self.is_unblocked = true;
        match result {
            Ok(running) => self.send(plan, running),
            Err(denial) => self.deny(plan, &denial),
        }
    }

    fn send(&mut self, plan: Plan, running: Running) {
        self.buffers.target_out.push(running.permit(), &plan.packet);
        let sent = Sent { awaited: plan.awaited, under: Under::Own(running) };
        self.requests.insert(plan.id, Stage::Sent(sent));
    }

    fn deny(&mut self, plan: Plan, denial: &Denial) {
        self.opening -= usize::from(matches!(plan.awaited, Awaited::Handle(_)));
        let sentence = denial.sentence();
        self.tell_status(plan.id, Status::PERMISSION_DENIED, &sentence);
        self.tell_person(sentence);
    }

    /// OpenSSH's clients show a status in words of their own; its text is for the person all the
    /// same.
    fn tell_person(&mut self, line: String) {
        if self.lines_told < bounds::LINES_TOLD_MAX {
            self.lines_told += 1;
            self.order(Order::Tell(line));
        }
    }

    /// Answers a request in the target's place.
    fn tell_status(&mut self, id: u32, status: Status, text: &str) {
        self.requests.remove(&id);
        let answer = Builder::new(kind::STATUS, id)
            .number(status.0)
            .string(text.as_bytes())
            .string(b"en")
            .into_packet();
        self.buffers.client_out.extend_from_slice(&answer);
    }

    /// Forwards what a handle's permit covers.
    fn use_handle(&mut self, id: u32, handle_id: HandleId, used: Use<'_>) {
        // It was found when this was planned, and nothing happened since.
        let Some(handle) = self.handles.get_mut(handle_id) else { return };
        handle.in_flight += 1;
        let head = std::mem::take(&mut self.head);
        let mut data: &[u8] = &[];
        let (mut head, awaited) = match used {
            Use::Read { offset, length } => (
                head.start(kind::READ, id).string(&handle.target).long(offset).number(length),
                Awaited::Data { offset, length },
            ),
            Use::Write { offset, data: content } => {
                data = content;
                handle.content.passed(Way::Written, offset, content);
                let head = head.start(kind::WRITE, id).string(&handle.target).long(offset);
                (head.number(codec::length_field(content.len())), Awaited::Written)
            }
            Use::Close => {
                handle.is_closing = true;
                (head.start(kind::CLOSE, id).string(&handle.target), Awaited::Closed)
            }
            Use::Entries => {
                (head.start(kind::READDIR, id).string(&handle.target), Awaited::Entries)
            }
            Use::Stat => (head.start(kind::FSTAT, id).string(&handle.target), Awaited::Attributes),
            Use::Sync => {
                let head = head.start(kind::EXTENDED, id).string(b"fsync@openssh.com");
                (head.string(&handle.target), Awaited::Status)
            }
            Use::Set(attributes) => {
                if let Some(size) = attributes.size {
                    handle.content.set_size(size);
                }
                let head = head.start(kind::FSETSTAT, id).string(&handle.target);
                (attributes.write(head), Awaited::Status)
            }
            Use::Statvfs => {
                let head = head.start(kind::EXTENDED, id).string(b"fstatvfs@openssh.com");
                (head.string(&handle.target), Awaited::Extended)
            }
        };
        let permit = handle.running.permit();
        self.buffers.target_out.push(permit, head.head(data.len()));
        self.buffers.target_out.push(permit, data);
        self.head = head;
        let sent = Sent { awaited, under: Under::Handle(handle_id) };
        self.requests.insert(id, Stage::Sent(sent));
    }

    fn must_wait(&self, arrival: u64, subjects: &[Subject]) -> bool {
        self.parked.range(..arrival).any(|(_, earlier)| {
            let earlier = match earlier {
                Parked::Held(plan) => &plan.subjects,
                Parked::Behind { subjects, .. } => subjects,
            };
            subjects.iter().any(|mine| earlier.iter().any(|theirs| mine.must_follow(theirs)))
        })
    }

    fn park_behind(&mut self, arrival: u64, packet: Vec<u8>, subjects: Vec<Subject>) {
        self.parked_bytes += packet.len();
        self.parked.insert(arrival, Parked::Behind { packet, subjects });
    }

    /// Does the first request that waits behind nobody.
    fn take_unblocked(&mut self) {
        let found = self.parked.iter().find_map(|(arrival, parked)| match parked {
            Parked::Behind { subjects, .. } if !self.must_wait(*arrival, subjects) => {
                Some(*arrival)
            }
            Parked::Behind { .. } | Parked::Held(_) => None,
        });
        let Some(arrival) = found else {
            self.is_unblocked = false;
            return;
        };
        let Some(Parked::Behind { packet, .. }) = self.parked.remove(&arrival) else { return };
        self.parked_bytes -= packet.len();
        let Ok((id, request)) = Request::read(&packet) else { return };
        let planned = self.planner().plan(id, &request);
        self.perform(id, arrival, planned);
    }

    /// The client sends no more: nobody waits for what is held.
    pub(crate) fn client_left(&mut self) {
        let arrivals: Vec<u64> = self.parked.keys().copied().collect();
        for arrival in arrivals {
            self.parked.remove(&arrival);
        }
        self.parked_bytes = 0;
    }

    /// Tells the client of every request without an answer why there will be none.
    pub(crate) fn farewell(&mut self, text: &str) {
        let mut left: Vec<u32> = self.requests.keys().copied().collect();
        left.sort_unstable();
        for id in left {
            self.tell_status(id, Status::FAILURE, text);
        }
    }

    /// The channel is over: what is still open is completed as it is, and as cut where the
    /// gateway ended it.
    pub(crate) fn close(&mut self, is_cut: bool) {
        for handle in self.handles.take_all() {
            if is_cut {
                let detail = cut_words(&handle);
                let seq_in_session = handle.running.seq();
                self.order(Order::Note(EventBody::StreamCut { seq_in_session, detail }));
            }
            self.complete_handle(handle, ABORTED.to_owned(), "; not closed");
        }
    }

    pub(crate) fn complete_handle(&mut self, handle: OpenHandle, code: String, how: &str) {
        let bytes = handle.content.bytes();
        let (digest, mut words) = match handle.opening.kind {
            HandleKind::File(_) => handle.content.finish(),
            HandleKind::Directory => (None, "listed".to_owned()),
        };
        words.push_str(how);
        let completion = Completion { code, tag: Some(words), rows: handle.names, bytes, digest };
        self.order(Order::Finish(handle.running, completion));
    }
}

/// As the session's task names statements that were dropped.
const ABORTED: &str = "aborted";

fn cut_words(handle: &OpenHandle) -> String {
    let path = quoted(handle.opening.path.as_str());
    let (read, written) = (handle.content.bytes_read, handle.content.bytes_written);
    match handle.opening.kind {
        HandleKind::Directory => format!("the listing of {path} was cut"),
        HandleKind::File(access) if access.writes() => format!(
            "{path} was cut after {written} bytes were sent and {read} read; the file stays at \
             the target as it is"
        ),
        HandleKind::File(_) => format!("{path} was cut after {read} bytes were read"),
    }
}

fn subjects_of(planned: &Planned<'_>) -> Vec<Subject> {
    match planned {
        Planned::Decide { operation, handles, .. } if handles.is_empty() => operation
            .paths
            .iter()
            .map(|(path, access)| Subject::Path { path: path.clone(), is_changed: access.writes() })
            .collect(),
        Planned::Decide { handles, .. } => handles.iter().copied().map(Subject::Handle).collect(),
        Planned::Use(handle, _) => vec![Subject::Handle(*handle)],
        Planned::Answer(_) | Planned::Refuse(_) => Vec::new(),
    }
}
