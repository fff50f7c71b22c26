//! Moves one SFTP channel between its two ends, its session and its [`Machine`].

use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use corral_gate::decision::{Denial, DenialKind};
use corral_model::{TraceParent, limits};
use corral_session::scope::BoxFuture;
use corral_session::{Answer, Draft, End, Running, SessionHandle, Usage};
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Sleep, timeout};

use crate::sftp::machine::{Fault, Machine, Order};
use crate::sftp::statement;
use crate::sftp::{bounds, codec, hello};

/// How a channel ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// The client closed its side.
    ClientLeft,
    /// The target closed its side.
    TargetLeft,
    /// The session ended.
    SessionEnded(End),
    /// The client or the target broke the protocol: the channel is to be closed with this.
    Refused(Denial),
}

/// Something that came from one end.
#[derive(Debug)]
pub enum Piece {
    Bytes(Bytes),
    /// Beside the protocol: the target's standard error.
    Aside(Bytes),
    /// Nothing comes after it.
    End,
}

/// One end of a channel.
pub trait Side: Send + Sync {
    /// What came next.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    fn next(&self) -> impl Future<Output = Piece> + Send;

    /// Bytes were taken, and there is room for as many.
    fn taken(&self, count: usize) -> impl Future<Output = ()> + Send;

    /// Sends all of it; false when nobody is there.
    ///
    /// # Cancel safety
    /// A part may have been sent.
    fn send(&self, bytes: Bytes) -> impl Future<Output = bool> + Send;

    /// Says that no more is sent.
    fn end(&self) -> impl Future<Output = ()> + Send;
}

/// The client's end.
pub trait ClientSide: Side {
    /// Tells the client's person something beside the protocol (standard error). What nobody reads
    /// in time is dropped.
    fn tell(&self, bytes: Bytes) -> impl Future<Output = ()> + Send;
}

/// Who opened a channel.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// The account at the target.
    pub account: &'a str,
    /// What the client says of its trace: a claim, kept with every operation.
    pub traceparent: Option<&'a TraceParent>,
}

/// Serves one channel of the subsystem `sftp` to its end. All bytes that pass are counted here.
///
/// # Cancel safety
/// Dropping it leaves what is open to be recorded as aborted, without its bytes.
pub async fn serve<C: ClientSide, T: Side>(
    session: &SessionHandle,
    opener: Opener<'_>,
    client: &C,
    target: &T,
) -> Ending {
    let hello = timeout(limits::TARGET_LOGIN_DEADLINE, hello::ask(target, opener.account));
    let (facts, rest) = tokio::select! {
        biased;
        end = session.ended() => return Ending::SessionEnded(end),
        answer = hello => match answer {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => return blame_target(session, &error.to_string()).await,
            Err(_) => return blame_target(session, "no answer in time").await,
        },
    };
    let mut machine = Machine::new(facts);
    machine.buffers.target_in = rest;
    let traceparent = opener.traceparent.cloned();
    Channel { session, machine, client, target, traceparent, orders: Orders::default() }.run().await
}

/// Records that the target broke the protocol.
async fn blame_target(session: &SessionHandle, what: &str) -> Ending {
    let text = "the target's SFTP server does not answer as one";
    let draft = statement::refused("answer of the target", statement::SFTP, what);
    let denial = match session.decide(draft).await {
        Answer::Deny(denial) => denial,
        Answer::Allow(_) | Answer::Hold(_) => Denial::new(DenialKind::TargetUnavailable, ""),
    };
    Ending::Refused(Denial {
        kind: DenialKind::TargetUnavailable,
        client_text: text.to_owned(),
        internal: Some(what.to_owned()),
        ..denial
    })
}

/// What the session and the two ends work on for a channel.
#[derive(Default)]
struct Orders<'s> {
    deciding: Option<BoxFuture<'s, Answer>>,
    waiting: FuturesUnordered<BoxFuture<'s, (u64, Result<Running, Denial>)>>,
    /// Completions, notes, and words to the client's person.
    recording: FuturesUnordered<BoxFuture<'s, ()>>,
    to_client: Option<BoxFuture<'s, bool>>,
    to_target: Option<BoxFuture<'s, bool>>,
}

