//! The task that makes spans of events and sends them, and what it is told by.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use corral_model::event::{EventBody, Origin};
use corral_model::trace::TraceNames;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost_otlp::Message;
use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::bounds;
use crate::note::{Known, Note};
use crate::send::{Collector, Delivery};
use crate::spans::Spans;
use crate::values::text;

/// What an export needs to know.
pub struct Options {
    pub collector: Collector,
    /// Of this gateway; `service.instance.id`.
    pub gateway: String,
    pub version: &'static str,
    /// How each protocol's statements are called, by the protocol's id.
    pub names: HashMap<String, TraceNames>,
}

/// What was sent and what was not, since the gateway started.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    queued: AtomicU64,
}

impl Counts {
    /// Spans that a collector took.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that no collector got, and events that no span could be made of.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Spans that wait to be sent now.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    fn drop_some(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// Is given events where they are recorded. Clones share it.
#[derive(Debug, Clone)]
pub struct Intake {
    notes: mpsc::Sender<Note>,
    counts: Arc<Counts>,
    stop: Arc<Notify>,
}

impl Intake {
    /// Takes an event. Never waits: when the queue is full, the event is counted and left out.
    pub fn take(&self, at: OffsetDateTime, origin: &Origin, body: &EventBody) {
        if let Some(note) = Note::of(at, origin, body) {
            self.put(note);
        }
    }

    /// Takes a run that was active before the gateway started.
    pub fn take_known(&self, known: &Known<'_>) {
        self.put(Note::of_known(known));
    }

    fn put(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.counts.drop_some(1);
        }
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Has [`Exporter::run`] send what waits, and end.
    pub fn stop(&self) {
        self.stop.notify_one();
    }
}

/// Makes spans and sends them, until it is stopped.
pub struct Exporter {
    options: Options,
    notes: mpsc::Receiver<Note>,
    counts: Arc<Counts>,
    stop: Arc<Notify>,
    spans: Spans,
    queue: VecDeque<Span>,
    sending: Option<Sending>,
    loss: Loss,
}

/// A batch on its way.
struct Sending {
    count: u64,
    delivery: Pin<Box<dyn Future<Output = Delivery> + Send>>,
}

/// What was lost, as far as it was logged.
struct Loss {
    logged: u64,
    at: Option<Instant>,
    why: &'static str,
}

impl Exporter {
    #[must_use]
    pub fn new(mut options: Options) -> (Self, Intake) {
        let (sender, notes) = mpsc::channel(bounds::NOTES_QUEUED_MAX);
        let (counts, stop) = (Arc::new(Counts::default()), Arc::new(Notify::new()));
        let intake = Intake { notes: sender, counts: counts.clone(), stop: stop.clone() };
        let spans = Spans::new(std::mem::take(&mut options.names));
        let loss = Loss { logged: 0, at: None, why: "too many at once" };
        let (queue, sending) = (VecDeque::new(), None);
        (Self { options, notes, counts, stop, spans, queue, sending, loss }, intake)
    }

    /// Runs until [`Intake::stop`], and then until what waits is sent or given up.
    ///
    /// # Cancel safety
    /// Dropping it loses what waits.
    pub async fn run(mut self) {
        let mut tick = interval(bounds::BATCH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        let mut is_stopping = false;
        let mut is_told_all = false;
        loop {
            let mut is_due = false;
            tokio::select! {
                () = stop.notified(), if !is_stopping => {
                    is_stopping = true;
                    self.notes.close();
                }
                note = self.notes.recv(), if !is_told_all => match note {
                    Some(note) => self.take(note),
                    None => is_told_all = true,
                },
                delivery = delivered(&mut self.sending) => self.delivered(delivery),
                _ = tick.tick() => {
                    is_due = true;
                    self.warn();
                }
            }
            self.send(is_due || is_told_all);
            if is_told_all && self.sending.is_none() {
                return;
            }
        }
    }

    fn take(&mut self, note: Note) {
        let mut ended = Vec::new();
        if self.spans.take(note, &mut ended).is_err() {
            self.counts.drop_some(1);
        }
        for span in ended {
            if self.queue.len() < bounds::SPANS_QUEUED_MAX {
                self.queue.push_back(span);
            } else {
                self.counts.drop_some(1);
            }
        }
        self.counts.queued.store(len(self.queue.len()), Ordering::Relaxed);
    }

    /// Sends the next batch, when it is whole or due and none is on its way.
    fn send(&mut self, is_due: bool) {
        let is_whole = self.queue.len() >= bounds::BATCH_SPANS_MAX;
        if self.sending.is_some() || self.queue.is_empty() || !(is_whole || is_due) {
            return;
        }
        let count = self.queue.len().min(bounds::BATCH_SPANS_MAX);
        let spans: Vec<Span> = self.queue.drain(..count).collect();
        self.counts.queued.store(len(self.queue.len()), Ordering::Relaxed);
        let batch = Bytes::from(request(&self.options, spans).encode_to_vec());
        let delivery = Box::pin(self.options.collector.clone().deliver(batch));
        self.sending = Some(Sending { count: len(count), delivery });
    }

    fn delivered(&mut self, delivery: Delivery) {
        let count = self.sending.take().map_or(0, |sending| sending.count);
        match delivery {
            Delivery::Taken { rejected } => {
                let rejected = rejected.min(count);
                self.counts.exported.fetch_add(count - rejected, Ordering::Relaxed);
                self.counts.drop_some(rejected);
                self.loss.why = if rejected > 0 { "it refuses some" } else { "too many at once" };
            }
            Delivery::Lost(why) => {
                self.counts.drop_some(count);
                self.loss.why = why;
            }
        }
    }

    /// Says once in a while what was lost.
    fn warn(&mut self) {
        let dropped = self.counts.dropped();
        let is_time = self.loss.at.is_none_or(|at| at.elapsed() >= bounds::WARN_INTERVAL);
        if dropped > self.loss.logged && is_time {
            let (lost, why) = (dropped - self.loss.logged, self.loss.why);
            tracing::warn!(lost, dropped, why, "otlp: spans did not reach the collector");
            self.loss.logged = dropped;
            self.loss.at = Some(Instant::now());
        }
    }
}

/// The end of what is on its way; never, when nothing is.
async fn delivered(sending: &mut Option<Sending>) -> Delivery {
    match sending {
        Some(sending) => sending.delivery.as_mut().await,
        None => std::future::pending().await,
    }
}

fn request(options: &Options, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "corral".to_owned(),
        version: options.version.to_owned(),
        ..InstrumentationScope::default()
    };
    let attributes = vec![
        text("service.name", "corral"),
        text("service.version", options.version),
        text("service.instance.id", &options.gateway),
    ];
    let resource = Resource { attributes, ..Resource::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn len(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
