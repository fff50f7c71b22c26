//! Traces for people's own tools: spans of runs, sessions and statements, made of the events
//! that are recorded, and sent to a collector by OTLP over HTTP.
//!
//! [`Intake`] is given events where they are recorded and never waits; [`Exporter`] makes spans
//! of them and sends them. What cannot be sent in time is dropped and counted: the record has it.
//! This crate knows events and no protocol: how a protocol's statements are called in traces is
//! in its spec ([`corral_model::trace::TraceNames`]). No text of a statement, no parameter and no
//! reason leaves here.

mod bounds;
mod exporter;
mod ids;
mod note;
mod send;
mod spans;
mod values;

pub use bounds::FLUSH_DEADLINE;
pub use exporter::{Counts, Exporter, Intake, Options};
pub use note::Known;
pub use send::{Collector, CollectorError};