struct Channel<'s, C, T> {
    session: &'s SessionHandle,
    machine: Machine,
    client: &'s C,
    target: &'s T,
    traceparent: Option<TraceParent>,
    orders: Orders<'s>,
}

/// What happened next.
enum Step {
    Ended(End),
    Late,
    Decided(Answer),
    Resolved(u64, Result<Running, Denial>),
    Recorded,
    FromClient(Piece),
    FromTarget(Piece),
    /// Whether there was somebody to take it.
    ToClient(bool),
    ToTarget(bool),
}

impl<C: ClientSide, T: Side> Channel<'_, C, T> {
    async fn run(mut self) -> Ending {
        let ending = self.pass().await;
        self.orders.waiting.clear();
        self.orders.deciding = None;
        self.orders.to_target = None;
        let text = match &ending {
            Ending::ClientLeft | Ending::TargetLeft => None,
            Ending::SessionEnded(end) => Some(end.denial.sentence()),
            Ending::Refused(denial) => Some(denial.sentence()),
        };
        self.machine.close(text.is_some());
        if let Some(text) = text {
            self.machine.farewell(&text);
        }
        self.take_orders();
        let Self { mut machine, client, orders, .. } = self;
        let Orders { mut recording, to_client, .. } = orders;
        let record = async { while recording.next().await.is_some() {} };
        let rest = machine.buffers.client_out.split().freeze();
        let tell = async {
            // Behind half a packet nothing can be said.
            let is_heard = match to_client {
                Some(sending) => sending.await,
                None => true,
            };
            if is_heard && !rest.is_empty() {
                client.send(rest).await;
            }
            client.end().await;
        };
        // A client that is gone, or does not read, hears nothing.
        let _ = tokio::join!(record, timeout(bounds::GOODBYE, tell));
        ending
    }

    /// Moves bytes until one side or the session ends.
    async fn pass(&mut self) -> Ending {
        let session = self.session;
        let mut ended = pin!(session.ended());
        let mut late = pin!(OptionFuture::<Sleep>::from(None));
        let (mut is_client_open, mut is_target_open) = (true, true);
        let mut is_target_told = false;
        loop {
            self.machine.handle_target();
            self.machine.handle_client();
            self.take_orders();
            self.send(is_target_open);
            self.machine.shrink_idle();
            match self.machine.fault.take() {
                Some(Fault::Client(denial)) => return Ending::Refused(denial),
                Some(Fault::Target(what)) => return blame_target(session, what).await,
                None => {}
            }
            if !is_target_open && self.orders.to_client.is_none() {
                return if is_client_open { Ending::TargetLeft } else { Ending::ClientLeft };
            }
            let is_sent = self.orders.to_target.is_none() && self.machine.is_drained();
            if !is_client_open && !is_target_told && is_sent {
                is_target_told = true;
                late.set(Some(tokio::time::sleep(bounds::GOODBYE)).into());
                self.target.end().await;
            }
            match self.step(is_client_open, is_target_open, &mut ended, &mut late).await {
                Step::Ended(end) => return Ending::SessionEnded(end),
                Step::Late => return Ending::ClientLeft,
                Step::Decided(answer) => {
                    self.orders.deciding = None;
                    self.machine.answered(answer);
                }
                Step::Resolved(arrival, result) => self.machine.resolved(arrival, result),
                Step::Recorded => {}
                Step::FromClient(Piece::Bytes(bytes)) => {
                    self.client.taken(bytes.len()).await;
                    append(&mut self.machine.buffers.client_in, &bytes);
                }
                Step::FromClient(Piece::Aside(bytes)) => self.client.taken(bytes.len()).await,
                // SFTP servers end with their client: nobody waits for what is held.
                Step::FromClient(Piece::End) => {
                    is_client_open = false;
                    late.set(Some(tokio::time::sleep(bounds::LAST_BYTES)).into());
                    self.machine.client_left();
                    self.orders.waiting.clear();
                }
                Step::FromTarget(Piece::Bytes(bytes)) => {
                    self.target.taken(bytes.len()).await;
                    append(&mut self.machine.buffers.target_in, &bytes);
                }
                Step::FromTarget(Piece::Aside(bytes)) => {
                    self.target.taken(bytes.len()).await;
                    self.orders.recording.push(Box::pin(self.client.tell(bytes)));
                }
                Step::FromTarget(Piece::End) => is_target_open = false,
                Step::ToClient(true) => self.orders.to_client = None,
                Step::ToTarget(true) => self.orders.to_target = None,
                Step::ToClient(false) => {
                    self.orders.to_client = None;
                    return Ending::ClientLeft;
                }
                Step::ToTarget(false) => return Ending::TargetLeft,
            }
        }
    }

    /// Begins to send what is there; more gathers meanwhile.
    fn send(&mut self, is_target_open: bool) {
        let buffers = &mut self.machine.buffers;
        if self.orders.to_client.is_none() && !buffers.client_out.is_empty() {
            let bytes = buffers.client_out.split().freeze();
            let usage = Usage { bytes_to_client: wide(bytes.len()), ..Usage::default() };
            self.session.count(usage);
            self.orders.to_client = Some(Box::pin(self.client.send(bytes)));
        }
        if self.orders.to_target.is_none() && !buffers.target_out.is_empty() && is_target_open {
            let bytes = buffers.target_out.take();
            let usage = Usage { bytes_to_target: wide(bytes.len()), ..Usage::default() };
            self.session.count(usage);
            self.orders.to_target = Some(Box::pin(self.target.send(bytes)));
        }
    }

    /// Waits for what happens next. Reading comes before sending, so that many packets leave at
    /// once; full buffers stop it.
    async fn step(
        &mut self,
        is_client_open: bool,
        is_target_open: bool,
        ended: &mut Pin<&mut impl Future<Output = End>>,
        late: &mut Pin<&mut OptionFuture<Sleep>>,
    ) -> Step {
        let has_room = self.orders.recording.len() < bounds::RECORDING_MAX;
        let reads_client = is_client_open && self.machine.wants_client();
        let reads_target = is_target_open && has_room && self.machine.wants_target();
        tokio::select! {
            biased;
            end = ended => Step::Ended(end),
            Some(()) = late => Step::Late,
            Some(answer) = OptionFuture::from(self.orders.deciding.as_mut()) => {
                Step::Decided(answer)
            }
            Some((arrival, result)) = self.orders.waiting.next() => Step::Resolved(arrival, result),
            Some(()) = self.orders.recording.next() => Step::Recorded,
            piece = self.client.next(), if reads_client => Step::FromClient(piece),
            piece = self.target.next(), if reads_target => Step::FromTarget(piece),
            Some(is_sent) = OptionFuture::from(self.orders.to_target.as_mut()) => {
                Step::ToTarget(is_sent)
            }
            Some(is_sent) = OptionFuture::from(self.orders.to_client.as_mut()) => {
                Step::ToClient(is_sent)
            }
        }
    }

    /// Gives the session what the machine asks of it.
    fn take_orders(&mut self) {
        let session = self.session;
        while let Some(order) = self.machine.poll_order() {
            match order {
                Order::Decide(draft) => {
                    let draft = Draft { traceparent: self.traceparent.clone(), ..draft };
                    self.orders.deciding = Some(Box::pin(session.decide(draft)));
                }
                Order::Wait { arrival, waiting } => {
                    let wait = async move { (arrival, waiting.wait().await) };
                    self.orders.waiting.push(Box::pin(wait));
                }
                Order::Finish(running, completion) => {
                    self.orders.recording.push(Box::pin(running.finish(completion)));
                }
                Order::Note(body) => self.orders.recording.push(Box::pin(session.note(body))),
                Order::Tell(line) => {
                    let bytes = Bytes::from(format!("{line}\n"));
                    self.orders.recording.push(Box::pin(self.client.tell(bytes)));
                }
            }
        }
    }
}

/// Adds to a buffer, which gets room for its first packet at once and keeps it for the next ones.
fn append(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.extend_from_slice(bytes);
    if let Some(missing) = codec::missing(buffer) {
        buffer.reserve(missing);
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
